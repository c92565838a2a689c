"""Canonical clips: sizes, frame counts, the frames taken, the formats read, and what is said of unusable videos."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import write_video
from hypothesis import assume, given
from hypothesis import strategies as st

from rbft_plugin import clips
from rbft_plugin.clips import Clip, VideoError
from rbft_plugin.dataset import ClipSettings

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
    """The indices that frames of a counting video show."""
    return [round(float(frame.mean()) / STEP) for frame in frames]


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
    w, h = clips.clip_size(width, height, settings)
    assert w * h <= settings.max_pixels
    assert w % settings.multiple == 0 and h % settings.multiple == 0
    assert w % 2 == 0 and h % 2 == 0
    assert min(w, h) >= 2 * settings.multiple


@given(SIDES, SIDES, clip_settings())
def test_a_clip_is_never_larger_than_its_source_but_for_rounding(
    width: int, height: int, settings: ClipSettings
) -> None:
    unit = settings.multiple
    w, h = clips.clip_size(width, height, settings)
    assert w <= max(2 * unit, width + unit / 2)
    assert h <= max(2 * unit, height + unit / 2)


@given(SIDES, SIDES, clip_settings())
def test_a_clip_keeps_the_shape_of_its_source_to_a_unit_and_a_half(
    width: int, height: int, settings: ClipSettings
) -> None:
    scale = min(1.0, (settings.max_pixels / (width * height)) ** 0.5) / settings.multiple
    assume(min(width, height) * scale >= 2)  # else the least size that processors keep decides
    w, h = clips.clip_size(width, height, settings)
    assert abs(w / settings.multiple - width * scale) <= 1.5
    assert abs(h / settings.multiple - height * scale) <= 1.5


@given(st.integers(2, 60), st.integers(2, 60), clip_settings())
def test_a_source_that_fits_keeps_its_size(columns: int, rows: int, settings: ClipSettings) -> None:
    size = columns * settings.multiple, rows * settings.multiple
    assume(size[0] * size[1] <= settings.max_pixels)
    assert clips.clip_size(*size, settings) == size


@pytest.mark.parametrize(
    ("source", "expected"),
    [((1920, 1080), (588, 336)), ((1080, 1920), (336, 588)), ((640, 480), (504, 392)), ((64, 64), (56, 56))],
)
def test_sizes_of_common_sources_under_the_default_budget(source: tuple[int, int], expected: tuple[int, int]) -> None:
    assert clips.clip_size(*source, ClipSettings()) == expected


def test_a_very_wide_source_becomes_as_wide_as_the_budget_allows() -> None:
    assert clips.clip_size(4000, 10, SETTINGS) == (56, 56)
    assert clips.clip_size(4000, 10, ClipSettings(max_pixels=56 * 560)) == (560, 56)


@given(st.floats(0.001, 1e5), st.integers(1, 10**6), clip_settings())
def test_the_frame_count_is_the_largest_even_one_allowed(
    duration: float, available: int, settings: ClipSettings
) -> None:
    n = clips.frame_count(duration, available, settings)
    limits = (settings.frames, duration * settings.max_fps + 1e-6, available)
    assert n >= 2 and n % 2 == 0
    assert n == 2 or n <= min(limits)
    assert n + 2 > min(limits)


@pytest.mark.parametrize(
    ("duration", "available", "expected"),
    [(4, 100, 8), (3.999999999, 100, 8), (3.9, 100, 6), (100, 100, 8), (100, 5, 4), (0.1, 100, 2), (100, 1, 2)],
)
def test_frame_counts(duration: float, available: int, expected: int) -> None:
    assert clips.frame_count(duration, available, SETTINGS) == expected


# Frames 0 to 79, ten a second, and the middles of eight equal parts of the eight seconds.
EVEN = [i * 100 for i in range(80)]
MIDDLES = [5, 15, 25, 35, 45, 55, 65, 75]
AV1 = {"cpu-used": "8", "usage": "realtime"}
FORMATS: list[tuple[str, str, dict[str, str]]] = [
    ("a.mp4", "libx264", {}),
    ("keyframes.mp4", "libx264", {"g": "3", "bf": "2"}),
    ("a.mkv", "libx264", {}),
    ("a.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    ("av1.mp4", "libaom-av1", AV1),
]


@pytest.mark.parametrize(("name", "codec", "options"), FORMATS, ids=[f[0] for f in FORMATS])
def test_every_format_gives_the_same_frames_and_times(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    video = counting(tmp_path / name, EVEN, codec, **options)
    frames, duration = clips.read_frames(video, SETTINGS)
    assert shown(frames) == MIDDLES
    assert frames.shape == (8, 64, 64, 3) and frames.dtype == np.uint8
    assert duration == pytest.approx(8.0, abs=0.002)
    clips.make(video, tmp_path / "clip.mp4", SETTINGS)
    made, clip = clips.load(tmp_path / "clip.mp4")
    assert clip == Clip(frames=8, width=56, height=56, fps=1.0)
    assert shown(made) == pytest.approx(MIDDLES, abs=1)  # encoded once more


def test_an_avi_of_mpeg4_gives_the_same_frames(tmp_path: Path) -> None:
    video = counting(tmp_path / "a.avi", list(range(80)), "mpeg4", Fraction(1, 10), qmin="1", qmax="2")
    frames, duration = clips.read_frames(video, SETTINGS)
    assert (shown(frames), duration) == (MIDDLES, 8.0)


def test_decord_cannot_read_av1_so_that_these_tests_reach_pyav(tmp_path: Path) -> None:
    video = counting(tmp_path / "av1.mp4", EVEN[:4], "libaom-av1", **AV1)
    with pytest.raises(Exception, match="cannot find video stream"):
        clips._read(video, SETTINGS, clips._decord_times, clips._decord_pick)


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
def test_a_variable_frame_rate_is_sampled_by_time_and_not_by_index(tmp_path: Path, decoder: str) -> None:
    # Frames 0 to 49 last 40 ms each, frames 50 to 79 last 200 ms each; the end of the last is the decoder's guess.
    starts = [i * 40 for i in range(50)] + [2000 + i * 200 for i in range(30)]
    video = counting(tmp_path / "a.mp4", starts)
    read = {"decord": (clips._decord_times, clips._decord_pick), "pyav": (clips._pyav_times, clips._pyav_pick)}
    frames, duration = clips._read(video, SETTINGS, *read[decoder])
    assert 7.8 < duration < 8.0
    middles = [duration * 1000 * (i + 0.5) / 8 for i in range(8)]
    assert shown(frames) == [sum(start <= middle for start in starts) - 1 for middle in middles]


def test_a_video_that_starts_late_is_measured_from_its_first_frame(tmp_path: Path) -> None:
    video = counting(tmp_path / "late.mkv", [5000 + t for t in EVEN])
    frames, duration = clips.read_frames(video, SETTINGS)
    assert (shown(frames), round(duration, 3)) == (MIDDLES, 8.0)


def test_a_long_video_is_thinned_and_a_short_one_repeats_its_frame(tmp_path: Path) -> None:
    long = counting(tmp_path / "long.mp4", [i * 2000 for i in range(60)])
    assert shown(clips.read_frames(long, SETTINGS)[0]) == [3, 11, 18, 26, 33, 41, 48, 56]
    clips.make(long, tmp_path / "clip.mp4", SETTINGS)
    assert clips.probe(tmp_path / "clip.mp4") == Clip(8, 56, 56, pytest.approx(1 / 15))
    single = counting(tmp_path / "one.mp4", [0])
    frames, duration = clips.read_frames(single, SETTINGS)
    assert (shown(frames), duration) == ([0, 0], pytest.approx(0.1))
    clips.make(single, tmp_path / "one_clip.mp4", SETTINGS)
    assert clips.probe(tmp_path / "one_clip.mp4") == Clip(2, 56, 56, 20.0)


def test_a_video_of_less_than_a_millisecond_a_frame_still_makes_a_clip(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "flash.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=2000)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    clips.make(tmp_path / "flash.mp4", tmp_path / "clip.mp4", SETTINGS)
    assert clips.probe(tmp_path / "clip.mp4") == Clip(2, 56, 56, 1000.0)


def test_a_source_of_odd_sides_makes_a_clip_near_its_shape(tmp_path: Path) -> None:
    video = counting(tmp_path / "odd.mp4", EVEN, size=(171, 57))
    clips.make(video, tmp_path / "clip.mp4", ClipSettings(frames=8, max_pixels=50_000))
    made, clip = clips.load(tmp_path / "clip.mp4")
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
    clips.make(video, tmp_path / "clip.mp4", ClipSettings(frames=4, max_pixels=112 * 56))
    frames, clip = clips.load(tmp_path / "clip.mp4")
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
        clips.probe(broken / name)
    assert str(error.value) == message


@pytest.mark.parametrize("name", ["gone.mp4", "empty.mp4", "text.mp4", "cut.mp4", "audio.mp4"])
def test_make_refuses_what_is_no_video_and_leaves_nothing(broken: Path, name: str) -> None:
    with pytest.raises(VideoError, match=r"^cannot be decoded \(decord: .+; PyAV: .+\)$") as error:
        clips.make(broken / name, broken / "clips/clip.mp4", SETTINGS)
    assert "/github/" not in str(error.value)  # where decord was built tells a user nothing
    assert not (broken / "clips").exists()


def test_a_video_cut_in_its_middle_is_refused_with_the_words_of_both_decoders(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w", options={"movflags": "faststart"}) as container:  # its index is at its start
        stream = container.add_stream("libx264", rate=10, options={"g": "5"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        noise = np.random.default_rng(0).integers(0, 255, (80, 64, 64, 3), np.uint8)
        for picture in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    content = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    assert clips.probe(tmp_path / "cut.mp4").frames == 80  # its header promises them all
    with pytest.raises(VideoError) as error:
        clips.make(tmp_path / "cut.mp4", tmp_path / "clip.mp4", SETTINGS)
    assert str(error.value).startswith("cannot be decoded (decord: ")
    assert not (tmp_path / "clip.mp4").exists()


def test_a_stream_of_one_frame_without_a_duration_is_refused(tmp_path: Path) -> None:
    video = counting(tmp_path / "one.mkv", [0])
    with pytest.raises(VideoError, match=r"^lasts 0 seconds$"):
        clips.make(video, tmp_path / "clip.mp4", SETTINGS)


def test_load_refuses_a_clip_that_holds_fewer_frames_than_its_header_says(tmp_path: Path) -> None:
    video = counting(tmp_path / "a.mp4", EVEN)
    clips.make(video, tmp_path / "clip.mp4", SETTINGS)
    with av.open(str(video)) as source, av.open(str(tmp_path / "a.mkv"), "w") as target:  # mkv states no count
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert clips.load(tmp_path / "clip.mp4")[1].frames == 8
    with pytest.raises(VideoError) as error:
        clips.load(tmp_path / "a.mkv")
    assert str(error.value) == "holds 80 frames where its header says 0; delete it and prepare again"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Canonical clips of textured videos of many lengths and rates."""
    folder = tmp_path_factory.mktemp("made")
    paths = []
    for i, (seconds, fps) in enumerate([(1.0, 3), (2.5, 10), (4.0, 24), (7.7, 25), (11.0, 4), (13.3, 30)]):
        video = write_video(folder / f"v{i}.mp4", seconds, fps, seed=i)
        paths.append(folder / f"c{i}.mp4")
        clips.make(video, paths[-1], SETTINGS)
    return paths


def test_pyav_and_decord_return_bit_identical_frames_of_a_clip(made: list[Path]) -> None:
    import decord

    for path in made:
        frames, clip = clips.load(path)
        theirs = decord.VideoReader(str(path))
        assert len(theirs) == clip.frames == len(frames)
        assert np.array_equal(theirs.get_batch(range(len(theirs))).asnumpy(), frames)
        assert frames.std() > 5  # there is something to see


def test_the_frames_of_a_clip_are_those_of_its_source(made: list[Path]) -> None:
    for path in made:
        source, duration = clips.read_frames(path.with_name(path.name.replace("c", "v")), SETTINGS)
        frames, clip = clips.load(path)
        small = source.reshape(len(source), 56, 2, 56, 2, 3).mean(axis=(2, 4))
        assert np.abs(small - frames).mean() < 6
        assert clip.frames / clip.fps == pytest.approx(duration, abs=len(frames) * 0.0005 + 1e-9)


def test_llamafactory_takes_every_frame_and_computes_the_same_rate(made: list[Path]) -> None:
    from llamafactory.data.mm_plugin import Qwen2VLPlugin

    limits = {"image_max_pixels": 200704, "image_min_pixels": 256, "video_fps": 1000, "video_maxlen": 768}
    plugin = Qwen2VLPlugin(image_token=None, video_token="<|video_pad|>", audio_token=None)
    seen = plugin._regularize_videos([str(p) for p in made], **limits)
    for i, path in enumerate(made):
        frames, clip = clips.load(path)
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
            assert clips.probe(path).fps == float(stream.average_rate)


@given(st.integers(1000, 100_000), st.integers(1, 1000))
def test_at_two_frames_a_second_no_time_step_is_cut_to_zero(milliseconds: int, available: int) -> None:
    n = clips.frame_count(milliseconds / 1000, available, SETTINGS)
    fps = Fraction(1000, round(milliseconds / n))
    assert int(2 / float(fps)) >= 1


def test_every_frame_of_a_clip_is_a_key_frame(made: list[Path]) -> None:
    with av.open(str(made[-1])) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert [p.is_keyframe for p in container.demux(stream) if p.size] == [True] * 8


def test_the_same_video_gives_the_same_bytes_twice(made: list[Path], tmp_path: Path) -> None:
    clips.make(made[2].with_name("v2.mp4"), tmp_path / "again.mp4", SETTINGS)
    assert (tmp_path / "again.mp4").read_bytes() == made[2].read_bytes()


def test_a_clip_is_named_by_content_and_settings_not_by_path(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"one" * 10**6)
    (tmp_path / "b.mkv").write_bytes(b"one" * 10**6)
    (tmp_path / "c.mp4").write_bytes(b"one" * 10**6 + b"x")
    name = clips.clip_name(tmp_path / "a.mp4", SETTINGS)
    assert len(name) == 24 and name.endswith(".mp4") and int(name[:20], 16)
    assert clips.clip_name(tmp_path / "b.mkv", SETTINGS) == name
    others = {clips.clip_name(tmp_path / "c.mp4", SETTINGS)}
    others |= {
        clips.clip_name(tmp_path / "a.mp4", SETTINGS.model_copy(update=change))
        for change in ({"frames": 6}, {"max_fps": 1.0}, {"max_pixels": 4000}, {"multiple": 14}, {"crf": 19})
    }
    assert len(others | {name}) == 7


def test_a_failed_encoding_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(av.FFmpegError):
        clips.write(tmp_path / "clip.mp4", np.zeros((4, 57, 57, 3), np.uint8), Fraction(2), 18)  # odd sides
    assert list(tmp_path.iterdir()) == []


def test_a_killed_encoding_leaves_no_clip_under_its_name(tmp_path: Path) -> None:
    script = (
        "import numpy as np, sys; from fractions import Fraction; from pathlib import Path;"
        "from rbft_plugin import clips;"
        "noise = np.random.default_rng(0).integers(0, 255, (300, 448, 448, 3), np.uint8);"
        "clips.write(Path(sys.argv[1]), noise, Fraction(2), 1)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "clip.mp4")])
    try:
        deadline = time.monotonic() + 30
        while not list(tmp_path.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert [p.name for p in tmp_path.iterdir()] == [f".clip.{process.pid}.part.mp4"]
