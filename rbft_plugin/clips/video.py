"""Video files on disk: the header of a video, the part that is a sample, and the frames of a canonical clip."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

CONTAINERS_WITH_DURATION = ("matroska,webm", "mov,mp4", "avi", "flv", "asf")  # their headers state it


class VideoError(Exception):
    """A video that cannot be used; the message says why."""


@dataclass(frozen=True)
class Clip:
    """Frames, size in pixels and rate of a canonical clip or another video. `fps` is frames / duration."""

    frames: int
    width: int
    height: int
    fps: float


@dataclass(frozen=True)
class Part:
    """The part of a video that is the sample, in seconds: from `start` to `end`, less `cut` at its end."""

    start: float = 0.0
    end: float | None = None
    cut: float = 0.0

    def overlaps(self, other: Part) -> bool:
        """Whether two parts of one video overlap in time. What is cut off at an end counts too."""
        ends = (math.inf if part.end is None else part.end for part in (self, other))
        return max(self.start, other.start) < min(ends)


WHOLE = Part()


def probe(video: Path, estimate: bool = False) -> Clip:
    """Frames, size and rate from the header of a video. Raises VideoError if it has no readable video stream.

    Some headers (mkv, webm) do not state the number of frames. It is then 0, or with `estimate` the duration times the
    mean frame rate.
    """
    import av

    with open_video(video) as container:
        stream: Any = container.streams.best("video")
        if stream is None:
            raise VideoError("has no video stream")
        if not stream.width or not stream.height:  # a stream that was cut off before its first key frame
            raise VideoError("has no picture that can be decoded near its start")
        rate = float(stream.average_rate or 0)
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        if estimate and not duration and container.format.name.startswith(CONTAINERS_WITH_DURATION):
            duration = (container.duration or 0) / av.time_base
        frames = stream.frames or (round(duration * rate) if estimate else 0)
        clip = Clip(frames, stream.width, stream.height, frames / duration if frames and duration else rate)
    return clip


@contextmanager
def open_video(video: Path) -> Iterator[Any]:
    """The container of a video, as PyAV reads it. Raises VideoError if it cannot be opened."""
    import av

    require_file(video)
    try:
        container = av.open(str(video))
    except av.FFmpegError as error:
        raise VideoError(f"cannot be opened ({error.strerror})") from None
    with container:
        yield container


def require_file(video: Path) -> None:
    """Raise VideoError if there is no file or if it is empty."""
    if not video.is_file():
        raise VideoError("is not a file" if video.exists() else "does not exist")
    if video.stat().st_size == 0:
        raise VideoError("is empty")


def load_clip(clip: Path) -> tuple[np.ndarray, Clip]:
    """All frames of a canonical clip, uint8 (n, height, width, 3), as training decodes them (PyAV), and its header.

    Raises VideoError if it cannot be read, or holds another number of frames than its header states.
    """
    import av
    import numpy as np

    header = probe(clip)
    with av.open(str(clip)) as container:
        frames = np.stack([np.asarray(frame.to_image()) for frame in container.decode(video=0)])
    if len(frames) != header.frames:
        text = f"holds {len(frames)} frames where its header says {header.frames}; delete it and prepare again"
        raise VideoError(text)
    return frames, header
