"""The frames that are chosen from a video, and both decoders: formats, colours, turns, segments and damage."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from counting_video import AV1, EVEN, MIDDLES, SETTINGS, counting, shown

from rbft_plugin.clips import decode
from rbft_plugin.clips.canonical import make_clip, read_frames
from rbft_plugin.clips.video import WHOLE, Clip, Part, VideoError, load_clip
from rbft_plugin.spec.dataset import ClipSettings


def turned(source: Path, target: Path, degrees: int) -> Path:
    """A copy of an mp4 whose header asks the player to turn it clockwise (the matrix in its tkhd box)."""
    a, b = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    content = bytearray(source.read_bytes())
    at = content.index(b"tkhd") + 44
    for offset, value in zip((0, 4, 12, 16), (a, b, -b, a), strict=True):
        content[at + offset : at + offset + 4] = struct.pack(">i", value << 16)
    target.write_bytes(content)
    return target


CLOSE = [19, 20, 21, 39, 40, 41, 59, 78, 79]  # around key frames, and at the end
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


def chosen(video: Path, indices: list[int] | None = None) -> decode.Choice:
    choice = decode.choose(video, SETTINGS, WHOLE)
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
        pyav = np.stack(list(decode.pyav_frames(choice)))
        assert shown(pyav) == indices
        if even and codec != "libaom-av1":
            assert np.array_equal(np.stack(list(decode.decord_frames(choice))), pyav)
    written = make_clip(video, tmp_path / "clip.mp4", SETTINGS)
    frames, clip = load_clip(tmp_path / "clip.mp4")
    assert clip == written == Clip(frames=8, width=56, height=56, fps=1.0)
    assert shown(frames) == pytest.approx(MIDDLES, abs=1)  # encoded once more


@pytest.mark.parametrize(
    ("name", "first", "then"),
    [("a.mp4", "PyAV", "decord"), ("closed.mp4", "PyAV", "decord"), ("vp9.webm", "decord", "PyAV")],
)
def test_the_cheaper_decoder_is_asked_first_and_the_other_where_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, first: str, then: str
) -> None:
    ((_, codec, options, _),) = [row for row in FORMATS if row[0] == name]
    video = counting(tmp_path / name, EVEN, codec, **options)
    decoders = {"decord": decode.decord_frames, "PyAV": decode.pyav_frames}
    asked, fails = [], set[str]()

    def noted(decoder: str, choice: decode.Choice) -> Iterator[np.ndarray]:
        asked.append(decoder)
        if decoder in fails:
            raise RuntimeError("no")
        yield from decoders[decoder](choice)

    monkeypatch.setattr(decode, "decord_frames", partial(noted, "decord"))
    monkeypatch.setattr(decode, "pyav_frames", partial(noted, "PyAV"))
    assert shown(read_frames(video, SETTINGS)[0]) == MIDDLES and asked == [first]
    fails.add(first)
    assert shown(read_frames(video, SETTINGS)[0]) == MIDDLES and asked == [first, first, then]


def test_decord_cannot_read_av1_so_that_these_tests_reach_pyav(tmp_path: Path) -> None:
    video = counting(tmp_path / "av1.mp4", EVEN[:4], "libaom-av1", **AV1)
    with pytest.raises(Exception, match="cannot find video stream"):
        list(decode.decord_frames(chosen(video)))


def test_decord_miscounts_what_is_kept_from_it(tmp_path: Path) -> None:
    """If this fails, a newer decord may be trusted with more."""
    video = counting(tmp_path / "open.mp4", EVEN, "libx264", **FORMATS[6][2])
    choice = chosen(video, CLOSE[:7])
    try:
        wrong = shown(np.stack(list(decode.decord_frames(choice)))) != CLOSE[:7]
    except Exception:  # its own kind
        wrong = True
    assert wrong


def test_decord_repeats_no_frame_for_one_that_it_does_not_get(tmp_path: Path) -> None:
    video = counting(tmp_path / "a.ts", EVEN, "libx264", g="20", bf="2")
    with pytest.raises(Exception, match="received more than 0 duplicate frames"):
        list(decode.decord_frames(chosen(video, MIDDLES)))


@pytest.mark.parametrize("decoder", [decode.decord_frames, decode.pyav_frames])
def test_a_variable_frame_rate_is_sampled_by_time_and_not_by_index(tmp_path: Path, decoder: Any) -> None:
    # Frames 0 to 49 last 40 ms each, frames 50 to 79 last 200 ms each; the end of the last is the container's guess.
    starts = [i * 40 for i in range(50)] + [2000 + i * 200 for i in range(30)]
    choice = chosen(counting(tmp_path / "a.mp4", starts))
    assert 7.8 < choice.duration < 8.0
    middles = [choice.duration * 1000 * (i + 0.5) / 8 for i in range(8)]
    assert shown(np.stack(list(decoder(choice)))) == [
        sum(start <= middle for start in starts) - 1 for middle in middles
    ]


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
    pyav = np.stack(list(decode.pyav_frames(choice)))
    assert np.abs(pyav - colour).max() <= 4
    if choice.track.even:
        assert np.array_equal(np.stack(list(decode.decord_frames(choice))), pyav)
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

    def noting(*args: Any, original: Any = decode._decoded) -> Any:
        for frame in original(*args):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(decode, "_decoded", noting)
    for options, most in (({"g": "80"}, 80), ({"g": "10", "sc_threshold": "0"}, 40)):
        decoded.clear()
        frames = decode.pyav_frames(chosen(counting(tmp_path / "a.mp4", EVEN, bf="0", **options), [5, 41, 79]))
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
    choice = decode.choose(tmp_path / "wide.mp4", ClipSettings(), WHOLE)
    assert (choice.width, choice.height) == (224, 112)


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
