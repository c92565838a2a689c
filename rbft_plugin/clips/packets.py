"""What a video's packets say of its frames, read from the whole file without decoding it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from rbft_plugin.clips.video import HEADED, VideoError, opened

SKIPPING = ("h264", "hevc")  # decoders that leave out just those frames that no other needs
SOUGHT = ("matroska,webm", "mov,mp4", "flv")  # those in which decord jumps to the right place (in AVI it does not)


@dataclass(frozen=True)
class Track:
    """The frames that a video's best stream shows, in the order in which it shows them.

    `starts` are their times in seconds from the first one (float, n), `pts` the same in the stream's units (int, n) or
    None where the container has no times, `keys` the pts of those that decoding can start from. `even` says that
    there is one frame a packet and none that is left out, so that counting packets counts frames; `skips` that the
    decoder can leave out frames that no other needs.
    """

    video: Path
    stream: int
    starts: np.ndarray
    end: float
    pts: np.ndarray | None
    keys: np.ndarray
    even: bool
    skips: bool


def read_track(video: Path) -> Track:
    """What the packets of a video say; raises VideoError if it holds no frame or less than its header promises."""
    with opened(video) as container:
        stream = container.streams.best("video")
        if stream is None:
            raise VideoError("has no video stream")
        packets, last = [], 0.0  # those of the stream; when the last of any stream ends
        try:
            for packet in container.demux():
                if packet.size and packet.dts is not None and packet.time_base is not None:
                    last = max(last, float(((packet.pts or packet.dts) + (packet.duration or 0)) * packet.time_base))
                if packet.size and packet.stream_index == stream.index:
                    packets.append(_Packet.of(packet))
        except av.FFmpegError as error:
            raise VideoError(f"cannot be read to its end ({error.strerror})") from None
        if not packets:
            raise VideoError("holds no frame")
        kind = container.format.name
        if kind == "avi":
            _require_whole_avi(video)
        track = (_counted if kind == "avi" or any(p.pts is None for p in packets) else _timed)(video, stream, packets)
        if len(container.streams.video) > 1 or not kind.startswith(SOUGHT):  # decord cannot be told which stream
            track = replace(track, even=False)
        promised = (container.duration or 0) / av.time_base if kind.startswith(HEADED) else 0.0
    if last and promised - last > max(1.0, 2 * float(np.diff(track.starts).max(initial=0.0))):
        raise VideoError(f"is cut off: its header says {promised:.1f} s, and it holds {last:.1f} s")
    return track


class _Packet(NamedTuple):
    pts: Any  # int, or None
    dts: Any
    length: int
    key: bool
    shown: bool

    @classmethod
    def of(cls, packet: Any) -> _Packet:
        return cls(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, not packet.is_discard)


def _timed(video: Path, stream: Any, packets: list[_Packet]) -> Track:
    base, rate = float(stream.time_base), float(stream.average_rate or 0)
    keys = [p.pts for p in packets if p.key] or [packets[0].pts]
    shown = {p.pts: p.length for p in packets if p.shown and p.pts >= min(keys)}  # what is before cannot be decoded
    if not shown:
        raise VideoError("holds no frame")
    pts = np.array(sorted(shown))
    starts = (pts - pts[0]) * base
    last = shown[int(pts[-1])] or (stream.start_time or 0) + (stream.duration or 0) - int(pts[-1])
    end = float(starts[-1]) + (last * base if last > 0 else 1 / rate if rate else 0.04)
    places = {p: i for i, p in enumerate(pts.tolist())}
    # Frames that are shown before the key frame that they follow (open groups of pictures): decord then miscounts.
    even = len(shown) == len(packets) and all(places[p.pts] == i for i, p in enumerate(packets) if p.key)
    return Track(video, stream.index, starts, end, pts, np.array(keys), even, stream.codec.name in SKIPPING)


def _counted(video: Path, stream: Any, packets: list[_Packet]) -> Track:
    """Of a container that does not say when frames are shown, such as AVI: one after the other, as they are stored."""
    step = 1 / float(stream.average_rate or 25)
    stored = np.array(sorted(p.dts for p in packets if p.dts is not None)) * float(stream.time_base)
    starts = np.arange(len(packets)) * step
    if len(stored) == len(packets) and (np.diff(stored) > 0).all():
        starts = stored - stored[0]
    return Track(video, stream.index, starts, float(starts[-1]) + step, None, np.array([]), even=False, skips=False)


def _require_whole_avi(video: Path) -> None:
    """libav takes the length of a cut AVI from what is left; only its first header says its size."""
    with video.open("rb") as file:
        said = int.from_bytes(file.read(8)[4:], "little") + 8
    if said > (there := video.stat().st_size):
        raise VideoError(f"is cut off: its header says {said} bytes, and it has {there}")
