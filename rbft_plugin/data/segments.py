"""Which part of its video a sample is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from rbft_plugin.clips.video import Part
from rbft_plugin.spec.dataset_sources import Segment


def part(segment: Segment, cells: Mapping[str, str]) -> Part | str:
    """The part that a row's cells mean, or what is wrong with them.

    A trim above 0 drops so many seconds of the end, one below 0 of the start; both count from `end` and `start` where
    these are given too.
    """
    given = {key: cells.get(column, "").strip() for key, column in dict(segment).items() if column}
    times = {key: seconds(text, signed=key == "trim") for key, text in given.items() if text}
    if bad := [f"{key} '{given[key]}'" for key, time in times.items() if time is None]:
        return f"{' and '.join(bad)} (segment): must be seconds or hours:minutes:seconds"
    start, end, trim = times.get("start") or 0.0, times.get("end"), times.get("trim") or 0.0
    found = Part(start + max(0.0, -trim), end, max(0.0, trim))
    if end is not None and end - found.cut <= found.start:
        return f"nothing is left between {found.start:g} s and {end - found.cut:g} s (segment)"
    return found


def seconds(text: str, signed: bool = False) -> float | None:
    """Seconds that 12.5, 1:02 or 0:01:02.5 mean; None if it is no time."""
    sign, text = (-1.0, text[1:]) if signed and text.startswith("-") else (1.0, text)
    if not re.fullmatch(r"(\d+:){0,2}(\d+\.?\d*|\.\d+)", text):
        return None
    *larger, last = [float(number) for number in text.split(":")]
    if any(number >= 60 for number in [*larger, last][1:]):
        return None
    total = sum(number * 60**n for n, number in enumerate([last, *reversed(larger)]))
    return sign * total if math.isfinite(total) else None
