"""Sizes and frame counts of canonical clips."""

from __future__ import annotations

from fractions import Fraction

import pytest
from counting_video import SETTINGS
from hypothesis import assume, given
from hypothesis import strategies as st

from rbft_plugin.clips.geometry import clip_size, frame_count
from rbft_plugin.spec.dataset import ClipSettings


@st.composite
def clip_settings(draw: st.DrawFn) -> ClipSettings:
    multiple = draw(st.sampled_from([2, 14, 28, 32, 56]))
    least = max(784, (2 * multiple) ** 2)
    return ClipSettings(
        frames=draw(st.integers(1, 384)) * 2,
        max_fps=draw(st.floats(0.1, 30)),
        max_pixels=draw(st.integers(least, 2_000_000)),
        multiple=multiple,
    )


SIDES = st.integers(1, 8000)


@given(SIDES, SIDES, clip_settings())
def test_a_clip_is_within_its_budget_in_whole_units(width: int, height: int, settings: ClipSettings) -> None:
    w, h = clip_size(width, height, settings)
    assert w * h <= settings.max_pixels
    assert w % settings.multiple == 0 and h % settings.multiple == 0
    assert w % 2 == 0 and h % 2 == 0
    assert min(w, h) >= 2 * settings.multiple


@given(SIDES, SIDES, clip_settings())
def test_a_clip_is_never_larger_than_its_source_but_for_rounding(
    width: int, height: int, settings: ClipSettings
) -> None:
    unit = settings.multiple
    w, h = clip_size(width, height, settings)
    assert w <= max(2 * unit, width + unit / 2)
    assert h <= max(2 * unit, height + unit / 2)


@given(SIDES, SIDES, clip_settings())
def test_a_clip_keeps_the_shape_of_its_source_to_a_unit_and_a_half(
    width: int, height: int, settings: ClipSettings
) -> None:
    scale = min(1.0, (settings.max_pixels / (width * height)) ** 0.5) / settings.multiple
    assume(min(width, height) * scale >= 2)  # else the least size that processors keep decides
    w, h = clip_size(width, height, settings)
    assert abs(w / settings.multiple - width * scale) <= 1.5
    assert abs(h / settings.multiple - height * scale) <= 1.5


@given(st.integers(2, 60), st.integers(2, 60), clip_settings())
def test_a_source_that_fits_keeps_its_size(columns: int, rows: int, settings: ClipSettings) -> None:
    size = columns * settings.multiple, rows * settings.multiple
    assume(size[0] * size[1] <= settings.max_pixels)
    assert clip_size(*size, settings) == size


@pytest.mark.parametrize(
    ("source", "expected"),
    [((1920, 1080), (588, 336)), ((1080, 1920), (336, 588)), ((640, 480), (504, 392)), ((64, 64), (56, 56))],
)
def test_sizes_of_common_sources_under_the_default_budget(source: tuple[int, int], expected: tuple[int, int]) -> None:
    assert clip_size(*source, ClipSettings()) == expected


def test_a_very_wide_source_becomes_as_wide_as_the_budget_allows() -> None:
    assert clip_size(4000, 10, SETTINGS) == (56, 56)
    assert clip_size(4000, 10, ClipSettings(max_pixels=56 * 560)) == (560, 56)


@given(st.floats(0.001, 1e5), st.integers(1, 10**6), clip_settings())
def test_the_frame_count_is_the_largest_even_one_allowed(
    duration: float, available: int, settings: ClipSettings
) -> None:
    n = frame_count(duration, available, settings)
    limits = (settings.frames, duration * settings.max_fps + 1e-6, available)
    assert n >= 2 and n % 2 == 0
    assert n == 2 or n <= min(limits)
    assert n + 2 > min(limits)


@pytest.mark.parametrize(
    ("duration", "available", "expected"),
    [(4, 100, 8), (3.999999999, 100, 8), (3.9, 100, 6), (100, 100, 8), (100, 5, 4), (0.1, 100, 2), (100, 1, 2)],
)
def test_frame_counts(duration: float, available: int, expected: int) -> None:
    assert frame_count(duration, available, SETTINGS) == expected


@given(st.integers(1000, 100_000), st.integers(1, 1000))
def test_at_two_frames_a_second_no_time_step_is_cut_to_zero(milliseconds: int, available: int) -> None:
    n = frame_count(milliseconds / 1000, available, SETTINGS)
    fps = Fraction(1000, round(milliseconds / n))
    assert int(2 / float(fps)) >= 1
