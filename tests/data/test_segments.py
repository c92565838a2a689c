"""segments: which part of a video a row means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbft_plugin.clips.video import WHOLE, Part
from rbft_plugin.data.segments import part, seconds
from rbft_plugin.spec.dataset_sources import Segment

ALL = Segment(start="s", end="e", trim="t")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("0", 0), ("12", 12), ("12.5", 12.5), ("90", 90), (".5", 0.5), ("3.", 3)),
        *(("1:02", 62), ("01:02.5", 62.5), ("0:00", 0), ("1:00:00", 3600), ("1:01:01.25", 3661.25), ("90:00", 5400)),
    ],
)
def test_times_are_seconds_or_have_colons(text: str, value: float) -> None:
    assert seconds(text) == value
    assert seconds(f"-{text}") is None
    assert seconds(f"-{text}", signed=True) == -value


@pytest.mark.parametrize(
    "text", ["", "x", "nan", "inf", "1e3", "1:60", "1:2:3:4", "1:", ":1", "1.5:00", "1,5", "9" * 400]
)
def test_other_text_is_no_time(text: str) -> None:
    assert seconds(text) is None


@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 59))
def test_hours_minutes_and_seconds_add_up(hours: int, minutes: int, second: int) -> None:
    assert seconds(f"{hours}:{minutes:02}:{second:02}") == 3600 * hours + 60 * minutes + second


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({}, WHOLE),
        ({"s": "", "e": " ", "t": "0"}, WHOLE),
        ({"s": "2.5", "e": "1:00"}, Part(2.5, 60.0)),
        ({"t": "20"}, Part(0.0, None, 20.0)),  # SmartHome-Bench: above 0 drops the end
        ({"t": "-6"}, Part(6.0)),  # below 0 the start
        ({"s": "1", "e": "9", "t": "-2"}, Part(3.0, 9.0)),
        ({"s": "1", "e": "9", "t": "2"}, Part(1.0, 9.0, 2.0)),
        ({"s": "9", "e": "9"}, "nothing is left between 9 s and 9 s (segment)"),
        ({"e": "5", "t": "5"}, "nothing is left between 0 s and 0 s (segment)"),
        ({"s": "-1", "t": "a"}, "start '-1' and trim 'a' (segment): must be seconds or hours:minutes:seconds"),
    ],
)
def test_cells_mean_a_part_or_are_said_to_be_wrong(cells: dict[str, str], expected: Part | str) -> None:
    assert part(ALL, cells) == expected


def test_without_columns_a_sample_is_its_whole_video() -> None:
    assert part(Segment(), {"start": "1"}) == WHOLE
