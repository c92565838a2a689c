"""The times of a video's frames, read from the packets of the whole file without decoding it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from rbft_plugin.clips.video import CONTAINERS_WITH_DURATION, VideoError, open_video

SKIPPING_CODECS = ("h264", "hevc")  # their decoders can leave out exactly the frames that no other frame needs
DECORD_CONTAINERS = ("matroska,webm", "mov,mp4", "flv")  # decord seeks correctly in these (not in AVI)


@dataclass(frozen=True)
class Track:
    """The n frames of a video's best stream, in the order in which they are shown.

    `starts` are their times in seconds from the first one (float, n). `pts` are the same times in the stream's units
    (int, n), or None where the container has no times. `keys` are the pts from which decoding can start, and `end` is
    the end of the last frame in seconds. `even` says that each packet is one shown frame, so that counting packets
    counts frames. `skips` says that the decoder can leave out frames that no other frame needs.
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
    """Read the packets of a video. Raises VideoError if it holds no frame, or less than its header states."""
    with open_video(video) as container:
        stream = container.streams.best("video")
        if stream is None:
            raise VideoError("has no video stream")
        packets, last = [], 0.0  # packets of the best stream; end of the last packet of all streams
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
        format_name = container.format.name
        if format_name == "avi":
            _require_whole_avi(video)
        has_times = format_name != "avi" and all(packet.pts is not None for packet in packets)
        track = (_timed_track if has_times else _counted_track)(video, stream, packets)
        # decord cannot be told which stream to read.
        if len(container.streams.video) > 1 or not format_name.startswith(DECORD_CONTAINERS):
            track = replace(track, even=False)
        stated = (container.duration or 0) / av.time_base if format_name.startswith(CONTAINERS_WITH_DURATION) else 0.0
    if last and stated - last > max(1.0, 2 * float(np.diff(track.starts).max(initial=0.0))):
        raise VideoError(f"is cut off: its header says {stated:.1f} s, and it holds {last:.1f} s")
    return track


class _Packet(NamedTuple):
    pts: Any  # int or None
    dts: Any
    duration: int
    key: bool
    shown: bool

    @classmethod
    def of(cls, packet: Any) -> _Packet:
        return cls(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, not packet.is_discard)


def _timed_track(video: Path, stream: Any, packets: list[_Packet]) -> Track:
    base, rate = float(stream.time_base), float(stream.average_rate or 0)
    keys = [p.pts for p in packets if p.key] or [packets[0].pts]
    shown = {p.pts: p.duration for p in packets if p.shown and p.pts >= min(keys)}  # earlier ones cannot be decoded
    if not shown:
        raise VideoError("holds no frame")
    pts = np.array(sorted(shown))
    starts = (pts - pts[0]) * base
    last = shown[int(pts[-1])] or (stream.start_time or 0) + (stream.duration or 0) - int(pts[-1])
    end = float(starts[-1]) + (last * base if last > 0 else 1 / rate if rate else 0.04)
    places = {p: i for i, p in enumerate(pts.tolist())}
    # In open groups of pictures, frames are shown before the key frame that they follow. decord miscounts these.
    even = len(shown) == len(packets) and all(places[p.pts] == i for i, p in enumerate(packets) if p.key)
    return Track(video, stream.index, starts, end, pts, np.array(keys), even, stream.codec.name in SKIPPING_CODECS)


def _counted_track(video: Path, stream: Any, packets: list[_Packet]) -> Track:
    """The track of a container without presentation times, such as AVI: frames are shown in the order of storage."""
    frame_seconds = 1 / float(stream.average_rate or 25)
    stored = np.array(sorted(p.dts for p in packets if p.dts is not None)) * float(stream.time_base)
    starts = np.arange(len(packets)) * frame_seconds
    if len(stored) == len(packets) and (np.diff(stored) > 0).all():
        starts = stored - stored[0]
    end = float(starts[-1]) + frame_seconds
    return Track(video, stream.index, starts, end, None, np.array([]), even=False, skips=False)


def _require_whole_avi(video: Path) -> None:
    """Raise VideoError for an AVI that is cut off. libav does not notice it; only the RIFF header states the size."""
    with video.open("rb") as file:
        stated = int.from_bytes(file.read(8)[4:], "little") + 8
    if stated > (actual := video.stat().st_size):
        raise VideoError(f"is cut off: its header says {stated} bytes, and it has {actual}")
