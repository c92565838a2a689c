"""duplicates: copies are found however they were encoded, and other clips of the same camera are not taken for them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import encode

from rbft_plugin.check import near_duplicates as duplicates
from rbft_plugin.check.near_duplicates import PictureFingerprint
from rbft_plugin.clips.canonical import read_frames
from rbft_plugin.clips.video import WHOLE, Part
from rbft_plugin.data.annotations import Sample
from rbft_plugin.demo import synthetic_video as world
from rbft_plugin.spec.dataset import ClipSettings

SETTINGS = ClipSettings(frames=16, max_fps=30)
CAMERA = replace(world.NIGHT, noise=(6, 12), shake=1, clutter=2, light=0.6)  # of a camera's usual noise
SCENES = [  # and the seed of their lane, time and noise; the last three differ in nothing else
    (world.Scene("red", "person", "left", "pass"), 0),
    (world.Scene("green", "car", "right", "stop"), 1),
    (world.Scene("blue", "ball", "top", "turn"), 2),
    (world.Scene("yellow", "person", "left", "drop"), 3),
    (world.Scene("red", "car", "right", "take"), 4),
    *((world.Scene("green", "ball", "top", "pass"), seed) for seed in (5, 6, 18)),
]


def look(path: Path) -> PictureFingerprint:
    return duplicates.picture_fingerprint(*read_frames(path, SETTINGS))


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[np.ndarray]]]:
    """A folder with videos of different scenes before one static, noisy camera, and their frames at 12 a second."""
    folder = tmp_path_factory.mktemp("camera")
    background = world._background(CAMERA, random.Random(5))
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "_background", lambda look, rng: background)
        for i, (scene, seed) in enumerate(SCENES):
            shown.append(world.render(scene, CAMERA, world.frame_times(60), random.Random(seed)))
            encode(folder / f"{i}.mp4", shown[-1], 12, crf="18")
    yield folder, shown


def test_copies_are_found_and_other_clips_of_the_camera_are_not(camera: tuple[Path, list[np.ndarray]]) -> None:
    folder, shown = camera
    copies = [
        encode(folder / "low.mp4", shown[0], 12, crf="35"),
        encode(folder / "small.mp4", shown[1], 12, (80, 64), crf="28"),
        encode(folder / "slow.mkv", shown[2][::2], 6, crf="23"),
        encode(folder / "cut.avi", shown[3][:-1], 12, crf="23"),
        encode(folder / "large.mkv", shown[4], 12, (224, 160), crf="28"),
    ]
    looks = [look(folder / f"{i}.mp4") for i in range(len(SCENES))] + [look(c) for c in copies]
    assert duplicates.same_pictures(looks) == [[0, 8], [1, 9], [2, 10], [3, 11], [4, 12]]


def test_videos_in_which_nothing_moves_are_not_compared(camera: tuple[Path, list[np.ndarray]]) -> None:
    _, shown = camera
    noise = np.random.default_rng(0).normal(0, 10, (16, 112, 112, 3))
    still = [np.clip(shown[0][:1] + sign * noise, 0, 255).astype(np.uint8) for sign in (1, -1)]
    looks = [duplicates.picture_fingerprint(frames, 5.0) for frames in still]
    assert [one.motion for one in looks] == [None, None]
    assert duplicates.same_pictures(looks) == []


def test_a_look_is_of_unit_length_and_small(camera: tuple[Path, list[np.ndarray]]) -> None:
    made = duplicates.picture_fingerprint(camera[1][0], 5.0)
    assert made.motion is not None and made.motion.dtype == np.float16 and made.motion.shape == (8 * 16 * 16 * 3,)
    assert np.linalg.norm(made.motion.astype(float)) == pytest.approx(1, abs=1e-3)
    assert made.place.shape == (16 * 16 * 3,)
    assert duplicates.picture_fingerprint(camera[1][0][:3], 5.0).place.shape == (
        16 * 16 * 3,
    )  # fewer frames than are compared


def made(seed: int, seconds: float = 5.0, place: int = 0) -> PictureFingerprint:
    motion = np.random.default_rng(seed).standard_normal(64)
    where = np.random.default_rng(place).normal(0, 30, 64)
    return PictureFingerprint((motion / np.linalg.norm(motion)).astype(np.float16), where, seconds)


def test_copies_agree_in_motion_length_and_place() -> None:
    assert duplicates.same_pictures([made(1), made(2), made(1)]) == [[0, 2]]
    assert duplicates.same_pictures([made(1), made(1, seconds=5.3)]) == [[0, 1]]
    assert duplicates.same_pictures([made(1), made(1, seconds=5.5)]) == []
    assert duplicates.same_pictures([made(1), made(1, place=1)]) == []
    assert duplicates.same_pictures([made(1)]) == duplicates.same_pictures([]) == []


def test_blocks_find_what_one_product_would(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [made(seed) for seed in (0, 1, 2, 3, 1, 5, 2, 1)]
    whole = duplicates.same_pictures(looks)
    assert whole == [[1, 4, 7], [2, 6]]
    for size in (1, 2, 3):
        monkeypatch.setattr(duplicates, "CHUNK", size)
        assert duplicates.same_pictures(looks) == whole


def test_only_files_of_equal_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: tmp_path / name for name in "abcd"}
    for name, content in zip("abcd", (b"same", b"same", b"diff", b"longer"), strict=True):
        files[name].write_bytes(content)
    digests = duplicates.same_bytes([*files.values(), files["a"]])
    assert set(digests) == {files["a"], files["b"], files["c"]}
    assert digests[files["a"]] == digests[files["b"]] != digests[files["c"]]


# --- findings ---


def sample(number: int, video: Path, split: str, label: str | None = "calm", part: Part = WHOLE) -> Sample:
    return Sample(f"v{number}", video, label, split, f"row {number}", part)


def said(*samples: Sample) -> list[str]:
    return [f"{f.level} {f.kind}: {f}" for f in duplicates.findings(dict.fromkeys(samples))]


def test_copies_are_said_once_each_and_errors_only_across_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    a, b, c, d = (Path(f"{name}.mp4") for name in "abcd")
    for path, content in ((a, b"1"), (b, b"1"), (c, b"1"), (d, b"2")):
        path.write_bytes(content)
    given = [sample(1, a, "train"), sample(2, b, "train", None), sample(3, d, "test")]
    assert said(*given) == [
        "warning duplicate: row 2 (id 'v2'): b.mp4 (train) is byte for byte the same as a.mp4 of row 1 (id 'v1') "
        "(train), with another label: none, not calm"
    ]
    assert said(*given, sample(4, c, "test")) == [
        "error duplicate-across-splits: row 2 (id 'v2'): b.mp4 (train) is byte for byte the same as c.mp4 of row 4 "
        "(id 'v4') (test), with another label: none, not calm",
        "error duplicate-across-splits: row 4 (id 'v4'): c.mp4 (test) is byte for byte the same as a.mp4 of row 1 "
        "(id 'v1') (train)",
    ]


def test_parts_of_one_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    video = Path("a.mp4")
    video.write_bytes(b"1")
    first, second, both = Part(0, 5), Part(5, 9), Part(4, 6)
    assert said(sample(1, video, "train", part=first), sample(2, video, "train", part=second)) == []
    assert said(sample(1, video, "train", part=first), sample(2, video, "test", part=second)) == [
        "warning source-across-splits: row 1 (id 'v1'): parts of a.mp4 are in train (1) and test (1): place, people "
        "and light may tell the label; splits.group keeps what is of one source together"
    ]
    bridged = sample(1, video, "test", part=first), sample(2, video, "train", part=second)
    assert [line.split(":")[0] for line in said(*bridged, sample(3, video, "test", part=both))] == [
        "error duplicate-across-splits", "error duplicate-across-splits",
    ]  # fmt: skip
    assert said(sample(1, video, "train", part=first), sample(2, video, "test", part=both)) == [
        "error duplicate-across-splits: row 2 (id 'v2'): its part of a.mp4 (test) overlaps that of row 1 (id 'v1') "
        "(train)"
    ]
    assert said(sample(1, video, "train", part=first), sample(2, video, "test", part=first)) == [
        "error duplicate-across-splits: row 2 (id 'v2'): a.mp4 (test) is byte for byte the same as a.mp4 of row 1 "
        "(id 'v1') (train)"
    ]


def test_pictures_are_compared_among_different_files_and_what_is_still_is_noted(tmp_path: Path) -> None:
    videos = [tmp_path / f"{i}.mp4" for i in range(4)]
    for i, video in enumerate(videos):
        video.write_bytes(b"x" * (1 if i < 2 else i))
    samples = [sample(i, video, ("train", "test")[i == 2]) for i, video in enumerate(videos)]
    looks = [made(1), made(1), made(1), PictureFingerprint(None, made(2).place, 5.0)]
    found = [f"{f.level} {f.kind}: {f}" for f in duplicates.findings(dict(zip(samples, looks, strict=True)))]
    assert found == [
        f"warning duplicate: row 1 (id 'v1'): {videos[1]} (train) is byte for byte the same as {videos[0]} of row 0 "
        "(id 'v0') (train)",
        f"error duplicate-across-splits: row 2 (id 'v2'): {videos[2]} (test) looks like another encoding "
        f"of {videos[0]} of row 0 (id 'v0') (train)",
        f"note still-video: row 3 (id 'v3'): {videos[3]}: hardly anything moves in it, so a copy of it in another "
        "encoding cannot be recognized",
    ]
