"""prepare: the rows, manifest and messages that it makes of real videos."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from builders import (
    FIVE_SAMPLES,
    clip_of,
    clip_times,
    prepare,
    prepare_mine,
    read_jsonl,
    small_dataset,
    small_yaml,
    write_csv,
    write_video,
    write_yaml,
)

from rbft_plugin import files
from rbft_plugin.clips.canonical import clip_name
from rbft_plugin.clips.video import Clip, probe
from rbft_plugin.data import annotations, prompts
from rbft_plugin.data.prepare import counts
from rbft_plugin.data.prepared import read_manifest, read_split
from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.spec import dataset


def test_rows_name_clips_labels_prompts_and_what_the_clip_is(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    prepare_mine()
    mine, (row, _) = dataset.load("mine"), read_jsonl("data/mine/train.jsonl")
    clip = Path(row["video"])
    assert clip.parent == Path("data/mine/clips")
    assert row == {
        "id": "train0",
        "video": f"data/mine/clips/{clip_name(files.sha256(Path('mine_videos/train0.mp4')), mine.clips)}",
        "label": "calm",
        "labels": ["calm", "busy"],
        "rationale_prompt": prompts.rationale(mine),
        "hinted_prompt": prompts.hinted(mine, "calm"),
        "label_prompt": prompts.label(mine),
        "after_video": "",
        # 3 seconds at most 2 frames a second
        "meta": {
            **{"source": "mine_videos/train0.mp4", "start": 0.0, "seconds": 3.0},
            **{"frames": 6, "width": 56, "height": 56},
        },
    }
    assert {r.hinted_prompt for r in read_split("mine", "test")} == {None}
    assert probe(clip) == Clip(6, 56, 56, 2.0)
    assert [r.id for r in read_split("mine", "test")] == ["test0", "test1"]
    assert [r.id for r in read_split("mine", "val")] == ["val0"]


def test_label_rows_are_sharegpt_rows_of_the_labelled_training_samples(ws: Path) -> None:
    unlabelled = {"file": "mine.csv", "id": "id", "label": "label", "unlabelled": [""]}
    rows = small_dataset(per_split=FIVE_SAMPLES, annotations=unlabelled)
    write_csv("mine.csv", [*rows, {"id": "more", "split": "train", "label": ""}])
    write_video(Path("mine_videos/more.mp4"), seed=76)
    manifest = prepare_mine()
    train, label = read_jsonl("data/mine/train.jsonl"), read_jsonl("data/mine/label.jsonl")
    assert [r["label"] for r in train] == ["calm", "busy", None]
    assert [r["hinted_prompt"] is None for r in train] == [False, False, True]
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
    assert [row["id"] for row in read_jsonl("data/mine/label_val.jsonl")] == [
        row["id"] for row in read_jsonl("data/mine/val.jsonl")
    ]
    assert manifest["counts"] == {
        "train": {"calm": 1, "busy": 1, "": 1},
        "val": {"calm": 1, "busy": 0, "": 0},
        "test": {"calm": 1, "busy": 1, "": 0},
    }


def test_the_manifest_holds_counts_settings_and_hashes(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    manifest = prepare_mine()
    assert json.loads(Path("data/mine/manifest.json").read_text(encoding="utf-8")) == manifest
    assert read_manifest("mine").model_dump() == manifest
    assert list(manifest) == [
        *("dataset", "counts", "missing", "display", "clips", "largest_clip_pixels", "most_frames", "sha256"),
    ]
    nothing = {split: {"calm": 0, "busy": 0} for split in ("train", "val", "test")}
    assert manifest["missing"] == {"counts": nothing, "samples": []}
    assert manifest["display"] == {}
    assert manifest["dataset"] == "mine"
    assert manifest["clips"] == {"frames": 8, "max_fps": 2.0, "max_pixels": 3136, "multiple": 28, "crf": 18}
    assert (manifest["largest_clip_pixels"], manifest["most_frames"]) == (56 * 56, 8)
    assert list(manifest["sha256"]) == ["train.jsonl", "val.jsonl", "test.jsonl", "label.jsonl", "label_val.jsonl"]
    for name, sha in manifest["sha256"].items():
        assert hashlib.sha256(Path("data/mine", name).read_bytes()).hexdigest() == sha
    assert str(ws) not in Path("data/mine/manifest.json").read_text(encoding="utf-8")


def test_both_harnesses_know_a_prepared_dataset(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    prepare_mine()
    assert "mine_label" in json.loads(Path("dataset_info/dataset_info.json").read_text(encoding="utf-8"))
    assert Path("task_configs/rbft_mine.yaml").is_file()


def test_videos_that_cannot_be_used_are_all_named_and_nothing_but_clips_is_left(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    prepare_mine()
    rows = {p: p.read_bytes() for p in Path("data/mine").glob("*.jsonl")}
    Path("mine_videos/train0.mp4").unlink()
    Path("mine_videos/val0.mp4").write_bytes(b"")
    Path("mine_videos/test1.mp4").write_bytes(b"no video, whatever it is called")
    write_video(Path("mine_videos/test0.mp4"), seed=78)
    with pytest.raises(ProblemsError) as raised:
        prepare_mine()
    assert str(raised.value) == (
        "mine: videos that cannot be used: 3 problems\n"
        "  - row 1 (id 'train0'): mine_videos/train0.mp4 does not exist\n"
        "  - row 3 (id 'val0'): mine_videos/val0.mp4 is empty\n"
        "  - row 5 (id 'test1'): mine_videos/test1.mp4 cannot be opened (Invalid data found when processing input)\n"
        "Repair them, or remove their rows; then prepare again."
    )
    assert {p: p.read_bytes() for p in Path("data/mine").glob("*.jsonl")} == rows
    assert not Path("data/mine/manifest.json").exists()
    assert len(clip_times()) == 6  # the five, and that of the new test0
    with pytest.raises(RbftError) as missing:
        read_split("mine", "train")
    assert str(missing.value) == "data/mine/manifest.json is missing: run `rbft prepare mine` first"


def test_nothing_is_registered_or_written_where_the_first_prepare_fails(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    registered = Path("dataset_info/dataset_info.json").read_bytes()
    Path("mine_videos/train0.mp4").unlink()
    with pytest.raises(ProblemsError):
        prepare_mine()
    assert sorted(p.name for p in Path("data/mine").iterdir()) == [".prepare.lock", "clips", "sources"]
    assert len(clip_times()) == 4
    assert Path("dataset_info/dataset_info.json").read_bytes() == registered


def test_counts_have_every_label_of_every_split_and_those_without_one_last(ws: Path) -> None:
    write_yaml(small_yaml())
    mine = dataset.load("mine")
    one = annotations.Sample("a", Path("a.mp4"), "busy", "train", 1)
    table = {split: {"calm": 0, "busy": 0} for split in ("train", "val", "test")}
    assert counts(mine, []) == table
    assert counts(mine, [one]) == table | {"train": {"calm": 0, "busy": 1}}
    other = annotations.Sample("b", Path("b.mp4"), None, "train", 2)
    assert counts(mine, [one, other])["train"] == {"calm": 0, "busy": 1, "": 1}
    assert list(counts(mine, [one, other])["val"]) == ["calm", "busy", ""]


def test_a_dataset_without_test_samples_is_refused(ws: Path) -> None:
    small_dataset(per_split={"train": 2})
    with pytest.raises(ProblemsError) as error:
        prepare_mine()
    assert str(error.value) == "mine: 1 problem\n  - split 'test' has no sample\nSee `splits` in its YAML."


def test_the_same_video_in_two_splits_is_refused(ws: Path) -> None:
    rows = small_dataset(per_split=FIVE_SAMPLES)
    shutil.copy("mine_videos/train1.mp4", "mine_videos/test0.mp4")
    shutil.copy("mine_videos/train1.mp4", "mine_videos/train0.mp4")  # twice in one split is no leak
    with pytest.raises(ProblemsError) as error:
        prepare_mine()
    number = {row["id"]: i for i, row in enumerate(rows, 1)}
    assert str(error.value) == (
        "mine: the same video in two splits: 1 problem\n"
        f"  - row {number['train0']} (id 'train0', train) and row {number['test0']} (id 'test0', test): "
        "mine_videos/test0.mp4\nRemove all but one of its rows."
    )
    assert not Path("data/mine/manifest.json").exists()


def test_parts_of_one_video_are_a_leak_where_they_have_a_moment_in_common(ws: Path) -> None:
    small_dataset(
        per_split={"train": 2, "test": 2}, videos="mine_videos/{file}.mp4", segment={"start": "a", "end": "b"}
    )
    rows = [
        {"id": f"{split}{i}", "split": split, "label": label, "file": f"{split}{i}", "a": "0", "b": "2"}
        for split in ("train", "test")
        for i, label in enumerate(("calm", "busy"))
    ]
    rows[2] |= {"file": "train0", "a": "2", "b": "3"}
    write_csv("mine.csv", rows)
    assert prepare_mine()["counts"]["test"] == {"calm": 1, "busy": 1}
    rows[2] |= {"a": "1.5"}
    write_csv("mine.csv", rows)
    with pytest.raises(ProblemsError, match=r"row 1 \(id 'train0', train\) and row 3 \(id 'test0', test\)"):
        prepare_mine()


def test_a_second_run_makes_nothing_and_says_so_without_loading_a_decoder(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    prepare_mine()
    files = {p: p.stat().st_mtime_ns for p in Path("data").rglob("*") if p.is_file() and p.name != ".prepare.lock"}
    script = (
        "import sys; sys.argv = ['rbft', 'prepare', 'mine']; from rbft_plugin.cli.main import main; main()\n"
        "print([m for m in ('av', 'decord', 'torch', 'datasets', 'numpy') if m in sys.modules])"
    )
    code = f"try:\n  {script.splitlines()[0]}\nexcept SystemExit: pass\n{script.splitlines()[1]}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "clips: all there already, none made" in done.stdout and done.stdout.splitlines()[-1] == "[]"
    assert {p: p.stat().st_mtime_ns for p in files} == files


def test_clips_of_no_sample_are_counted_and_kept(ws: Path) -> None:
    rows = small_dataset(per_split=FIVE_SAMPLES)
    prepare_mine()
    gone = clip_of("train", 1)
    write_video(Path("mine_videos/train1.mp4"), seed=90)
    result = prepare(dataset.load("mine"))
    assert (result.new, result.unused, result.unused_bytes) == (1, 1, gone.stat().st_size)
    assert len(rows) == 5 and len(clip_times()) == 6


def test_as_many_videos_may_be_missing_as_the_yaml_allows(ws: Path) -> None:
    small_dataset(per_split={"train": 4, "val": 2, "test": 4}, max_missing=2)
    Path("mine_videos/train0.mp4").unlink()
    Path("mine_videos/test3.mp4").write_bytes(b"")
    manifest = prepare_mine()
    assert manifest["counts"]["train"] == {"calm": 1, "busy": 2}
    assert manifest["missing"] == {
        "counts": {
            "train": {"calm": 1, "busy": 0},
            "val": {"calm": 0, "busy": 0},
            "test": {"calm": 0, "busy": 1},
        },
        "samples": [
            {
                **{"id": "train0", "split": "train", "label": "calm"},
                **{"video": "mine_videos/train0.mp4", "reason": "does not exist"},
            },
            {
                **{"id": "test3", "split": "test", "label": "busy"},
                **{"video": "mine_videos/test3.mp4", "reason": "is empty"},
            },
        ],
    }
    assert [r.id for r in read_split("mine", "train")] == ["train1", "train2", "train3"]
    Path("mine_videos/test1.mp4").unlink()
    with pytest.raises(ProblemsError) as error:
        prepare_mine()
    assert str(error.value).splitlines()[0] == "mine: videos that cannot be used: 3 problems"
    assert str(error.value).splitlines()[-1] == (
        "Repair them, or remove their rows (max_missing in its YAML allows 2); then prepare again."
    )
    assert not Path("data/mine/manifest.json").exists()


def test_no_video_at_all_is_told_like_any_other(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    shutil.rmtree("mine_videos")
    with pytest.raises(ProblemsError, match="mine: videos that cannot be used: 5 problems"):
        prepare_mine()


def test_a_class_without_a_video_left_is_an_error(ws: Path) -> None:
    small_dataset(per_split={"train": 2, "test": 4}, max_missing=5)
    for name in ("test1", "test3"):
        Path(f"mine_videos/{name}.mp4").unlink()
    with pytest.raises(ProblemsError) as error:
        prepare_mine()
    assert str(error.value) == (
        "mine: 1 problem\n  - split 'test' has no sample of label 'busy' that can be used\n"
        "Get their videos; then prepare again."
    )


def test_many_videos_that_cannot_be_used_are_told_by_reason_and_listed_in_a_file(ws: Path) -> None:
    rows = small_dataset(per_split=FIVE_SAMPLES)
    more = [{"id": f"gone{i}", "split": "train", "label": "calm"} for i in range(60)]
    write_csv("mine.csv", [*rows, *more])
    Path("mine_videos/val0.mp4").write_bytes(b"")
    with pytest.raises(ProblemsError) as error:
        prepare_mine()
    assert str(error.value) == (
        "mine: videos that cannot be used: 3 problems\n"
        "  - 60 videos: does not exist, such as row 6 (id 'gone0'): mine_videos/gone0.mp4, "
        "row 7 (id 'gone1'): mine_videos/gone1.mp4, row 8 (id 'gone2'): mine_videos/gone2.mp4 and 57 more\n"
        "  - 1 videos: is empty, such as row 3 (id 'val0'): mine_videos/val0.mp4\n"
        "  - all 61 are listed in data/mine/missing.txt\n"
        "Repair them, or remove their rows; then prepare again."
    )
    listed = Path("data/mine/missing.txt").read_text().splitlines()
    assert len(listed) == 61 and listed[0] == "row 3 (id 'val0'): mine_videos/val0.mp4 is empty"


def test_segments_of_one_video_have_clips_of_their_own(ws: Path) -> None:
    write_video(Path("mine_videos/long.mp4"), seconds=8, seed=1)
    write_video(Path("mine_videos/other.mp4"), seconds=8, seed=2)
    spans = [("a", "long", "train", "calm", 0, 4), ("b", "long", "train", "busy", 4, 8)]
    spans += [("c", "other", "test", "calm", 0, 2), ("d", "other", "test", "busy", 1, 8)]
    names = ("id", "file", "split", "label", "start", "end")
    rows = [dict(zip(names, map(str, span), strict=True)) for span in spans]
    write_csv("mine.csv", rows)
    segment = {"start": "start", "end": "end"}
    write_yaml(small_yaml(videos="mine_videos/{file}.mp4", segment=segment))
    prepare_mine()
    made = read_split("mine", "train") + read_split("mine", "test")
    assert [(r.meta.start, r.meta.seconds) for r in made] == [(0, 4), (4, 4), (0, 2), (1, 7)]
    assert len({r.video for r in made}) == 4
    write_csv("mine.csv", [*rows, dict(zip(names, ("e", "long", "test", "calm", "7", "8"), strict=True))])
    with pytest.raises(
        ProblemsError, match=r"(?s)same video in two splits.*\(id 'b', train\) and row 5 \(id 'e', test\)"
    ):
        prepare_mine()
