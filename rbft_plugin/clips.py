"""Canonical clips: the one frame contract between training and evaluation.

Both harnesses choose, resize and time frames in their own ways. A canonical clip leaves them no choice: it holds
exactly the frames that a model is to see, at their final size, at a frame rate that keeps their true times. Every
resize is then the identity, and every decoder returns the same pixels.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from rbft_plugin.dataset import ClipSettings


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


WHOLE = Part()


def clip_name(video: Path, settings: ClipSettings) -> str:
    """File name of the video's clip: a hash of its bytes and of the settings."""
    digest = hashlib.sha256(repr(sorted(settings.model_dump().items())).encode())
    with video.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"{digest.hexdigest()[:20]}.mp4"


def make(video: Path, target: Path, settings: ClipSettings) -> None:
    """Write the canonical clip of a video; raises VideoError if the video cannot be read."""
    frames, duration = read_frames(video, settings)
    height, width = frames.shape[1:3]
    size = clip_size(width, height, settings)
    if size != (width, height):
        from PIL import Image

        resized = [Image.fromarray(f).resize(size, Image.Resampling.BICUBIC) for f in frames]
        frames = np.stack([np.asarray(f) for f in resized])
    # Whole milliseconds a frame: exact in the container, so that each reader computes one and the same frame rate.
    write(target, frames, Fraction(1000, max(1, round(1000 * duration / len(frames)))), settings.crf)


def read_frames(video: Path, settings: ClipSettings) -> tuple[np.ndarray, float]:
    """Frames at the middles of equal parts of the video, uint8 (n, height, width, 3), and its duration in seconds.

    n is even, at most `settings.frames`, and at most `settings.max_fps` frames a second, but at least 2.
    """
    try:
        return _read(video, settings, _decord_times, _decord_pick)
    except VideoError:
        raise
    except Exception as first:  # decord raises its own kinds, and not for every codec (AV1)
        try:
            return _read(video, settings, _pyav_times, _pyav_pick)
        except VideoError:
            raise
        except Exception as second:  # both reasons are told
            raise VideoError(f"cannot be decoded (decord: {_brief(first)}; PyAV: {_brief(second)})") from None


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


def write(target: Path, frames: np.ndarray, fps: Fraction, crf: int) -> None:
    """Encode uint8 (n, height, width, 3) frames as an intra-only H.264 clip; the file appears only when complete."""
    import av

    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.stem}.{os.getpid()}.part.mp4")
    options = {"crf": str(crf), "g": "1", "tune": "fastdecode", "threads": "1"}
    try:
        with av.open(str(partial), "w") as container:
            stream = container.add_stream("libx264", rate=fps, options=options)
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def probe(video: Path) -> Clip:
    """Header of a video: what it says of itself. Raises VideoError if it has no readable video stream."""
    import av

    if not video.is_file():
        raise VideoError("is not a file" if video.exists() else "does not exist")
    if video.stat().st_size == 0:
        raise VideoError("is empty")
    try:
        container = av.open(str(video))
    except av.FFmpegError as error:
        raise VideoError(f"cannot be opened ({error.strerror})") from None
    with container:
        stream = next(iter(container.streams.video), None)
        if stream is None:
            raise VideoError("has no video stream")
        duration = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else 0.0
        fps = stream.frames / duration if stream.frames and duration else float(stream.average_rate or 0)
        clip = Clip(stream.frames, stream.width, stream.height, fps)
    return clip


def load(clip: Path) -> tuple[np.ndarray, Clip]:
    """All frames of a canonical clip, uint8 (n, height, width, 3), as training decodes them (PyAV)."""
    import av

    info = probe(clip)
    with av.open(str(clip)) as container:
        frames = np.stack([np.asarray(f.to_image()) for f in container.decode(video=0)])
    if len(frames) != info.frames:
        raise VideoError(f"holds {len(frames)} frames where its header says {info.frames}; delete it and prepare again")
    return frames, info


def _read(video, settings, times_of, pick) -> tuple[np.ndarray, float]:
    """Read by one decoder: `times_of` gives every frame's start and the end of the last, `pick` decodes indices."""
    reader, starts, end = times_of(video)
    duration = end - starts[0]
    if not duration > 0:
        raise VideoError("lasts 0 seconds")
    n = frame_count(duration, len(starts), settings)
    middles = starts[0] + (np.arange(n) + 0.5) / n * duration
    indices = np.clip(np.searchsorted(starts, middles, side="right") - 1, 0, len(starts) - 1)
    return pick(reader, indices), float(duration)


def _decord_times(video: Path):
    import decord

    reader = decord.VideoReader(str(video), num_threads=1)
    spans = reader.get_frame_timestamp(range(len(reader)))  # (frames, 2): start and end in seconds
    starts, end = spans[:, 0], float(spans[-1, 1])
    if not (np.diff(starts) > 0).all():  # containers without times, such as some AVI, have a constant rate
        starts, end = np.arange(len(reader)) / reader.get_avg_fps(), len(reader) / reader.get_avg_fps()
    return reader, starts, end


def _decord_pick(reader, indices: np.ndarray) -> np.ndarray:
    return reader.get_batch(indices.tolist()).asnumpy()


def _pyav_times(video: Path):
    import av

    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        times = sorted((p.pts, p.duration or 0) for p in container.demux(stream) if p.pts is not None)
        base, rate = float(stream.time_base or 0), float(stream.average_rate or 0)
    if not times:
        raise VideoError("holds no frame")
    starts = np.array([start for start, _ in times]) * base
    length = times[-1][1] * base or (1 / rate if rate else 0.0)
    return video, starts, float(starts[-1]) + length


def _pyav_pick(video: Path, indices: np.ndarray) -> np.ndarray:
    import av

    wanted: dict[int, np.ndarray] = {}
    chosen = set(indices.tolist())
    with av.open(str(video)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index in chosen:
                # decord turns pictures as their metadata says, PyAV does not
                wanted[index] = np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))
            if index >= indices[-1]:
                break
    lost = [i for i in indices.tolist() if i not in wanted]
    if lost:
        raise VideoError(f"ends early: frame {lost[0]} cannot be decoded")
    return np.stack([wanted[i] for i in indices.tolist()])


def _brief(error: Exception) -> str:
    lines = [re.sub(r"^\[[\d:]+\] \S+:\d+: ", "", line) for line in str(error).strip().splitlines()]  # decord's source
    return f"{type(error).__name__}: {lines[-1][:120] if lines else ''}".rstrip(": ")
