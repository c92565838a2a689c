"""Videos whose frames say their number: frame i is grey level STEP * i."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from rbft_plugin.spec.dataset import ClipSettings

SETTINGS = ClipSettings(frames=8, max_fps=2, max_pixels=3136, multiple=28)
STEP = 3  # grey levels between a frame of a counting video and the next


def counting(
    path: Path,
    starts: list[int],
    codec: str = "libx264",
    base: Fraction = Fraction(1, 1000),
    size: tuple[int, int] = (64, 64),
    **options: str,
) -> Path:
    """A video whose frame i is all grey level STEP * i and starts at `starts[i]` units of `base`."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv444p" if size[0] % 2 else "yuv420p"
        stream.codec_context.time_base = base
        for i, start in enumerate(starts):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), STEP * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = start, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def shown(frames: np.ndarray) -> list[int]:
    """The indices that frames of a counting video show (scaling makes them up to 2 grey levels darker)."""
    return [round((float(frame.mean()) + 1) / STEP) for frame in frames]


# Frames 0 to 79, ten a second, and the middles of eight equal parts of the eight seconds.
EVEN = [i * 100 for i in range(80)]
MIDDLES = [5, 15, 25, 35, 45, 55, 65, 75]
AV1 = {"cpu-used": "8", "usage": "realtime"}
