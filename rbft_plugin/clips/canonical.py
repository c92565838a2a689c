"""Canonical clips: the one frame contract between training and evaluation.

Both harnesses choose, resize and time frames in their own ways. A canonical clip leaves them no choice: it holds
exactly the frames that a model is to see, at their final size, at a frame rate that keeps their true times. Every
resize is then the identity, and every decoder returns the same pixels.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from rbft_plugin import files
from rbft_plugin.clips.video import WHOLE, Clip, Part
from rbft_plugin.spec.dataset import ClipSettings

if TYPE_CHECKING:
    import numpy as np

WAY = 2  # of choosing, resizing and encoding frames: part of each clip's name, to be raised when it changes


def settings_key(settings: ClipSettings) -> str:
    """What tells clips of these settings from those of others."""
    return hashlib.sha256(repr((WAY, sorted(settings.model_dump().items()))).encode()).hexdigest()[:16]


def clip_name(video: Path, settings: ClipSettings, part: Part = WHOLE) -> str:
    """File name of the clip of a part of the video: a hash of its bytes, the part and the settings."""
    return name_of(files.sha256(video), settings, part)


def name_of(source: str, settings: ClipSettings, part: Part) -> str:
    """`clip_name` where the hash of the video's bytes is known."""
    key = f"{source} {settings_key(settings)} {part.start!r} {part.end!r} {part.cut!r}"
    return f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.mp4"


def make_clip(video: Path, target: Path, settings: ClipSettings, part: Part = WHOLE) -> Clip:
    """Write the canonical clip of a part of a video; raises VideoError if the video cannot be used.

    Of the source, one full-size frame is held at a time, of the clip one frame too.
    """
    from rbft_plugin.clips import decode

    choice = decode.choose(video, settings, part)
    # Whole milliseconds a frame: exact in the container, so that each reader computes one and the same frame rate.
    fps = Fraction(1000, max(1, round(1000 * choice.duration / len(choice.indices))))
    decode.with_either_decoder(choice, lambda frames: write_clip(target, frames, fps, settings.crf))
    return Clip(len(choice.indices), choice.width, choice.height, float(fps))


def read_frames(video: Path, settings: ClipSettings, part: Part = WHOLE) -> tuple[np.ndarray, float]:
    """The frames of the video's clip before encoding, uint8 (n, height, width, 3), and its duration in seconds.

    They are those shown at the middles of n equal parts of the part; n is even, at most `settings.frames`, and at
    most `settings.max_fps` frames a second, but at least 2.
    """
    import numpy as np

    from rbft_plugin.clips import decode

    choice = decode.choose(video, settings, part)
    return decode.with_either_decoder(choice, lambda frames: np.stack(list(frames))), choice.duration


def write_clip(target: Path, frames: Iterable[np.ndarray], fps: Fraction, crf: int) -> None:
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
