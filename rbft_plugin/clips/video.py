"""A video file as it is on disk: its header, the part of it that is a sample, and the frames of a canonical clip."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

HEADED = ("matroska,webm", "mov,mp4", "avi", "flv", "asf")  # containers whose header says how long they are


class VideoError(Exception):
    """A video that cannot be used; the message says why."""


@dataclass(frozen=True)
class Clip:
    """A canonical clip as it is on disk; `fps` is frames / duration."""

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
        """Whether two parts of one video have a moment in common; what is cut off an end counts as being there."""
        ends = (math.inf if part.end is None else part.end for part in (self, other))
        return max(self.start, other.start) < min(ends)


WHOLE = Part()


def probe(video: Path, estimate: bool = False) -> Clip:
    """Header of a video: what it says of itself. Raises VideoError if it has no readable video stream.

    A number of frames that it does not say (mkv, webm) is 0, or with `estimate` worked out from length and mean rate.
    """
    import av

    with opened(video) as container:
        stream: Any = container.streams.best("video")
        if stream is None:
            raise VideoError("has no video stream")
        if not stream.width or not stream.height:  # a stream that was cut off before its first key frame
            raise VideoError("has no picture that can be decoded near its start")
        rate = float(stream.average_rate or 0)
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        if estimate and not duration and container.format.name.startswith(HEADED):
            duration = (container.duration or 0) / av.time_base
        frames = stream.frames or (round(duration * rate) if estimate else 0)
        clip = Clip(frames, stream.width, stream.height, frames / duration if frames and duration else rate)
    return clip


@contextmanager
def opened(video: Path) -> Iterator[Any]:
    """A video's container; raises VideoError if there is none."""
    import av

    require_file(video)
    try:
        container = av.open(str(video))
    except av.FFmpegError as error:
        raise VideoError(f"cannot be opened ({error.strerror})") from None
    with container:
        yield container


def require_file(video: Path) -> None:
    """Raise VideoError if there is no file, or nothing in it."""
    if not video.is_file():
        raise VideoError("is not a file" if video.exists() else "does not exist")
    if video.stat().st_size == 0:
        raise VideoError("is empty")


def load_clip(clip: Path) -> tuple[np.ndarray, Clip]:
    """All frames of a canonical clip, uint8 (n, height, width, 3), as training decodes them (PyAV)."""
    import av
    import numpy as np

    info = probe(clip)
    with av.open(str(clip)) as container:
        frames = np.stack([np.asarray(f.to_image()) for f in container.decode(video=0)])
    if len(frames) != info.frames:
        raise VideoError(f"holds {len(frames)} frames where its header says {info.frames}; delete it and prepare again")
    return frames, info
