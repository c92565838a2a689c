"""Choose frames of a video by their times, and decode them with decord or PyAV, whichever is right and cheaper.

decord finds a frame by counting the packets before it, which is right for most videos. PyAV finds it by its time, and
in H.264 and HEVC leaves out frames that no other frame needs. Both turn a frame as its header asks, and scale it with
the same bilinear filter of libswscale, the frame's colour matrix and its range. Their pixels are the same to the last
bit (tested).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np

from rbft_plugin.clips.geometry import clip_size, frame_count
from rbft_plugin.clips.packets import Track, read_track
from rbft_plugin.clips.video import Part, VideoError, open_video
from rbft_plugin.spec.dataset import ClipSettings

FRAMES_PER_SEEK = 12  # a seek costs about as much as decoding so many frames
T = TypeVar("T")


class _DecoderError(Exception):
    """A decoder failed. An error of the code that uses its frames is another one."""


@dataclass(frozen=True)
class Choice:
    """The frames of a track that a clip holds (repeated where there are too few), and their size when turned.

    `indices` are sorted, and `duration` is that of the part in seconds.
    """

    track: Track
    indices: list[int]
    duration: float
    width: int
    height: int
    turn: int  # degrees, counterclockwise


def choose(video: Path, settings: ClipSettings, part: Part) -> Choice:
    """Choose the frames that are shown at the middles of equal intervals of a part. Raises VideoError."""
    track = read_track(video)
    low, high = window(part, track.end)
    first = max(0, int(np.searchsorted(track.starts, low, side="right")) - 1)
    n = frame_count(high - low, int(np.searchsorted(track.starts, high, side="left")) - first, settings)
    middles = low + (np.arange(n) + 0.5) / n * (high - low)
    indices = np.clip(np.searchsorted(track.starts, middles, side="right") - 1, first, len(track.starts) - 1)
    width, height, turn = _shape(track)
    return Choice(track, indices.tolist(), high - low, *clip_size(width, height, settings), turn)


def with_either_decoder(choice: Choice, use: Callable[[Iterator[np.ndarray]], T]) -> T:
    """Return what `use` makes of the chosen frames, uint8 (height, width, 3).

    If one decoder fails, `use` gets the frames of the other from the start. Raises VideoError if both fail.
    """
    reasons = []
    decoders = [("decord", decord_frames)] if choice.track.even else []
    decoders.insert(0 if choice.track.skips else 1, ("PyAV", pyav_frames))
    for name, frames in decoders:
        try:
            return use(_repeated(choice.indices, frames(choice)))
        except _DecoderError as error:
            reasons.append(f"{name}: {error}")
    raise VideoError(f"cannot be decoded ({'; '.join(reasons)})")


def decord_frames(choice: Choice) -> Iterator[np.ndarray]:
    """Yield each chosen frame once, from decord, which scales as it decodes."""
    import decord

    decord.logging.set_level(decord.logging.FATAL)  # it raises what it logs
    path, size = str(choice.track.video), {"width": choice.width, "height": choice.height}
    # It repeats earlier frames for the last ones that it cannot decode. `fault_tol` allows no such repeat.
    reader = decord.VideoReader(path, num_threads=1, fault_tol=1e-9, **size)
    if len(reader) != len(choice.track.starts):
        raise VideoError(f"{len(reader)} frames where there are {len(choice.track.starts)}")
    for index in sorted(set(choice.indices)):
        yield reader[index].asnumpy()


def pyav_frames(choice: Choice) -> Iterator[np.ndarray]:
    """Yield each chosen frame once, from PyAV. It seeks key frames; after a miss it decodes from the start."""
    track, missing = choice.track, sorted(set(choice.indices))
    for seek in (True, False) if track.pts is not None else (False,):
        for frame in _frames_at(track, missing, seek):
            missing = missing[1:]
            yield _picture(frame, choice)
        if not missing:
            return
    raise VideoError(f"the frame at {track.starts[missing[0]]:.2f} s cannot be decoded")


def window(part: Part, length: float) -> tuple[float, float]:
    """Start and end in seconds of a part of a video that lasts `length` seconds.

    Annotated times are rounded, so a part may end up to a second after the video. Raises VideoError for any other part
    that is not in the video.
    """
    if part.start >= length:
        raise VideoError(f"lasts {length:.2f} s, and its segment starts at {part.start:g} s")
    if part.end is not None and part.end > length + 1:
        raise VideoError(f"lasts {length:.2f} s, and its segment ends at {part.end:g} s")
    high = min(length if part.end is None else part.end, length) - part.cut
    low = max(0.0, part.start)
    if not high > low:
        cut = f", less {part.cut:g} s" if part.cut else ""
        end = f"{part.end:g}" if part.end is not None else f"{length:.2f}"
        raise VideoError(f"its segment is empty: from {low:g} s to {end} s{cut}")
    return low, high


def _shape(track: Track) -> tuple[int, int, int]:
    """(width, height, turn) of the first frame that can be decoded, as shown: turned, with square pixels."""
    with open_video(track.video) as container:
        stream = container.streams[track.stream]
        try:
            frame = next(iter(container.decode(stream)), None)
        except av.FFmpegError as error:
            raise VideoError(f"cannot be decoded (PyAV: {_brief(error)})") from None
        if frame is None:
            raise VideoError("cannot be decoded (PyAV: no frame comes out)")
        width, height, turn = frame.width, frame.height, round(frame.rotation / 90) * 90 % 360
        width = max(1, round(width * (stream.sample_aspect_ratio or 1)))
    return (height, width, turn) if turn % 180 else (width, height, turn)


def _frames_at(track: Track, indices: list[int], seek: bool) -> Iterator[Any]:
    """Yield the frames of sorted indices, up to the first that the decoder does not return."""
    with open_video(track.video) as container:
        stream = container.streams[track.stream]
        stream.thread_type = "NONE"  # several processes read videos at the same time
        if track.pts is None:
            wanted = set(indices)
            yield from (f for i, f in enumerate(container.decode(stream)) if i in wanted)
            return
        times, decoded = track.pts[indices].tolist(), -1  # `decoded`: index of the last frame
        needless = set(track.pts.tolist()).difference(times) if seek and track.skips else set()
        frames = _decoded(container, stream, needless)
        for time, index in zip(times, indices, strict=True):
            key = track.keys[track.keys <= time].max()
            if seek and int(np.searchsorted(track.pts, key)) > decoded + FRAMES_PER_SEEK:
                container.seek(int(key), stream=stream, backward=True)
                frames = _decoded(container, stream, needless)
            frame = next((f for f in frames if f.pts is not None and f.pts >= time), None)
            if frame is None or frame.pts != time:
                return
            decoded = index
            yield frame


def _decoded(container: Any, stream: Any, needless: set[int]) -> Iterator[Any]:
    """Decode on from here. Needless frames are left out, except those that other frames refer to."""
    for packet in container.demux(stream):
        stream.codec_context.skip_frame = "NONREF" if packet.pts in needless else "DEFAULT"
        yield from packet.decode()


def _picture(frame: Any, choice: Choice) -> np.ndarray:
    """The pixels of a frame, scaled and turned: uint8 (height, width, 3)."""
    size = (choice.height, choice.width) if choice.turn % 180 else (choice.width, choice.height)
    # The target's colour matrix means nothing for RGB, but PyAV uses the source's only if both differ.
    matrices = {"src_colorspace": frame.colorspace, "dst_colorspace": 1 if frame.colorspace == 5 else 5}
    scaled = frame.reformat(*size, "rgb24", src_color_range=frame.color_range, interpolation="BILINEAR", **matrices)
    return np.rot90(scaled.to_ndarray(), k=choice.turn // 90)


def _repeated(indices: list[int], frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the frames of sorted indices, each as often as it is named; `frames` yields each once."""
    last, frame = -1, np.empty(0)
    for index in indices:
        if index != last:
            try:
                last, frame = index, next(frames)
            except Exception as error:  # decord has error types of its own, and others for some codecs (AV1)
                raise _DecoderError(_brief(error)) from error
        yield frame


def _brief(error: Exception) -> str:
    """The last line of an error for a message, without the place in decord's source."""
    if isinstance(error, VideoError):
        return str(error)
    lines = [re.sub(r"^.*\d\] \S+:\d+: ", "", line) for line in str(error).strip().splitlines()]
    return f"{type(error).__name__}: {lines[-1][:120] if lines else ''}".rstrip(": ")
