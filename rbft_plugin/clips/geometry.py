"""How many frames a canonical clip holds, and how large they are."""

from __future__ import annotations

import math

from rbft_plugin.spec.dataset import ClipSettings


def frame_count(duration: float, available: int, settings: ClipSettings) -> int:
    """How many frames a clip of `duration` seconds holds: even, and at least 2."""
    limit = min(settings.frames, math.floor(duration * settings.max_fps + 1e-6), available)
    return max(2, limit - limit % 2)


def clip_size(width: int, height: int, settings: ClipSettings) -> tuple[int, int]:
    """(width, height) of the clip of a source of this size in pixels.

    It is within the pixel budget, near the shape of the source, and no larger than the source but for rounding. Both
    sides are multiples of `settings.multiple`, and at least twice that: processors enlarge anything smaller.
    """
    unit = settings.multiple
    scale = min(1.0, math.sqrt(settings.max_pixels / (width * height)))
    w, h = (max(2, round(side * scale / unit)) for side in (width, height))
    while w * h * unit * unit > settings.max_pixels:
        too_wide = w * height > h * width
        w, h = (w - 1, h) if (too_wide and w > 2) or h <= 2 else (w, h - 1)
    return w * unit, h * unit
