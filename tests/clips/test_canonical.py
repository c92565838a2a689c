"""Canonical clips: sizes, frame counts, the frames taken, the formats read, and what is said of unusable videos."""

from __future__ import annotations

import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from builders import write_video
from hypothesis import assume, given
from hypothesis import strategies as st

from rbft_plugin.clips import decode as decoding
from rbft_plugin.clips.canonical import clip_name, make_clip, read_frames, write_clip
from rbft_plugin.clips.geometry import clip_size, frame_count
from rbft_plugin.clips.video import WHOLE, Clip, Part, VideoError, load_clip, probe
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


def turned(source: Path, target: Path, degrees: int) -> Path:
    """A copy of an mp4 whose header asks the player to turn it clockwise (the matrix in its tkhd box)."""
    a, b = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    content = bytearray(source.read_bytes())
    at = content.index(b"tkhd") + 44
    for offset, value in zip((0, 4, 12, 16), (a, b, -b, a), strict=True):
        content[at + offset : at + offset + 4] = struct.pack(">i", value << 16)
    target.write_bytes(content)
    return target


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


# Frames 0 to 79, ten a second, and the middles of eight equal parts of the eight seconds.
EVEN = [i * 100 for i in range(80)]
MIDDLES = [5, 15, 25, 35, 45, 55, 65, 75]
CLOSE = [19, 20, 21, 39, 40, 41, 59, 78, 79]  # around key frames, and at the end
AV1 = {"cpu-used": "8", "usage": "realtime"}
BEST = {"qmin": "1", "qmax": "2"}
FORMATS: list[tuple[str, str, dict[str, str], bool]] = [  # name, codec, options, whether decord counts its frames right
    ("a.mp4", "libx264", {}, True),
    ("keyframes.mp4", "libx264", {"g": "3", "bf": "2"}, True),
    ("a.mov", "libx264", {"g": "20", "bf": "3"}, True),
    ("a.mkv", "libx264", {}, True),
    ("a.flv", "libx264", {"g": "20", "bf": "2"}, True),
    ("vp9.webm", "libvpx-vp9", {"lag-in-frames": "16", "auto-alt-ref": "1"}, True),
    ("open.mp4", "libx264", {"g": "20", "bf": "3", "flags": "-cgop", "x264-params": "open-gop=1"}, False),
    ("hevc.mp4", "libx265", {"x265-params": "log-level=none:keyint=20"}, False),  # open groups, its default
    ("hevc.mkv", "libx265", {"x265-params": "log-level=none:keyint=20"}, False),
    ("closed.mp4", "libx265", {"x265-params": "log-level=none:keyint=20:open-gop=0"}, True),
    ("a.ts", "libx264", {"g": "20", "bf": "2"}, False),
    ("bframes.mp4", "mpeg4", {"bf": "2"} | BEST, False),
    ("av1.mp4", "libaom-av1", AV1, True),  # which it cannot decode, and says so
    ("av1.mkv", "libaom-av1", AV1, True),
]
AVIS = [("plain.avi", "mpeg4", {"g": "20"} | BEST, False), ("b.avi", "mpeg4", {"bf": "2"} | BEST, False)]
AVIS += [("h264.avi", "libx264", {"g": "20", "bf": "2"}, False)]


def chosen(video: Path, indices: list[int] | None = None) -> decoding.Choice:
    choice = decoding.choose(video, SETTINGS, WHOLE)
    return replace(choice, indices=indices) if indices else choice


@pytest.mark.parametrize(("name", "codec", "options", "even"), FORMATS + AVIS, ids=[f[0] for f in FORMATS + AVIS])
def test_every_format_gives_the_same_frames_and_times(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], even: bool
) -> None:
    avi = name.endswith("avi")
    starts, base = (list(range(80)), Fraction(1, 10)) if avi else (EVEN, Fraction(1, 1000))
    video = counting(tmp_path / name, starts, codec, base, **options)
    frames, duration = read_frames(video, SETTINGS)
    assert shown(frames) == MIDDLES
    assert frames.shape == (8, 56, 56, 3) and frames.dtype == np.uint8
    assert duration == pytest.approx(8.0, abs=0.002)
    for indices in (CLOSE, list(range(80))):  # jumping about, and reading on
        choice = chosen(video, indices)
        assert choice.track.even == even
        pyav = np.stack(list(decoding.pyav_frames(choice)))
        assert shown(pyav) == indices
        if even and codec != "libaom-av1":
            assert np.array_equal(np.stack(list(decoding.decord_frames(choice))), pyav)
    made = make_clip(video, tmp_path / "clip.mp4", SETTINGS)
    frames, clip = load_clip(tmp_path / "clip.mp4")
    assert clip == made == Clip(frames=8, width=56, height=56, fps=1.0)
    assert shown(frames) == pytest.approx(MIDDLES, abs=1)  # encoded once more


@pytest.mark.parametrize(
    ("name", "first", "then"),
    [("a.mp4", "PyAV", "decord"), ("closed.mp4", "PyAV", "decord"), ("vp9.webm", "decord", "PyAV")],
)
def test_the_cheaper_decoder_is_asked_first_and_the_other_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, first: str, then: str
) -> None:
    ((_, codec, options, _),) = [one for one in FORMATS if one[0] == name]
    video = counting(tmp_path / name, EVEN, codec, **options)
    decoders = {"decord": decoding.decord_frames, "PyAV": decoding.pyav_frames}
    asked, fails = [], set[str]()

    def noted(decoder: str, choice: decoding.Choice) -> Iterator[np.ndarray]:
        asked.append(decoder)
        if decoder in fails:
            raise RuntimeError("no")
        yield from decoders[decoder](choice)

    monkeypatch.setattr(decoding, "decord_frames", partial(noted, "decord"))
    monkeypatch.setattr(decoding, "pyav_frames", partial(noted, "PyAV"))
    assert shown(read_frames(video, SETTINGS)[0]) == MIDDLES and asked == [first]
    fails.add(first)
    assert shown(read_frames(video, SETTINGS)[0]) == MIDDLES and asked == [first, first, then]


def test_decord_cannot_read_av1_so_that_these_tests_reach_pyav(tmp_path: Path) -> None:
    video = counting(tmp_path / "av1.mp4", EVEN[:4], "libaom-av1", **AV1)
    with pytest.raises(Exception, match="cannot find video stream"):
        list(decoding.decord_frames(chosen(video)))


def test_decord_miscounts_what_is_kept_from_it(tmp_path: Path) -> None:
    """If this fails, a newer decord may be trusted with more."""
    video = counting(tmp_path / "open.mp4", EVEN, "libx264", **FORMATS[6][2])
    choice = chosen(video, CLOSE[:7])
    try:
        wrong = shown(np.stack(list(decoding.decord_frames(choice)))) != CLOSE[:7]
    except Exception:  # its own kind
        wrong = True
    assert wrong


def test_decord_repeats_no_frame_for_one_that_it_does_not_get(tmp_path: Path) -> None:
    video = counting(tmp_path / "a.ts", EVEN, "libx264", g="20", bf="2")
    with pytest.raises(Exception, match="received more than 0 duplicate frames"):
        list(decoding.decord_frames(chosen(video, MIDDLES)))


@pytest.mark.parametrize("decoder", [decoding.decord_frames, decoding.pyav_frames])
def test_a_variable_frame_rate_is_sampled_by_time_and_not_by_index(tmp_path: Path, decoder: Any) -> None:
    # Frames 0 to 49 last 40 ms each, frames 50 to 79 last 200 ms each; the end of the last is the container's guess.
    starts = [i * 40 for i in range(50)] + [2000 + i * 200 for i in range(30)]
    choice = chosen(counting(tmp_path / "a.mp4", starts))
    assert 7.8 < choice.duration < 8.0
    middles = [choice.duration * 1000 * (i + 0.5) / 8 for i in range(8)]
    assert shown(np.stack(list(decoder(choice)))) == [
        sum(start <= middle for start in starts) - 1 for middle in middles
    ]


def test_frames_that_an_edit_list_hides_are_not_there(tmp_path: Path) -> None:
    whole = counting(tmp_path / "whole.mp4", EVEN, "libx264", g="20", bf="2")
    with av.open(str(whole)) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        shift = round(2.5 / source.streams.video[0].time_base)
        for packet in source.demux(video=0):
            if packet.dts is not None and packet.pts >= shift - shift // 5:  # from the key frame at 2 s
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                target.mux(packet)
    choice = chosen(tmp_path / "cut.mp4")
    frames, duration = read_frames(tmp_path / "cut.mp4", SETTINGS)
    assert (len(choice.track.starts), choice.track.even) == (54, False)  # the list ends with the last one
    assert (shown(frames), duration) == ([28, 35, 41, 48, 55, 62, 68, 75], pytest.approx(5.4, abs=0.02))


def test_a_video_without_its_first_key_frame_begins_with_the_next(tmp_path: Path) -> None:
    whole = counting(tmp_path / "whole.mp4", EVEN, "libx264", g="20")
    with av.open(str(whole)) as source, av.open(str(tmp_path / "cut.ts"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if number >= 5 and packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    frames, duration = read_frames(tmp_path / "cut.ts", SETTINGS)
    assert (shown(frames)[0], shown(frames)[-1], round(duration, 1)) == (23, 76, 6.0)


def test_the_best_stream_is_read_and_no_cover(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for stream, side in zip(streams, (64, 128), strict=True):
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
        for i in range(80):
            for stream, side, grey in zip(streams, (64, 128), (201, STEP * i), strict=True):
                frame = av.VideoFrame.from_ndarray(np.full((side, side, 3), grey, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode())
    best = probe(tmp_path / "two.mkv")
    choice = chosen(tmp_path / "two.mkv")
    assert not choice.track.even  # decord cannot be told which one
    frames, _ = read_frames(tmp_path / "two.mkv", SETTINGS)
    assert shown(frames) == (MIDDLES if best.width == 128 else [67] * 8)


LIMITED, FULL, BT601, BT709, BT2020 = 1, 2, 5, 1, 9
COLOURS = [
    *[
        ("libx264", depth, span, matrix)
        for depth in ("", "10le")
        for span in (LIMITED, FULL)
        for matrix in (BT601, BT709)
    ],
    ("libx265", "10le", LIMITED, BT2020),
]


@pytest.mark.parametrize(("codec", "depth", "span", "matrix"), COLOURS)
def test_colours_are_right_whatever_their_depth_range_and_matrix(
    tmp_path: Path, codec: str, depth: str, span: int, matrix: int
) -> None:
    colour = np.array([200, 40, 90])
    picture = av.VideoFrame.from_ndarray(np.tile(colour.astype(np.uint8), (64, 64, 1)), format="rgb24")
    kind = f"yuv420p{depth}"
    other = BT601 if matrix == BT709 else BT709
    encoded = picture.reformat(
        format=kind, src_colorspace=other, dst_colorspace=matrix, src_color_range=FULL, dst_color_range=span
    )
    encoded.color_range, encoded.colorspace = span, matrix
    video = tmp_path / "a.mp4"
    with av.open(str(video), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"crf": "1", "x265-params": "log-level=none"})
        stream.width = stream.height = 64
        stream.pix_fmt = kind
        stream.codec_context.color_range, stream.codec_context.colorspace = span, matrix
        for i in range(6):
            encoded.pts, encoded.time_base = i, Fraction(1, 10)
            container.mux(stream.encode(encoded))
        container.mux(stream.encode())
    choice = chosen(video, [0, 5])
    pyav = np.stack(list(decoding.pyav_frames(choice)))
    assert np.abs(pyav - colour).max() <= 4
    if choice.track.even:
        assert np.array_equal(np.stack(list(decoding.decord_frames(choice))), pyav)
    make_clip(video, tmp_path / "clip.mp4", SETTINGS)
    assert np.abs(load_clip(tmp_path / "clip.mp4")[0] - colour).max() <= 6


PARTS: list[tuple[Part, list[int], float]] = [
    (Part(2.0, 6.0), [22, 27, 32, 37, 42, 47, 52, 57], 4.0),
    (Part(2.0, None), [23, 31, 38, 46, 53, 61, 68, 76], 6.0),
    (Part(0.0, None, 4.0), [2, 7, 12, 17, 22, 27, 32, 37], 4.0),
    (Part(6.0, 8.4), [62, 67, 72, 77], 2.0),  # annotated times are rounded
    (Part(3.0, 3.25), [30, 31], 0.25),
]


@pytest.mark.parametrize(("part", "expected", "seconds"), PARTS)
@pytest.mark.parametrize("options", [{}, {"g": "7"}])
def test_a_segment_gives_frames_from_within_it_and_its_own_length(
    tmp_path: Path, part: Part, expected: list[int], seconds: float, options: dict[str, str]
) -> None:
    video = counting(tmp_path / "a.mp4", EVEN, **options)
    frames, duration = read_frames(video, SETTINGS, part)
    assert (shown(frames), duration) == (expected, pytest.approx(seconds))
    clip = make_clip(video, tmp_path / "clip.mp4", SETTINGS, part)
    assert clip.frames / clip.fps == pytest.approx(seconds, abs=0.005)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Part(8.0), "lasts 8.00 s, and its segment starts at 8 s"),
        (Part(2.0, 9.5), "lasts 8.00 s, and its segment ends at 9.5 s"),
        (Part(3.0, 2.0), "its segment is empty: from 3 s to 2 s"),
        (Part(0.0, None, 9.0), "its segment is empty: from 0 s to 8.00 s, less 9 s"),
    ],
)
def test_a_segment_outside_the_video_is_refused(tmp_path: Path, part: Part, message: str) -> None:
    video = counting(tmp_path / "a.mp4", EVEN)
    with pytest.raises(VideoError) as error:
        make_clip(video, tmp_path / "clip.mp4", SETTINGS, part)
    assert str(error.value) == message


def test_jumps_are_taken_where_they_spare_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []

    def noting(*args: Any, original: Any = decoding._decoded) -> Any:
        for frame in original(*args):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(decoding, "_decoded", noting)
    for options, most in (({"g": "80"}, 80), ({"g": "10", "sc_threshold": "0"}, 40)):
        decoded.clear()
        frames = decoding.pyav_frames(chosen(counting(tmp_path / "a.mp4", EVEN, bf="0", **options), [5, 41, 79]))
        assert shown(np.stack(list(frames))) == [5, 41, 79]
        assert len(decoded) <= most
    assert len(decoded) < 30  # 6 of the first group, 2 of the fifth, 10 of the last, and what the decoder runs ahead


def test_pixels_that_are_not_square_become_so(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "wide.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=2)
        stream.width = stream.height = 112
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((112, 112, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    choice = decoding.choose(tmp_path / "wide.mp4", ClipSettings(), WHOLE)
    assert (choice.width, choice.height) == (224, 112)


def test_a_video_that_starts_late_is_measured_from_its_first_frame(tmp_path: Path) -> None:
    video = counting(tmp_path / "late.mkv", [5000 + t for t in EVEN])
    frames, duration = read_frames(video, SETTINGS)
    assert (shown(frames), round(duration, 3)) == (MIDDLES, 8.0)


def test_a_long_video_is_thinned_and_a_short_one_repeats_its_frame(tmp_path: Path) -> None:
    long = counting(tmp_path / "long.mp4", [i * 2000 for i in range(60)])
    assert shown(read_frames(long, SETTINGS)[0]) == [3, 11, 18, 25, 33, 40, 47, 55]
    make_clip(long, tmp_path / "clip.mp4", SETTINGS)
    assert probe(tmp_path / "clip.mp4") == Clip(
        8, 56, 56, pytest.approx(8 / 118.1, rel=1e-4)
    )  # the last frame is short
    single = counting(tmp_path / "one.mp4", [0])
    frames, duration = read_frames(single, SETTINGS)
    assert (shown(frames), duration) == ([0, 0], pytest.approx(0.1))
    make_clip(single, tmp_path / "one_clip.mp4", SETTINGS)
    assert probe(tmp_path / "one_clip.mp4") == Clip(2, 56, 56, 20.0)


def test_a_video_of_less_than_a_millisecond_a_frame_still_makes_a_clip(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "flash.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=2000)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    make_clip(tmp_path / "flash.mp4", tmp_path / "clip.mp4", SETTINGS)
    assert probe(tmp_path / "clip.mp4") == Clip(2, 56, 56, 1000.0)


def test_a_source_of_odd_sides_makes_a_clip_near_its_shape(tmp_path: Path) -> None:
    video = counting(tmp_path / "odd.mp4", EVEN, size=(171, 57))
    make_clip(video, tmp_path / "clip.mp4", ClipSettings(frames=8, max_pixels=50_000))
    made, clip = load_clip(tmp_path / "clip.mp4")
    assert (clip.width, clip.height) == (168, 56)
    assert shown(made) == pytest.approx(MIDDLES, abs=1)  # encoded once more


@pytest.mark.parametrize("codec", ["libx264", "libaom-av1"])
@pytest.mark.parametrize(("degrees", "corner"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_pictures_are_turned_as_the_header_asks_by_both_decoders(
    tmp_path: Path, codec: str, degrees: int, corner: tuple[int, int]
) -> None:
    picture = np.zeros((56, 112, 3), np.uint8)
    picture[:28, :56] = 255  # a white corner, top left
    with av.open(str(tmp_path / "flat.mp4"), "w") as container:
        stream = container.add_stream(codec, rate=2, options=AV1 if codec == "libaom-av1" else {})
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv420p"
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    video = turned(tmp_path / "flat.mp4", tmp_path / "turned.mp4", degrees)
    make_clip(video, tmp_path / "clip.mp4", ClipSettings(frames=4, max_pixels=112 * 56))
    frames, clip = load_clip(tmp_path / "clip.mp4")
    assert (clip.width, clip.height) == ((112, 56) if degrees == 180 else (56, 112))
    white = frames[0][::27, ::27].mean(axis=2) > 128
    assert white[corner] and not white[-1 - corner[0], -1 - corner[1]]
    assert 0.2 < (frames[0] > 128).mean() < 0.3


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder of files that are no videos."""
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no video\n")
    (tmp_path / "folder.mp4").mkdir()
    whole = counting(tmp_path / "whole.mp4", EVEN).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: whole.index(b"moov") - 4])  # its index was at its end
    (tmp_path / "cut_later.mp4").write_bytes(whole[: whole.index(b"moov") + 200])
    with av.open(str(tmp_path / "audio.mp4"), "w") as container:
        stream: Any = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    return tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.mp4", "does not exist"),
        ("folder.mp4", "is not a file"),
        ("empty.mp4", "is empty"),
        ("text.mp4", "cannot be opened (Invalid data found when processing input)"),
        ("cut.mp4", "cannot be opened (Invalid data found when processing input)"),
        ("cut_later.mp4", "has no video stream"),
        ("audio.mp4", "has no video stream"),
    ],
)
def test_probe_says_what_is_wrong_with_a_file(broken: Path, name: str, message: str) -> None:
    with pytest.raises(VideoError) as error:
        probe(broken / name)
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["gone.mp4", "empty.mp4", "text.mp4", "cut.mp4", "audio.mp4"])
def test_make_says_the_same_and_leaves_nothing(broken: Path, name: str) -> None:
    with pytest.raises(VideoError) as said:
        probe(broken / name)
    with pytest.raises(VideoError, match=re.escape(str(said.value))):
        make_clip(broken / name, broken / "clips/clip.mp4", SETTINGS)
    assert not (broken / "clips").exists()


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.avi", "a.flv", "fast.mp4"])
def test_a_video_that_is_cut_off_is_noticed_where_its_header_says_its_length(tmp_path: Path, name: str) -> None:
    codec = {"a.webm": "libvpx-vp9", "a.avi": "mpeg4"}.get(name, "libx264")
    fast = {"movflags": "faststart"} if name == "fast.mp4" else {}  # its index is at its start
    with av.open(str(tmp_path / name), "w", options=fast) as container:
        stream = container.add_stream(codec, rate=10, options={"g": "5"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for picture in np.random.default_rng(0).integers(0, 255, (80, 64, 64, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    content = (tmp_path / name).read_bytes()
    assert read_frames(tmp_path / name, SETTINGS)[1] == pytest.approx(8.0, abs=0.2)
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(VideoError) as error:
        make_clip(tmp_path / name, tmp_path / "clip.mp4", SETTINGS)
    seconds = r"is cut off: its header says [78]\.\d s, and it holds [345]\.\d s"
    bytes_ = f"is cut off: its header says {len(content)} bytes, and it has {len(content) // 2}"
    assert re.fullmatch(bytes_ if name == "a.avi" else seconds, str(error.value))
    assert not (tmp_path / "clip.mp4").exists()


def test_a_frame_that_cannot_be_decoded_is_told_by_both_decoders(tmp_path: Path) -> None:
    video = counting(tmp_path / "a.mp4", EVEN, g="1")
    with av.open(str(video)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    content = bytearray(video.read_bytes())
    for position, size in places[30:]:
        content[position : position + size] = b"\0\0\0\1" * (size // 4) + b"\0" * (size % 4)
    video.write_bytes(content)
    with pytest.raises(VideoError, match=r"^cannot be decoded \(PyAV: .+; decord: .+\)$") as error:
        make_clip(video, tmp_path / "clip.mp4", SETTINGS)
    assert "/github/" not in str(error.value)  # where decord was built tells a user nothing
    assert not (tmp_path / "clip.mp4").exists()


@pytest.mark.parametrize("name", ["one.mkv", "one.mp4", "one.ts"])
def test_a_video_of_one_frame_lasts_as_long_as_its_frame_rate_says(tmp_path: Path, name: str) -> None:
    video = counting(tmp_path / name, [0])
    frames, duration = read_frames(video, SETTINGS)
    assert shown(frames) == [0, 0] and 0 < duration <= 0.1


def test_load_refuses_a_clip_that_holds_fewer_frames_than_its_header_says(tmp_path: Path) -> None:
    video = counting(tmp_path / "a.mp4", EVEN)
    make_clip(video, tmp_path / "clip.mp4", SETTINGS)
    with av.open(str(video)) as source, av.open(str(tmp_path / "a.mkv"), "w") as target:  # mkv states no count
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert load_clip(tmp_path / "clip.mp4")[1].frames == 8
    with pytest.raises(VideoError) as error:
        load_clip(tmp_path / "a.mkv")
    assert str(error.value) == "holds 80 frames where its header says 0; delete it and prepare again"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Canonical clips of textured videos of many lengths and rates."""
    folder = tmp_path_factory.mktemp("made")
    paths = []
    for i, (seconds, fps) in enumerate([(1.0, 3), (2.5, 10), (4.0, 24), (7.7, 25), (11.0, 4), (13.3, 30)]):
        video = write_video(folder / f"v{i}.mp4", seconds, fps, seed=i)
        paths.append(folder / f"c{i}.mp4")
        make_clip(video, paths[-1], SETTINGS)
    return paths


def test_pyav_and_decord_return_bit_identical_frames_of_a_clip(made: list[Path]) -> None:
    import decord

    for path in made:
        frames, clip = load_clip(path)
        theirs = decord.VideoReader(str(path))
        assert len(theirs) == clip.frames == len(frames)
        assert np.array_equal(theirs.get_batch(range(len(theirs))).asnumpy(), frames)
        assert frames.std() > 5  # there is something to see


def test_the_frames_of_a_clip_are_those_of_its_source(made: list[Path]) -> None:
    for path in made:
        source, duration = read_frames(path.with_name(path.name.replace("c", "v")), SETTINGS)
        frames, clip = load_clip(path)
        assert np.abs(source.astype(int) - frames).mean() < 5
        assert clip.frames / clip.fps == pytest.approx(duration, abs=len(frames) * 0.0005 + 1e-9)


@pytest.mark.torch
def test_llamafactory_takes_every_frame_and_computes_the_same_rate(made: list[Path]) -> None:
    from llamafactory.data.mm_plugin import Qwen2VLPlugin

    limits = {"image_max_pixels": 200704, "image_min_pixels": 256, "video_fps": 1000, "video_maxlen": 768}
    plugin = Qwen2VLPlugin(image_token=None, video_token="<|video_pad|>", audio_token=None)
    seen = plugin._regularize_videos([str(p) for p in made], **limits)
    for i, path in enumerate(made):
        frames, clip = load_clip(path)
        assert np.array_equal(np.stack([np.asarray(f) for f in seen["videos"][i]]), frames)
        assert seen["fps_per_video"][i] == clip.fps
        assert seen["durations"][i] == pytest.approx(clip.frames / clip.fps, abs=1e-12)
        assert int(2 / clip.fps) >= 1 or clip.frames == 2  # transformers cuts the time step to whole seconds


def test_every_clip_states_its_average_rate_as_frames_over_duration(made: list[Path]) -> None:
    for path in made:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.average_rate is not None and stream.duration is not None and stream.time_base is not None
            assert stream.average_rate == stream.frames / Fraction(stream.duration * stream.time_base)
            assert probe(path).fps == float(stream.average_rate)


@given(st.integers(1000, 100_000), st.integers(1, 1000))
def test_at_two_frames_a_second_no_time_step_is_cut_to_zero(milliseconds: int, available: int) -> None:
    n = frame_count(milliseconds / 1000, available, SETTINGS)
    fps = Fraction(1000, round(milliseconds / n))
    assert int(2 / float(fps)) >= 1


def test_every_frame_of_a_clip_is_a_key_frame(made: list[Path]) -> None:
    with av.open(str(made[-1])) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert [p.is_keyframe for p in container.demux(stream) if p.size] == [True] * 8


def test_the_same_video_gives_the_same_bytes_twice(made: list[Path], tmp_path: Path) -> None:
    make_clip(made[2].with_name("v2.mp4"), tmp_path / "again.mp4", SETTINGS)
    assert (tmp_path / "again.mp4").read_bytes() == made[2].read_bytes()


def test_a_clip_is_named_by_content_and_settings_not_by_path(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"one" * 10**6)
    (tmp_path / "b.mkv").write_bytes(b"one" * 10**6)
    (tmp_path / "c.mp4").write_bytes(b"one" * 10**6 + b"x")
    name = clip_name(tmp_path / "a.mp4", SETTINGS)
    assert len(name) == 24 and name.endswith(".mp4") and int(name[:20], 16)
    assert clip_name(tmp_path / "b.mkv", SETTINGS) == name
    others = {clip_name(tmp_path / "c.mp4", SETTINGS)}
    others |= {
        clip_name(tmp_path / "a.mp4", SETTINGS.model_copy(update=change))
        for change in ({"frames": 6}, {"max_fps": 1.0}, {"max_pixels": 4000}, {"multiple": 14}, {"crf": 19})
    }
    assert len(others | {name}) == 7


def test_a_failed_encoding_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(av.FFmpegError):
        write_clip(tmp_path / "clip.mp4", np.zeros((4, 57, 57, 3), np.uint8), Fraction(2), 18)  # odd sides
    assert list(tmp_path.iterdir()) == []


def test_a_killed_encoding_leaves_no_clip_under_its_name(tmp_path: Path) -> None:
    script = (
        "import numpy as np, sys; from fractions import Fraction; from pathlib import Path;"
        "from rbft_plugin.clips.canonical import write_clip;"
        "noise = np.random.default_rng(0).integers(0, 255, (300, 448, 448, 3), np.uint8);"
        "write_clip(Path(sys.argv[1]), noise, Fraction(2), 1)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "clip.mp4")])
    try:
        deadline = time.monotonic() + 30
        while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (partial,) = tmp_path.iterdir()
    assert re.fullmatch(r"\.clip\.[0-9a-f]{12}\.part\.mp4", partial.name)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (Part(), Part(), True),
        (Part(0, 5), Part(5, 9), False),
        (Part(0, 5), Part(4.9, 9), True),
        (Part(3), Part(0, 3), False),
        (Part(3), Part(0, 4), True),
        (Part(3), Part(5, 6), True),
    ],
)
def test_parts_of_a_video_that_share_a_moment(one: Part, other: Part, shared: bool) -> None:
    assert one.overlaps(other) is other.overlaps(one) is shared
