"""Canonical clips: training and evaluation see the same frames.

Both harnesses choose, resize and time frames in their own ways. A canonical clip leaves them no choice: it holds
exactly the frames that the model sees, at their final size, at a frame rate that keeps their true times. Then no
resize changes a frame, and every decoder returns the same pixels.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from rbft_plugin.clips.video import WHOLE, Clip, Part
from rbft_plugin.spec.dataset import ClipSettings

if TYPE_CHECKING:
    import numpy as np

CLIP_VERSION = 2  # raise it when frames are chosen, resized or encoded in another way: clips then get other names


def settings_key(settings: ClipSettings) -> str:
    """A hash of the settings and of `CLIP_VERSION`, 16 hexadecimal digits."""
    return hashlib.sha256(repr((CLIP_VERSION, sorted(settings.model_dump().items()))).encode()).hexdigest()[:16]


def clip_name(video_sha256: str, settings: ClipSettings, part: Part = WHOLE) -> str:
    """File name of the clip of a part of a video: a hash of the video's content, the settings and the part."""
    key = f"{video_sha256} {settings_key(settings)} {part.start!r} {part.end!r} {part.cut!r}"
    return f"{hashlib.sha256(key.encode()).hexdigest()[:20]}.mp4"


def make_clip(video: Path, target: Path, settings: ClipSettings, part: Part = WHOLE) -> Clip:
    """Write the canonical clip of a part of a video. Raises VideoError if the video cannot be used.

    At any time, memory holds one frame of the source and one of the clip.
    """
    from rbft_plugin.clips import decode

    choice = decode.choose(video, settings, part)
    # A frame lasts whole milliseconds. The container states these exactly, so all readers compute the same frame rate.
    fps = Fraction(1000, max(1, round(1000 * choice.duration / len(choice.indices))))
    decode.with_either_decoder(choice, lambda frames: write_clip(target, frames, fps, settings.crf))
    return Clip(len(choice.indices), choice.width, choice.height, float(fps))


def read_frames(video: Path, settings: ClipSettings, part: Part = WHOLE) -> tuple[np.ndarray, float]:
    """The frames of a clip before encoding, uint8 (n, height, width, 3), and the duration of the part in seconds.

    The part is cut into n equal intervals, and the video shows these frames at their middles. n is even, at least 2,
    and otherwise at most `settings.frames` and at most `settings.max_fps` frames a second.
    """
    import numpy as np

    from rbft_plugin.clips import decode

    choice = decode.choose(video, settings, part)
    return decode.with_either_decoder(choice, lambda frames: np.stack(list(frames))), choice.duration


def write_clip(target: Path, frames: Iterable[np.ndarray], fps: Fraction, crf: int) -> None:
    """Encode uint8 (height, width, 3) frames as an intra-only H.264 clip. The file appears only when it is complete."""
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
