"""preparation: what `check` says and what `prepare` leaves on disk, from real videos."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import QUIET, read_jsonl, small_dataset, small_yaml, write_csv, write_video, write_yaml

from rbft_plugin import annotations, clips, dataset, preparation, prompts
from rbft_plugin.errors import ProblemsError, RbftError

FEW = {"train": 2, "val": 1, "test": 2}


def prepare() -> dict[str, Any]:
    return preparation.prepare(dataset.load("mine"), QUIET)


def clip_times() -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in Path("data/mine/clips").iterdir()}


def test_rows_name_clips_labels_prompts_and_what_the_clip_is(ws: Path) -> None:
    small_dataset(per_split=FEW)
    prepare()
    mine, (row, _) = dataset.load("mine"), read_jsonl("data/mine/train.jsonl")
    clip = Path(row["video"])
    assert clip.parent == Path("data/mine/clips")
    assert row == {
        "id": "train0",
        "video": f"data/mine/clips/{clips.clip_name(Path('mine_videos/train0.mp4'), mine.clips)}",
        "label": "calm",
        "labels": ["calm", "busy"],
        "rationale_prompt": prompts.rationale(mine),
        "label_prompt": prompts.label(mine),
        # 3 seconds at most 2 frames a second
        "meta": {"source": "mine_videos/train0.mp4", "frames": 6, "width": 56, "height": 56, "seconds": 3.0},
    }
    assert clips.probe(clip) == clips.Clip(6, 56, 56, 2.0)
    assert [r["id"] for r in preparation.read_split("mine", "test")] == ["test0", "test1"]
    assert [r["id"] for r in preparation.read_split("mine", "val")] == ["val0"]


def test_label_rows_are_sharegpt_rows_of_the_labelled_training_samples(ws: Path) -> None:
    unlabelled = {"file": "mine.csv", "id": "id", "label": "label", "unlabelled": [""]}
    rows = small_dataset(per_split=FEW, annotations=unlabelled)
    write_csv("mine.csv", [*rows, {"id": "more", "split": "train", "label": ""}])
    write_video(Path("mine_videos/more.mp4"), seed=76)
    manifest = prepare()
    train, label = read_jsonl("data/mine/train.jsonl"), read_jsonl("data/mine/label.jsonl")
    assert [r["label"] for r in train] == ["calm", "busy", None]
    assert label == [
        {
            "id": row["id"],
            "messages": [
                {"role": "user", "content": f"<video>{row['label_prompt']}"},
                {"role": "assistant", "content": row["label"]},
            ],
            "videos": [row["video"]],
        }
        for row in train[:2]
    ]
    assert manifest["counts"] == {
        "train": {"calm": 1, "busy": 1, "": 1},
        "val": {"calm": 1, "busy": 0, "": 0},
        "test": {"calm": 1, "busy": 1, "": 0},
    }


def test_the_manifest_holds_counts_settings_hashes_and_sources(ws: Path) -> None:
    small_dataset(per_split=FEW)
    manifest = prepare()
    assert json.loads(Path("data/mine/manifest.json").read_text(encoding="utf-8")) == manifest
    assert preparation.manifest("mine") == manifest
    assert list(manifest) == [
        *("dataset", "counts", "clips", "largest_clip_pixels", "most_frames", "sha256", "sources"),
    ]
    assert manifest["dataset"] == "mine"
    assert manifest["clips"] == {"frames": 8, "max_fps": 2.0, "max_pixels": 3136, "multiple": 28, "crf": 18}
    assert (manifest["largest_clip_pixels"], manifest["most_frames"]) == (56 * 56, 8)
    assert list(manifest["sha256"]) == ["train.jsonl", "val.jsonl", "test.jsonl", "label.jsonl"]
    for name, sha in manifest["sha256"].items():
        assert hashlib.sha256(Path("data/mine", name).read_bytes()).hexdigest() == sha
    source = Path("mine_videos/test1.mp4")
    assert manifest["sources"]["test1"] == {
        "path": "mine_videos/test1.mp4",
        "bytes": source.stat().st_size,
        "mtime_ns": source.stat().st_mtime_ns,
        "clip": Path(read_jsonl("data/mine/test.jsonl")[1]["video"]).name,
    }
    assert str(ws) not in Path("data/mine/manifest.json").read_text(encoding="utf-8")


def test_both_harnesses_know_a_prepared_dataset(ws: Path) -> None:
    small_dataset(per_split=FEW)
    prepare()
    assert "mine_label" in json.loads(Path("dataset_info/dataset_info.json").read_text(encoding="utf-8"))
    assert Path("task_configs/rbft_mine.yaml").is_file()


def test_preparing_again_makes_no_clip_anew_and_the_same_rows(ws: Path) -> None:
    small_dataset(per_split=FEW)
    first, times = prepare(), clip_times()
    assert len(times) == 5
    assert prepare() == first
    assert clip_times() == times


def test_a_clip_is_made_anew_only_for_the_source_that_changed(ws: Path) -> None:
    small_dataset(per_split=FEW)
    first, times = prepare(), clip_times()
    write_video(Path("mine_videos/test0.mp4"), seconds=6, seed=77)
    second = prepare()
    fresh = set(clip_times()) - set(times)
    assert [p.name for p in fresh] == [second["sources"]["test0"]["clip"]]
    assert {p: t for p, t in clip_times().items() if p in times} == times
    moved = {i for i in first["sources"] if first["sources"][i]["clip"] != second["sources"][i]["clip"]}
    assert moved == {"test0"}
    assert first["sha256"]["train.jsonl"] == second["sha256"]["train.jsonl"]
    assert first["sha256"]["test.jsonl"] != second["sha256"]["test.jsonl"]


def test_a_source_of_another_time_but_the_same_content_keeps_its_clip(ws: Path) -> None:
    small_dataset(per_split=FEW)
    first, times = prepare(), clip_times()
    os.utime("mine_videos/test0.mp4", ns=(0, 0))
    second = prepare()
    assert clip_times() == times
    assert first["sha256"] == second["sha256"]


def test_other_clip_settings_give_other_clips(ws: Path) -> None:
    small_dataset(per_split=FEW)
    before = prepare()
    write_yaml(small_yaml(clips={"frames": 4, "max_fps": 2, "max_pixels": 3136, "multiple": 28}))
    manifest = prepare()
    assert (before["most_frames"], manifest["most_frames"]) == (8, 4)
    assert {r["meta"]["frames"] for r in preparation.read_split("mine", "train")} == {4}


def test_videos_of_the_same_content_share_a_clip_that_is_made_once(ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def slowly(video: Path, target: Path, settings: dataset.ClipSettings, make: Any = clips.make) -> None:
        made.append(target)
        time.sleep(0.05)  # long enough for the other threads to come by
        make(video, target, settings)

    monkeypatch.setattr(clips, "make", slowly)
    rows = small_dataset(per_split=FEW)
    copies = [row | {"id": f"copy{i}"} for i, row in enumerate([rows[0]] * 6)]
    write_csv("mine.csv", [*copies, *rows])  # at the same time
    for row in copies:
        Path(f"mine_videos/{row['id']}.mp4").write_bytes(Path("mine_videos/train0.mp4").read_bytes())
    sources = prepare()["sources"]
    assert len(sources) == 11 and sorted(made) == sorted(clip_times())
    assert {sources[row["id"]]["clip"] for row in copies} == {sources["train0"]["clip"]}


def test_a_clip_that_was_deleted_is_made_again(ws: Path) -> None:
    small_dataset(per_split=FEW)
    times = prepare() and clip_times()
    gone = next(iter(times))
    gone.unlink()
    prepare()
    assert set(clip_times()) == set(times)


def test_videos_that_cannot_be_used_are_all_named_and_nothing_but_clips_is_left(ws: Path) -> None:
    small_dataset(per_split=FEW)
    prepare()
    rows = {p: p.read_bytes() for p in Path("data/mine").glob("*.jsonl")}
    Path("mine_videos/train0.mp4").unlink()
    Path("mine_videos/val0.mp4").write_bytes(b"")
    Path("mine_videos/test1.mp4").write_bytes(b"no video, whatever it is called")
    write_video(Path("mine_videos/test0.mp4"), seed=78)
    with pytest.raises(ProblemsError) as raised:
        prepare()
    assert str(raised.value) == (
        "mine: videos that cannot be used: 3 problems\n"
        "  - row 1 (id 'train0'): mine_videos/train0.mp4 does not exist\n"
        "  - row 3 (id 'val0'): mine_videos/val0.mp4 is empty\n"
        "  - row 5 (id 'test1'): mine_videos/test1.mp4 cannot be opened (Invalid data found when processing input)\n"
        "Mend them, or remove their rows; then prepare again."
    )
    assert {p: p.read_bytes() for p in Path("data/mine").glob("*.jsonl")} == rows
    assert not Path("data/mine/manifest.json").exists()
    assert len(clip_times()) == 6  # the five, and that of the new test0
    with pytest.raises(RbftError) as missing:
        preparation.read_split("mine", "train")
    assert str(missing.value) == "data/mine/manifest.json is missing: run `rbft prepare mine` first"


def test_nothing_is_registered_or_written_where_the_first_prepare_fails(ws: Path) -> None:
    small_dataset(per_split=FEW)
    registered = Path("dataset_info/dataset_info.json").read_bytes()
    Path("mine_videos/train0.mp4").unlink()
    with pytest.raises(ProblemsError):
        prepare()
    assert [p.name for p in Path("data/mine").iterdir()] == ["clips"]
    assert len(clip_times()) == 4
    assert Path("dataset_info/dataset_info.json").read_bytes() == registered


def test_counts_have_every_label_of_every_split_and_those_without_one_last(ws: Path) -> None:
    write_yaml(small_yaml())
    mine = dataset.load("mine")
    one = annotations.Sample("a", Path("a.mp4"), "busy", "train", 1)
    table = {split: {"calm": 0, "busy": 0} for split in ("train", "val", "test")}
    assert preparation.counts(mine, []) == table
    assert preparation.counts(mine, [one]) == table | {"train": {"calm": 0, "busy": 1}}
    other = annotations.Sample("b", Path("b.mp4"), None, "train", 2)
    assert preparation.counts(mine, [one, other])["train"] == {"calm": 0, "busy": 1, "": 1}
    assert list(preparation.counts(mine, [one, other])["val"]) == ["calm", "busy", ""]


def test_rows_are_written_as_they_are_read_and_hashed_as_they_are_written(tmp_path: Path) -> None:
    rows = [{"id": "ä", "text": "one\ntwo\u2028three"}, {"id": "b", "text": None}]
    sha = preparation.write_rows(tmp_path / "deep/rows.jsonl", rows)
    content = (tmp_path / "deep/rows.jsonl").read_bytes()
    assert hashlib.sha256(content).hexdigest() == sha and "ä".encode() in content
    assert preparation.read_jsonl(tmp_path / "deep/rows.jsonl") == rows


def test_a_line_of_rows_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\n\n{"id": 2\n', encoding="utf-8")
    with pytest.raises(RbftError) as raised:
        preparation.read_jsonl(path)
    assert str(raised.value) == f"{path}: line 3: not JSON (Expecting ',' delimiter)"


def test_a_clip_that_was_cut_off_is_made_again(ws: Path) -> None:
    small_dataset(per_split=FEW)
    prepare()
    clip = sorted(Path("data/mine/clips").iterdir())[0]
    whole = clip.read_bytes()
    clip.write_bytes(whole[:100])
    prepare()
    assert clip.read_bytes() == whole


def test_a_dataset_without_test_samples_is_refused(ws: Path) -> None:
    small_dataset(per_split={"train": 2})
    with pytest.raises(ProblemsError) as error:
        prepare()
    assert str(error.value) == "mine: 1 problem\n  - split 'test' has no sample\nSee `splits` in its YAML."


def test_the_same_video_in_two_splits_is_refused(ws: Path) -> None:
    rows = small_dataset(per_split=FEW)
    shutil.copy("mine_videos/train1.mp4", "mine_videos/test0.mp4")
    shutil.copy("mine_videos/train1.mp4", "mine_videos/train0.mp4")  # twice in one split is no leak
    with pytest.raises(ProblemsError) as error:
        prepare()
    number = {row["id"]: i for i, row in enumerate(rows, 1)}
    assert str(error.value) == (
        "mine: the same video in two splits: 1 problem\n"
        f"  - row {number['train0']} (id 'train0', train) and row {number['test0']} (id 'test0', test): "
        "mine_videos/test0.mp4\nRemove all but one of its rows."
    )
    assert not Path("data/mine/manifest.json").exists()
