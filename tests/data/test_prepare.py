"""preparation: what `check` says and what `prepare` leaves on disk, from real videos."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from builders import QUIET, read_jsonl, small_dataset, small_yaml, write_csv, write_video, write_yaml
from builders import prepare as prepare_and_register

from rbft_plugin.clips.canonical import clip_name, settings_key
from rbft_plugin.clips.video import Clip, Part, load_clip, probe
from rbft_plugin.data import annotations, prepared, prompts
from rbft_plugin.data import clip_index as journal
from rbft_plugin.data import clip_workers as making
from rbft_plugin.data import prepare as preparation
from rbft_plugin.data.clip_workers import Shard
from rbft_plugin.data.prepared import read_manifest, read_split, write_jsonl
from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.spec import dataset

FEW = {"train": 2, "val": 1, "test": 2}


def prepare(**options: Any) -> dict[str, Any]:
    return prepare_and_register(dataset.load("mine"), QUIET, **options).manifest.model_dump()


def clip_of(split: str = "train", index: int = 0) -> Path:
    return Path(read_jsonl(f"data/mine/{split}.jsonl")[index]["video"])


def journal_lines() -> list[str]:
    return [line for p in sorted(Path("data/mine/sources").iterdir()) for line in p.read_text().splitlines()]


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
        "video": f"data/mine/clips/{clip_name(Path('mine_videos/train0.mp4'), mine.clips)}",
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
    rows = small_dataset(per_split=FEW, annotations=unlabelled)
    write_csv("mine.csv", [*rows, {"id": "more", "split": "train", "label": ""}])
    write_video(Path("mine_videos/more.mp4"), seed=76)
    manifest = prepare()
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
    assert manifest["counts"] == {
        "train": {"calm": 1, "busy": 1, "": 1},
        "val": {"calm": 1, "busy": 0, "": 0},
        "test": {"calm": 1, "busy": 1, "": 0},
    }


def test_the_manifest_holds_counts_settings_and_hashes(ws: Path) -> None:
    small_dataset(per_split=FEW)
    manifest = prepare()
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
    assert list(manifest["sha256"]) == ["train.jsonl", "val.jsonl", "test.jsonl", "label.jsonl"]
    for name, sha in manifest["sha256"].items():
        assert hashlib.sha256(Path("data/mine", name).read_bytes()).hexdigest() == sha
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
    assert fresh == {clip_of("test")}
    assert {p: t for p, t in clip_times().items() if p in times} == times
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
    assert {r.meta.frames for r in read_split("mine", "train")} == {4}


def test_videos_of_the_same_content_share_a_clip(ws: Path) -> None:
    rows = small_dataset(per_split=FEW)
    copies = [rows[0] | {"id": f"copy{i}"} for i in range(6)]
    write_csv("mine.csv", [*copies, *rows])
    for row in copies:
        shutil.copy("mine_videos/train0.mp4", f"mine_videos/{row['id']}.mp4")
    prepare()
    assert len({row["video"] for row in read_jsonl("data/mine/train.jsonl")}) == 2
    assert len(clip_times()) == 5


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
        read_split("mine", "train")
    assert str(missing.value) == "data/mine/manifest.json is missing: run `rbft prepare mine` first"


def test_nothing_is_registered_or_written_where_the_first_prepare_fails(ws: Path) -> None:
    small_dataset(per_split=FEW)
    registered = Path("dataset_info/dataset_info.json").read_bytes()
    Path("mine_videos/train0.mp4").unlink()
    with pytest.raises(ProblemsError):
        prepare()
    assert sorted(p.name for p in Path("data/mine").iterdir()) == [".prepare.lock", "clips", "sources"]
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
    sha = write_jsonl(tmp_path / "deep/rows.jsonl", rows)
    content = (tmp_path / "deep/rows.jsonl").read_bytes()
    assert hashlib.sha256(content).hexdigest() == sha and "ä".encode() in content
    assert prepared.read_jsonl(tmp_path / "deep/rows.jsonl") == rows


def test_a_line_of_rows_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"id": 1}\n\n{"id": 2\n', encoding="utf-8")
    with pytest.raises(RbftError) as raised:
        prepared.read_jsonl(path)
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
    assert prepare()["counts"]["test"] == {"calm": 1, "busy": 1}
    rows[2] |= {"a": "1.5"}
    write_csv("mine.csv", rows)
    with pytest.raises(ProblemsError, match=r"row 1 \(id 'train0', train\) and row 3 \(id 'test0', test\)"):
        prepare()


def test_a_second_run_makes_nothing_and_says_so_without_loading_a_decoder(ws: Path) -> None:
    small_dataset(per_split=FEW)
    prepare()
    files = {p: p.stat().st_mtime_ns for p in Path("data").rglob("*") if p.is_file() and p.name != ".prepare.lock"}
    script = (
        "import sys; sys.argv = ['rbft', 'prepare', 'mine']; from rbft_plugin.cli.main import main; main()\n"
        "print([m for m in ('av', 'decord', 'torch', 'datasets') if m in sys.modules])"
    )
    code = f"try:\n  {script.splitlines()[0]}\nexcept SystemExit: pass\n{script.splitlines()[1]}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "clips: all there already, none made" in done.stdout and done.stdout.splitlines()[-1] == "[]"
    assert {p: p.stat().st_mtime_ns for p in files} == files


def test_what_is_known_of_clips_is_a_line_each_and_a_torn_one_is_passed_over(ws: Path) -> None:
    small_dataset(per_split=FEW)
    first = prepare()
    path = Path("data/mine/sources/all.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 5
    by_path = {json.loads(line)["path"]: line for line in lines}
    last = by_path["mine_videos/train0.mp4"]
    source, clip = Path("mine_videos/train0.mp4"), clip_of()
    assert json.loads(last) == {
        "path": "mine_videos/train0.mp4",
        "bytes": source.stat().st_size,
        "mtime_ns": source.stat().st_mtime_ns,
        "part": [0.0, None, 0.0],
        "settings": settings_key(dataset.load("mine").clips),
        "source": hashlib.sha256(source.read_bytes()).hexdigest(),
        "clip": clip.name,
        **{"frames": 6, "width": 56, "height": 56, "fps": 2.0, "size": clip.stat().st_size},
    }
    path.write_bytes(b"".join(line for line in lines if line != last) + last[:-30])  # as if killed while writing
    clip.unlink()
    prepared = prepare_and_register(dataset.load("mine"), QUIET)
    assert (prepared.new, prepared.manifest.model_dump()) == (1, first)
    assert path.read_bytes().splitlines(keepends=True)[-1] == last
    assert prepare_and_register(dataset.load("mine"), QUIET).new == 0


def test_all_clips_are_made_anew_if_asked(ws: Path) -> None:
    small_dataset(per_split=FEW)
    first, times = prepare(), clip_times()
    assert prepare(overwrite=True) == first
    assert {p for p, t in clip_times().items() if t == times[p]} == set()


def test_clips_of_no_sample_are_counted_and_kept(ws: Path) -> None:
    rows = small_dataset(per_split=FEW)
    prepare()
    gone = clip_of("train", 1)
    write_video(Path("mine_videos/train1.mp4"), seed=90)
    prepared = prepare_and_register(dataset.load("mine"), QUIET)
    assert (prepared.new, prepared.unused, prepared.unused_bytes) == (1, 1, gone.stat().st_size)
    assert len(rows) == 5 and len(clip_times()) == 6


def test_as_many_videos_may_be_missing_as_the_yaml_allows(ws: Path) -> None:
    small_dataset(per_split={"train": 4, "val": 2, "test": 4}, max_missing=2)
    Path("mine_videos/train0.mp4").unlink()
    Path("mine_videos/test3.mp4").write_bytes(b"")
    manifest = prepare()
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
        prepare()
    assert str(error.value).splitlines()[0] == "mine: videos that cannot be used: 3 problems"
    assert str(error.value).splitlines()[-1] == (
        "Mend them, or remove their rows (max_missing in its YAML allows 2); then prepare again."
    )
    assert not Path("data/mine/manifest.json").exists()


def test_no_video_at_all_is_told_like_any_other(ws: Path) -> None:
    small_dataset(per_split=FEW)
    shutil.rmtree("mine_videos")
    with pytest.raises(ProblemsError, match="mine: videos that cannot be used: 5 problems"):
        prepare()


def test_a_class_without_a_video_left_is_an_error(ws: Path) -> None:
    small_dataset(per_split={"train": 2, "test": 4}, max_missing=5)
    for name in ("test1", "test3"):
        Path(f"mine_videos/{name}.mp4").unlink()
    with pytest.raises(ProblemsError) as error:
        prepare()
    assert str(error.value) == (
        "mine: 1 problem\n  - split 'test' has no sample of label 'busy' that can be used\n"
        "Get their videos; then prepare again."
    )


def test_many_videos_that_cannot_be_used_are_told_by_reason_and_listed_in_a_file(ws: Path) -> None:
    rows = small_dataset(per_split=FEW)
    more = [{"id": f"gone{i}", "split": "train", "label": "calm"} for i in range(60)]
    write_csv("mine.csv", [*rows, *more])
    Path("mine_videos/val0.mp4").write_bytes(b"")
    with pytest.raises(ProblemsError) as error:
        prepare()
    assert str(error.value) == (
        "mine: videos that cannot be used: 3 problems\n"
        "  - 60 videos: does not exist, such as row 6 (id 'gone0'): mine_videos/gone0.mp4, "
        "row 7 (id 'gone1'): mine_videos/gone1.mp4, row 8 (id 'gone2'): mine_videos/gone2.mp4 and 57 more\n"
        "  - 1 videos: is empty, such as row 3 (id 'val0'): mine_videos/val0.mp4\n"
        "  - all 61 are listed in data/mine/missing.txt\n"
        "Mend them, or remove their rows; then prepare again."
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
    prepare()
    made = read_split("mine", "train") + read_split("mine", "test")
    assert [(r.meta.start, r.meta.seconds) for r in made] == [(0, 4), (4, 4), (0, 2), (1, 7)]
    assert len({r.video for r in made}) == 4
    write_csv("mine.csv", [*rows, dict(zip(names, ("e", "long", "test", "calm", "7", "8"), strict=True))])
    with pytest.raises(
        ProblemsError, match=r"(?s)same video in two splits.*\(id 'b', train\) and row 5 \(id 'e', test\)"
    ):
        prepare()


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", "from rbft_plugin.cli.main import main; main()", "prepare", "mine", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_four_shards_at_once_and_then_the_rows(ws: Path) -> None:
    small_dataset(per_split={"train": 6, "val": 1, "test": 5})
    running = [start("--shard", f"{i}/4", "--workers", "1") for i in range(1, 5)]
    said = [process.communicate()[0] for process in running]
    assert [p.returncode for p in running] == [0] * 4, said
    assert "shard 1/4: 3 samples, 3 new clips, 0 videos that cannot be used" in said[0]
    assert sorted(p.name for p in Path("data/mine").iterdir()) == ["clips", "sources"]
    assert sorted(p.name for p in Path("data/mine/sources").iterdir()) == [f"{i}-of-4.jsonl" for i in range(1, 5)]
    assert len(journal_lines()) == 12
    times = clip_times()
    prepared = prepare_and_register(dataset.load("mine"), QUIET)
    assert (prepared.new, len(times)) == (0, 12) and clip_times() == times


def test_two_at_the_same_time_do_no_harm(ws: Path) -> None:
    small_dataset(per_split={"train": 4, "val": 2, "test": 4})
    running = [start("--workers", "1") for _ in range(2)]
    said = [process.communicate()[0] for process in running]
    assert [p.returncode for p in running] == [0, 0], said
    assert len(clip_times()) == 10
    assert all(json.loads(line) for line in journal_lines())
    assert prepare_and_register(dataset.load("mine"), QUIET).new == 0


def test_one_that_is_killed_leaves_nothing_half_and_nobody_behind_and_goes_on(ws: Path) -> None:
    rows = small_dataset(per_split={"train": 3, "val": 1, "test": 2})
    for seed, row in enumerate(rows):  # larger, so that there is time
        write_video(Path(f"mine_videos/{row['id']}.mp4"), 4, 12, (320, 240), seed=seed)
    for round_ in range(2):
        process = start("--workers", "2")
        deadline = time.monotonic() + 30
        before = len(journal_lines()) if Path("data/mine/sources").exists() else 0
        while process.poll() is None and time.monotonic() < deadline:
            if Path("data/mine/sources").exists() and len(journal_lines()) > before + round_:
                break
            time.sleep(0.002)
        process.kill()
        process.communicate()
        for line in journal_lines()[:before]:
            clip = Path("data/mine/clips", json.loads(line)["clip"])
            assert clip.stat().st_size == json.loads(line)["size"]
        for clip in Path("data/mine/clips").glob("[!.]*"):
            assert len(load_clip(clip)[0]) == 8
    mine = str(ws.resolve())
    deadline = time.monotonic() + 10
    while (left := processes_in(mine)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    times = {p: t for p, t in clip_times().items() if not p.name.startswith(".")}
    prepare()  # it starts helpers of this process
    assert {p: t for p, t in clip_times().items() if p in times} == times
    assert len(list(Path("data/mine/clips").glob("[!.]*"))) == len({r["id"] for r in rows})


def processes_in(folder: str) -> list[str]:
    """Command lines of other processes that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "cwd") == folder and int(entry.name) != os.getpid():
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found.append(line)
        except OSError:
            continue
    return found


def test_a_video_that_ends_its_process_costs_that_video_alone(ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_dataset(per_split=FEW, max_missing=1)
    site = ws / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(  # as a decoder that a broken video crashes
        "import os\nimport av\nopen_ = av.open\n"
        "av.open = lambda file, *a, **k: os.abort() if 'val0' in str(file) else open_(file, *a, **k)\n"
    )
    script = (
        "from rbft_plugin.data.prepare import prepare\nfrom rbft_plugin.spec import dataset\n"
        "if __name__ == '__main__':\n"
        "    m = prepare(dataset.load('mine'), lambda i, n, t: i).manifest\n"
        "    print([(s.id, s.reason) for s in m.missing.samples])\n"
    )
    (ws / "script.py").write_text(script)
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    assert done.stdout == "[('val0', 'ends the process that decodes it (exit status -6)')]\n", done.stderr
    assert len(clip_times()) == 4


def test_a_long_path_of_temporary_files_is_no_obstacle(ws: Path) -> None:
    small_dataset(per_split=FEW)
    folder = ws / ("t" * 100)
    folder.mkdir()
    script = (
        "from rbft_plugin.data.prepare import prepare\nfrom rbft_plugin.spec import dataset\n"
        "if __name__ == '__main__':\n"
        "    print(prepare(dataset.load('mine'), lambda i, n, t: i).new)\n"
    )
    (ws / "script.py").write_text(script)
    environment = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, env=environment)
    assert done.stdout == "5\n", done.stderr


def test_a_video_of_many_parts_is_hashed_once(ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video, hashed = write_video(Path("long.mp4"), seconds=4), []
    monkeypatch.setattr(making, "source_hash", lambda path: hashed.append(path) or "x" * 64)
    settings = dataset.ClipSettings(frames=4, max_pixels=3136)
    parts = [Part(start, start + 1) for start in (0, 1, 2)]
    made = [making._make(making.Task(str(ws), video.name, part, "clips", settings, False)) for part in parts]
    assert len({m.clip for m in made if isinstance(m, journal.MadeClip)}) == 3
    assert hashed == [ws / "long.mp4"]
    os.utime(video, ns=(0, 0))
    making._make(making.Task(str(ws), video.name, parts[0], "clips", settings, False))
    assert len(hashed) == 2  # it may be another video now


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4"])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RbftError) as error:
        Shard.parse(text)
    assert str(error.value) == f"--shard {text}: must be i/n with 1 <= i <= n, such as 1/4, 2/4, 3/4 and 4/4"


def test_half_written_files_of_long_ago_are_removed_and_those_of_others_stay(ws: Path) -> None:
    small_dataset(per_split=FEW)
    folder = Path("data/mine/clips")
    folder.mkdir(parents=True)
    for name in (".old.part.mp4", ".new.part.mp4"):
        (folder / name).write_bytes(b"half")
    os.utime(folder / ".old.part.mp4", (0, 0))
    prepared = prepare_and_register(dataset.load("mine"), QUIET)
    assert [p.name for p in folder.glob(".*")] == [".new.part.mp4"] and prepared.unused == 1
