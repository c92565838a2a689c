"""Reading the wanted frames of any video by decord or PyAV, whichever is right and cheaper; both give one picture.

What a video's packets say of its frames is read first, with PyAV, from the whole file but without decoding. Frames are
then chosen by their times. decord finds a frame by counting the packets before it, which is right for most videos; PyAV
finds it by its time, and in H.264 and HEVC leaves out frames that no other needs. Both turn a frame as its header
asks and scale it with the same bilinear filter of libswscale, told the frame's colour matrix and range: to the last bit
the same pixels (tested).
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
from rbft_plugin.clips.video import Part, VideoError, opened
from rbft_plugin.spec.dataset import ClipSettings

SEEK_PAST = 12  # frames that are rather decoded than jumped over: a jump costs about that
T = TypeVar("T")


class _UndecodableError(Exception):
    """One decoder's failure, apart from those of what is done with its frames."""


@dataclass(frozen=True)
class Choice:
    """Which frames of a track a clip holds (with repeats if there are too few), and their size when turned."""

    track: Track
    indices: list[int]
    duration: float
    width: int
    height: int
    turn: int  # degrees, counterclockwise


def choose(video: Path, settings: ClipSettings, part: Part) -> Choice:
    """The frames shown at the middles of equal parts of the part of the video that is the sample."""
    track = read_track(video)
    low, high = window(part, track.end)
    first = max(0, int(np.searchsorted(track.starts, low, side="right")) - 1)
    n = frame_count(high - low, int(np.searchsorted(track.starts, high, side="left")) - first, settings)
    middles = low + (np.arange(n) + 0.5) / n * (high - low)
    indices = np.clip(np.searchsorted(track.starts, middles, side="right") - 1, first, len(track.starts) - 1)
    width, height, turn = _shape(track)
    return Choice(track, indices.tolist(), high - low, *clip_size(width, height, settings), turn)


def with_either_decoder(choice: Choice, use: Callable[[Iterator[np.ndarray]], T]) -> T:
    """What `use` makes of the frames, uint8 (height, width, 3); if one decoder fails, of the other's from the start."""
    reasons = []
    decoders = [("decord", decord_frames)] if choice.track.even else []
    decoders.insert(0 if choice.track.skips else 1, ("PyAV", pyav_frames))
    for name, frames in decoders:
        try:
            return use(_repeated(choice.indices, frames(choice)))
        except _UndecodableError as error:
            reasons.append(f"{name}: {error}")
    raise VideoError(f"cannot be decoded ({'; '.join(reasons)})")


def decord_frames(choice: Choice) -> Iterator[np.ndarray]:
    """Each chosen frame once, by decord, which scales as it decodes."""
    import decord

    decord.logging.set_level(decord.logging.FATAL)  # what is wrong is raised as well
    path, size = str(choice.track.video), {"width": choice.width, "height": choice.height}
    # It repeats earlier frames for the last ones that it cannot decode: not once, here.
    reader = decord.VideoReader(path, num_threads=1, fault_tol=1e-9, **size)
    if len(reader) != len(choice.track.starts):
        raise VideoError(f"{len(reader)} frames where there are {len(choice.track.starts)}")
    for index in sorted(set(choice.indices)):
        yield reader[index].asnumpy()


def pyav_frames(choice: Choice) -> Iterator[np.ndarray]:
    """Each chosen frame once, by PyAV: jumping to key frames, and reading on from the start where that misses one."""
    track, left = choice.track, sorted(set(choice.indices))
    for jump in (True, False) if track.pts is not None else (False,):
        for frame in _found(track, left, jump):
            left = left[1:]
            yield _picture(frame, choice)
        if not left:
            return
    raise VideoError(f"the frame at {track.starts[left[0]]:.2f} s cannot be decoded")


def window(part: Part, length: float) -> tuple[float, float]:
    """Start and end of a part of a video that lasts `length` seconds; it may end a second late, as rounded times do."""
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
    """Width and height as shown (turned, with square pixels), and the turn; of the first frame that can be decoded."""
    with opened(track.video) as container:
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


def _found(track: Track, left: list[int], jump: bool) -> Iterator[Any]:
    """The frames `left` of a track, in order, up to the first that does not come."""
    with opened(track.video) as container:
        stream = container.streams[track.stream]
        stream.thread_type = "NONE"  # videos are read side by side
        if track.pts is None:
            wanted = set(left)
            yield from (f for i, f in enumerate(container.decode(stream)) if i in wanted)
            return
        wanted, at = track.pts[left].tolist(), -1  # `at`: index of the frame decoded last
        needless = set(track.pts.tolist()).difference(wanted) if jump and track.skips else set()
        frames = _decoded(container, stream, needless)
        for place, index in zip(wanted, left, strict=True):
            key = track.keys[track.keys <= place].max()
            if jump and int(np.searchsorted(track.pts, key)) > at + SEEK_PAST:
                container.seek(int(key), stream=stream, backward=True)
                frames = _decoded(container, stream, needless)
            frame = next((f for f in frames if f.pts is not None and f.pts >= place), None)
            if frame is None or frame.pts != place:
                return
            at = index
            yield frame


def _decoded(container: Any, stream: Any, needless: set[int]) -> Iterator[Any]:
    """Decode on; of the needless frames, those that others refer to are decoded too."""
    for packet in container.demux(stream):
        stream.codec_context.skip_frame = "NONREF" if packet.pts in needless else "DEFAULT"
        yield from packet.decode()


def _picture(frame: Any, choice: Choice) -> np.ndarray:
    size = (choice.height, choice.width) if choice.turn % 180 else (choice.width, choice.height)
    matrix = frame.colorspace
    small = frame.reformat(
        *size,
        "rgb24",
        src_colorspace=matrix,
        dst_colorspace=1
        if matrix == 5
        else 5,  # means nothing for RGB, but PyAV heeds the source's only if they differ
        src_color_range=frame.color_range,
        interpolation="BILINEAR",
    )
    return np.rot90(small.to_ndarray(), k=choice.turn // 90)


def _repeated(indices: list[int], frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Frames of sorted indices, of which `frames` gives each once."""
    last, frame = -1, np.empty(0)
    for index in indices:
        if index != last:
            try:
                last, frame = index, next(frames)
            except Exception as error:  # decord raises its own kinds, and not for every codec (AV1)
                raise _UndecodableError(_brief(error)) from error
        yield frame


def _brief(error: Exception) -> str:
    if isinstance(error, VideoError):
        return str(error)
    lines = [re.sub(r"^.*\d\] \S+:\d+: ", "", line) for line in str(error).strip().splitlines()]  # decord's source
    return f"{type(error).__name__}: {lines[-1][:120] if lines else ''}".rstrip(": ")
