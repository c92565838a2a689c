"""Canonical clips: their frames, rates, names and bytes, and encodings that fail."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from builders import write_video
from counting_video import EVEN, MIDDLES, SETTINGS, counting, shown

from rbft_plugin import files
from rbft_plugin.clips.canonical import clip_name, make_clip, read_frames, write_clip
from rbft_plugin.clips.video import Clip, load_clip, probe
from rbft_plugin.spec.dataset import ClipSettings


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
    frames, clip = load_clip(tmp_path / "clip.mp4")
    assert (clip.width, clip.height) == (168, 56)
    assert shown(frames) == pytest.approx(MIDDLES, abs=1)  # encoded once more


@pytest.fixture(scope="module")
def clip_paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Canonical clips of textured videos of many lengths and rates."""
    folder = tmp_path_factory.mktemp("clips")
    paths = []
    for i, (seconds, fps) in enumerate([(1.0, 3), (2.5, 10), (4.0, 24), (7.7, 25), (11.0, 4), (13.3, 30)]):
        video = write_video(folder / f"v{i}.mp4", seconds, fps, seed=i)
        paths.append(folder / f"c{i}.mp4")
        make_clip(video, paths[-1], SETTINGS)
    return paths


def test_pyav_and_decord_return_bit_identical_frames_of_a_clip(clip_paths: list[Path]) -> None:
    import decord

    for path in clip_paths:
        frames, clip = load_clip(path)
        theirs = decord.VideoReader(str(path))
        assert len(theirs) == clip.frames == len(frames)
        assert np.array_equal(theirs.get_batch(range(len(theirs))).asnumpy(), frames)
        assert frames.std() > 5  # there is something to see


def test_the_frames_of_a_clip_are_those_of_its_source(clip_paths: list[Path]) -> None:
    for path in clip_paths:
        source, duration = read_frames(path.with_name(path.name.replace("c", "v")), SETTINGS)
        frames, clip = load_clip(path)
        assert np.abs(source.astype(int) - frames).mean() < 5
        assert clip.frames / clip.fps == pytest.approx(duration, abs=len(frames) * 0.0005 + 1e-9)


@pytest.mark.torch
def test_llamafactory_takes_every_frame_and_computes_the_same_rate(clip_paths: list[Path]) -> None:
    from llamafactory.data.mm_plugin import Qwen2VLPlugin

    limits = {"image_max_pixels": 200704, "image_min_pixels": 256, "video_fps": 1000, "video_maxlen": 768}
    plugin = Qwen2VLPlugin(image_token=None, video_token="<|video_pad|>", audio_token=None)
    seen = plugin._regularize_videos([str(p) for p in clip_paths], **limits)
    for i, path in enumerate(clip_paths):
        frames, clip = load_clip(path)
        assert np.array_equal(np.stack([np.asarray(f) for f in seen["videos"][i]]), frames)
        assert seen["fps_per_video"][i] == clip.fps
        assert seen["durations"][i] == pytest.approx(clip.frames / clip.fps, abs=1e-12)
        assert int(2 / clip.fps) >= 1 or clip.frames == 2  # transformers cuts the time step to whole seconds


def test_every_clip_states_its_average_rate_as_frames_over_duration(clip_paths: list[Path]) -> None:
    for path in clip_paths:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.average_rate is not None and stream.duration is not None and stream.time_base is not None
            assert stream.average_rate == stream.frames / Fraction(stream.duration * stream.time_base)
            assert probe(path).fps == float(stream.average_rate)


def test_every_frame_of_a_clip_is_a_key_frame(clip_paths: list[Path]) -> None:
    with av.open(str(clip_paths[-1])) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert [p.is_keyframe for p in container.demux(stream) if p.size] == [True] * 8


def test_the_same_video_gives_the_same_bytes_twice(clip_paths: list[Path], tmp_path: Path) -> None:
    make_clip(clip_paths[2].with_name("v2.mp4"), tmp_path / "again.mp4", SETTINGS)
    assert (tmp_path / "again.mp4").read_bytes() == clip_paths[2].read_bytes()


def test_a_clip_is_named_by_content_and_settings_not_by_path(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"one" * 10**6)
    (tmp_path / "b.mkv").write_bytes(b"one" * 10**6)
    (tmp_path / "c.mp4").write_bytes(b"one" * 10**6 + b"x")
    name = clip_name(files.sha256(tmp_path / "a.mp4"), SETTINGS)
    assert len(name) == 24 and name.endswith(".mp4") and int(name[:20], 16)
    assert clip_name(files.sha256(tmp_path / "b.mkv"), SETTINGS) == name
    others = {clip_name(files.sha256(tmp_path / "c.mp4"), SETTINGS)}
    others |= {
        clip_name(files.sha256(tmp_path / "a.mp4"), SETTINGS.model_copy(update=change))
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
