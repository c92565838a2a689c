"""The demo's made-up world and the data that `rbft demo` writes."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import BASE

from rbft_plugin import workspace
from rbft_plugin.check import dataset_check as check
from rbft_plugin.clips.video import probe
from rbft_plugin.data import splits
from rbft_plugin.data.annotations import read_annotations
from rbft_plugin.demo import data
from rbft_plugin.demo import synthetic_video as world
from rbft_plugin.demo.data import write_source
from rbft_plugin.demo.synthetic_video import AGENTS, COLORS, EVENTS, GENERAL, NIGHT, SIDES, SIZE, Scene
from rbft_plugin.errors import RbftError
from rbft_plugin.spec.dataset import load

CLEAN = replace(GENERAL, noise=(0, 0), clutter=0, gradient=0, background=(30, 30))


def rendered(scene: Scene, look: Any = CLEAN, seed: int = 0, count: int = 12) -> np.ndarray:
    return world.render(scene, look, world.frame_times(count), random.Random(seed))


def test_a_scene_says_what_it_shows() -> None:
    scene = Scene("red", "car", "left", "drop")
    assert scene.caption == "A red car comes from the left and leaves a box."


def test_random_scenes_use_every_attribute_and_depend_on_the_seed_alone() -> None:
    def scenes(seed: int) -> list[Scene]:
        rng = random.Random(seed)
        return [world.random_scene(rng) for _ in range(300)]

    found = scenes(0)
    assert found == scenes(0) != scenes(1)
    assert {s.color for s in found} == set(COLORS) and {s.agent for s in found} == set(AGENTS)
    assert {s.side for s in found} == set(SIDES) and {s.event for s in found} == set(EVENTS)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_frame_times_lie_in_order_within_the_video(count: int) -> None:
    times = world.frame_times(count)
    assert len(times) == count
    assert all(0 <= t <= 1 for t in times) and list(times) == sorted(set(times))


@pytest.mark.parametrize("look", [GENERAL, NIGHT], ids=["general", "night"])
def test_a_video_is_frames_of_one_shape_and_the_same_for_the_same_seed(look: Any) -> None:
    scene = Scene("blue", "person", "top", "turn")
    frames = rendered(scene, look)
    assert frames.shape == (12, SIZE, SIZE, 3) and frames.dtype == np.uint8
    assert np.array_equal(frames, rendered(scene, look))
    assert not np.array_equal(frames, rendered(scene, look, seed=1))


def test_the_same_frames_are_encoded_to_the_same_bytes_every_time(tmp_path: Path) -> None:
    for seed in range(24):
        frames = rendered(Scene("red", "car", "left", "pass"), NIGHT, seed, 20)
        found = set()
        for _ in range(3):
            world.write_video(tmp_path / "a.mp4", frames, 4)
            found.add((tmp_path / "a.mp4").read_bytes())
        assert len(found) == 1


def test_the_night_look_is_darker_and_noisier() -> None:
    scene = Scene("yellow", "car", "left", "pass")
    clear, night = rendered(scene, GENERAL), rendered(scene, NIGHT)
    assert night.max() < clear.max()
    assert np.abs(np.diff(night.astype(int), axis=2)).mean() > np.abs(np.diff(clear.astype(int), axis=2)).mean()


def whites(frames: np.ndarray) -> list[bool]:
    """Whether each frame shows a box, the only thing that is nearly white."""
    return [bool((frame.min(axis=2) > 230).any()) for frame in frames]


def centres(frames: np.ndarray) -> list[float | None]:
    """Where the red agent is from left to right, as a part of the way; None while it is out of sight."""
    places = []
    for frame in frames.astype(int):
        red = (frame[..., 0] - frame[..., 1] > 80).nonzero()[1]
        places.append(float(red.mean()) / SIZE if len(red) else None)
    return places


@pytest.mark.parametrize(
    ("event", "first", "last"),
    [
        ("pass", False, False),
        ("stop", False, False),
        ("turn", False, False),
        ("drop", False, True),
        ("take", True, False),
    ],
)
def test_a_box_is_there_after_it_was_left_and_before_it_was_taken(event: str, first: bool, last: bool) -> None:
    for agent in AGENTS:
        shows = whites(rendered(Scene("red", agent, "left", event)))
        assert (shows[0], shows[-1]) == (first, last)


def test_an_agent_passes_stops_or_turns_as_the_event_says() -> None:
    def ways(event: str, side: str = "left") -> list[float]:
        return [c for c in centres(rendered(Scene("red", "ball", side, event), count=24)) if c is not None]

    passing = ways("pass")
    assert passing == sorted(passing) and passing[0] < 0.2 and passing[-1] > 0.8
    back = ways("pass", "right")
    assert back == sorted(back, reverse=True)
    stopping = ways("stop")
    assert 0.35 < stopping[-1] < 0.65 and stopping[-1] == stopping[-5]
    turning = ways("turn")
    assert turning[0] < 0.2 and max(turning) > 0.35 and turning[-1] < 0.2


SIZES = {"train": 2, "extra": 1, "val": 1, "test": 2}  # of each of the five labels


def digests() -> dict[str, str]:
    files = sorted(p for p in data.SOURCE.rglob("*") if p.is_file())
    return {p.relative_to(data.SOURCE).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a small set of the demo's data."""
    folder = tmp_path_factory.mktemp("demo")
    workspace.init(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert write_source(sizes=SIZES) == 30
    return folder


@pytest.fixture
def source(made: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Go to that workspace; returns the hash of each file of the data."""
    monkeypatch.chdir(made)
    return digests()


def test_the_shipped_dataset_takes_what_is_written(source: dict[str, str]) -> None:
    found = splits.assign(read_annotations(load("demo")).samples, load("demo").splits)
    assert Counter((s.split, s.label) for s in found) == Counter(
        {(split, label): SIZES[split] for split in ("train", "val", "test") for label in load("demo").label_names}
        | {("train", None): 5}
    )
    checked = check.check(load("demo"), lambda items, total, text: items)
    assert [f.kind for f in checked.findings if f.level == "error"] == []
    for sample in found:
        clip = probe(sample.video)
        assert (clip.width, clip.height, clip.fps) == (SIZE, SIZE, data.FPS)
        assert 16 <= clip.frames <= 32  # 4 to 8 seconds


def test_every_label_of_the_demo_is_a_rule_over_an_event() -> None:
    assert set(data.LABEL_OF) == set(EVENTS)
    assert len(set(data.LABEL_OF.values())) == 5


def test_the_annotation_file_names_every_video_once_and_labels_all_but_the_extra(source: dict[str, str]) -> None:
    with (data.SOURCE / "annotations.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert list(rows[0]) == ["id", "split", "label"]
    assert [row["id"] for row in rows] == [f"clip_{i:04d}" for i in range(30)]
    assert set(source) == {"annotations.csv"} | {f"videos/{row['id']}.mp4" for row in rows}
    assert len(set(source.values())) == 31  # no two videos are the same
    assert sum(row["label"] == "" for row in rows) == 5


def test_the_same_seed_gives_the_same_files_and_another_seed_others(
    source: dict[str, str], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("again"))
    write_source(sizes=SIZES)
    assert digests() == source
    monkeypatch.chdir(tmp_path_factory.mktemp("other"))
    write_source(seed=1, sizes={"val": 1})
    assert not set(digests().values()) & set(source.values())


def test_a_second_call_keeps_what_is_there(source: dict[str, str]) -> None:
    times = {p: p.stat().st_mtime_ns for p in Path("data").rglob("*")}
    assert write_source(seed=5, sizes=SIZES) == 30
    assert {p: p.stat().st_mtime_ns for p in Path("data").rglob("*")} == times


def test_another_versions_demo_is_refused_and_kept(ws: Path) -> None:
    told = (
        "data/demo: this is not the demo of this version ({} videos, not {}, or another base model). "
        "Move it and runs/demo away, and start again"
    )
    assert write_source(sizes={"test": 1}) == 5
    with pytest.raises(RbftError) as error:
        write_source(sizes={"test": 2})
    assert str(error.value) == told.format(5, 10)
    (data.BASE / "model.safetensors").write_bytes(b"older")
    before = digests()
    with pytest.raises(RbftError) as error:
        write_source(sizes={"test": 1})
    assert str(error.value) == told.format(5, 5)
    assert digests() == before and (data.BASE / "model.safetensors").read_bytes() == b"older"


def test_the_test_clips_are_those_whose_hash_was_committed_before_they_were_scored() -> None:
    plans = [data.planned(seed, data.SIZES) for seed in (0, 1)]
    (test, again) = ([list(clip[2:]) for clip in drawn if clip.split == "test"] for drawn in plans)
    assert test == again and len(test) == 400
    digest = hashlib.sha256(json.dumps(test).encode()).hexdigest()
    assert digest == "49b56b5824b3eedcc084a847f8c84431abcc1b772ce7579ede2818c34a5761e9"
    assert digest in (Path(__file__).parents[2] / "docs/demo.md").read_text(encoding="utf-8")
    seeds = [{clip.seed for clip in drawn if clip.split != "test"} for drawn in plans]
    assert len(seeds[0]) == len(seeds[1]) == 640 and not seeds[0] & seeds[1]


def test_the_base_model_is_laid_beside_the_data(source: dict[str, str]) -> None:
    files = sorted(p.name for p in BASE.iterdir() if p.is_file())
    assert sorted(p.name for p in data.BASE.iterdir()) == files
    assert all((data.BASE / name).read_bytes() == (BASE / name).read_bytes() for name in files)


def test_a_base_model_whose_copy_was_cut_off_is_copied_whole(ws: Path) -> None:
    data.BASE.with_suffix(".part").mkdir(parents=True)
    (data.BASE.with_suffix(".part") / "config.json").write_text("{")
    write_source(sizes={"test": 1})
    assert (data.BASE / "config.json").read_bytes() == (BASE / "config.json").read_bytes()
    assert sorted(p.name for p in data.BASE.parent.iterdir()) == ["base", "source"]


def test_a_set_that_was_cut_off_is_written_anew(ws: Path) -> None:
    def cut(items: Any, total: int, text: str) -> Any:
        assert (total, text) == (5, "videos of demo")
        yield next(iter(items))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_source(sizes={"test": 1}, progress=cut)
    assert not (data.SOURCE / "annotations.csv").exists()
    assert write_source(sizes={"test": 1}) == 5
    assert len(digests()) == 6
