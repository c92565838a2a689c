"""Finds out which part of its video a sample is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from rbft_plugin.clips.video import Part
from rbft_plugin.spec.dataset_sources import Segment


def part(segment: Segment, cells: Mapping[str, str]) -> Part | str:
    """The part that the cells of a row describe, or what is wrong with them.

    A positive trim drops so many seconds from the end of the part, a negative one from its start.
    """
    texts = {key: cells.get(column, "").strip() for key, column in dict(segment).items() if column}
    times = {key: seconds(text, signed=key == "trim") for key, text in texts.items() if text}
    if bad := [f"{key} '{texts[key]}'" for key, time in times.items() if time is None]:
        return f"{' and '.join(bad)} (segment): must be seconds or hours:minutes:seconds"
    start, end, trim = times.get("start") or 0.0, times.get("end"), times.get("trim") or 0.0
    part = Part(start + max(0.0, -trim), end, max(0.0, trim))
    if end is not None and end - part.cut <= part.start:
        return f"nothing is left between {part.start:g} s and {end - part.cut:g} s (segment)"
    return part


def seconds(text: str, signed: bool = False) -> float | None:
    """The seconds of a time such as 12.5, 1:02 or 0:01:02.5, or None if the text is no time."""
    sign, text = (-1.0, text[1:]) if signed and text.startswith("-") else (1.0, text)
    if not re.fullmatch(r"(\d+:){0,2}(\d+\.?\d*|\.\d+)", text):
        return None
    *larger, last = [float(number) for number in text.split(":")]
    if any(number >= 60 for number in [*larger, last][1:]):
        return None
    total = sum(number * 60**n for n, number in enumerate([last, *reversed(larger)]))
    return sign * total if math.isfinite(total) else None
