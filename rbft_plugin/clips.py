"""Canonical clips: the one frame contract between training and evaluation.

Both harnesses choose, resize and time frames in their own ways. A canonical clip leaves them no choice: it holds
exactly the frames that a model is to see, at their final size, at a frame rate that keeps their true times. Every
resize is then the identity, and every decoder returns the same pixels.
"""

from __future__ import annotations

import hashlib
import math
import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rbft_plugin.dataset import ClipSettings

if TYPE_CHECKING:
    import numpy as np

HEADED = ("matroska,webm", "mov,mp4", "avi", "flv", "asf")  # containers whose header says how long they are
WAY = 2  # of choosing, resizing and encoding frames: part of each clip's name, to be raised when it changes


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


def source_hash(video: Path) -> str:
    """Hash of the video's bytes."""
    digest = hashlib.sha256()
    with video.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def settings_key(settings: ClipSettings) -> str:
    """What tells clips of these settings from those of others."""
    return hashlib.sha256(repr((WAY, sorted(settings.model_dump().items()))).encode()).hexdigest()[:16]


def clip_name(video: Path, settings: ClipSettings, part: Part = WHOLE) -> str:
    """File name of the clip of a part of the video: a hash of its bytes, the part and the settings."""
    return name_of(source_hash(video), settings, part)


def name_of(source: str, settings: ClipSettings, part: Part) -> str:
    """`clip_name` where the hash of the video's bytes is known."""
    key = f"{source} {settings_key(settings)} {part.start!r} {part.end!r} {part.cut!r}"
    return f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.mp4"


def make(video: Path, target: Path, settings: ClipSettings, part: Part = WHOLE) -> Clip:
    """Write the canonical clip of a part of a video; raises VideoError if the video cannot be used.

    Of the source, one full-size frame is held at a time, of the clip one frame too.
    """
    from rbft_plugin import decoding

    choice = decoding.choose(video, settings, part)
    # Whole milliseconds a frame: exact in the container, so that each reader computes one and the same frame rate.
    fps = Fraction(1000, max(1, round(1000 * choice.duration / len(choice.indices))))
    decoding.with_either_decoder(choice, lambda frames: write(target, frames, fps, settings.crf))
    return Clip(len(choice.indices), choice.width, choice.height, float(fps))


def read_frames(video: Path, settings: ClipSettings, part: Part = WHOLE) -> tuple[np.ndarray, float]:
    """The frames of the video's clip before encoding, uint8 (n, height, width, 3), and its duration in seconds.

    They are those shown at the middles of n equal parts of the part; n is even, at most `settings.frames`, and at
    most `settings.max_fps` frames a second, but at least 2.
    """
    import numpy as np

    from rbft_plugin import decoding

    choice = decoding.choose(video, settings, part)
    return decoding.with_either_decoder(choice, lambda frames: np.stack(list(frames))), choice.duration


def frame_count(duration: float, available: int, settings: ClipSettings) -> int:
    """How many frames a clip of `duration` seconds holds: even, and at least 2."""
    most = min(settings.frames, math.floor(duration * settings.max_fps + 1e-6), available)
    return max(2, most - most % 2)


def clip_size(width: int, height: int, settings: ClipSettings) -> tuple[int, int]:
    """(width, height) of the clip: within the pixel budget, near the source's shape, never larger than it but for
    rounding; both sides multiples of `settings.multiple`, and at least twice that, the least that processors keep.
    """
    unit = settings.multiple
    scale = min(1.0, math.sqrt(settings.max_pixels / (width * height)))
    w, h = (max(2, round(side * scale / unit)) for side in (width, height))
    while w * h * unit * unit > settings.max_pixels:
        too_wide = w * height > h * width
        w, h = (w - 1, h) if (too_wide and w > 2) or h <= 2 else (w, h - 1)
    return w * unit, h * unit


def write(target: Path, frames: Iterable[np.ndarray], fps: Fraction, crf: int) -> None:
    """Encode uint8 (height, width, 3) frames as an intra-only H.264 clip; the file appears only when complete."""
    import av
    import numpy as np

    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:12]}.part.mp4")  # machines may share the folder
    options = {"crf": str(crf), "g": "1", "tune": "fastdecode", "threads": "1"}
    try:
        with av.open(str(partial), "w") as container:
            stream = container.add_stream("libx264", rate=fps, options=options)
            stream.pix_fmt = "yuv420p"
            for index, frame in enumerate(frames):
                if index == 0:
                    stream.height, stream.width = frame.shape[:2]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


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


def load(clip: Path) -> tuple[np.ndarray, Clip]:
    """All frames of a canonical clip, uint8 (n, height, width, 3), as training decodes them (PyAV)."""
    import av
    import numpy as np

    info = probe(clip)
    with av.open(str(clip)) as container:
        frames = np.stack([np.asarray(f.to_image()) for f in container.decode(video=0)])
    if len(frames) != info.frames:
        raise VideoError(f"holds {len(frames)} frames where its header says {info.frames}; delete it and prepare again")
    return frames, info
