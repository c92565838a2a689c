"""A dataset with folds, from its YAML to the files, tasks and rows of each fold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import prepare_mine, read_jsonl, small_yaml, write_csv, write_video, write_yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rbft_plugin.data.prepared import PreparedSample, TrainingRow, read_manifest, read_split, splits_with_labels
from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.llamafactory import rows
from rbft_plugin.lmms_eval.task_files import task_files
from rbft_plugin.spec.dataset import load
from rbft_plugin.spec.names import parse_task, task_name
from rbft_plugin.spec.row_kinds import ROW_KINDS


def write_dataset(labels: list[str], **splits: Any) -> None:
    """A dataset `mine` of a video for each label ("" for none), with folds."""
    table = []
    for i, label in enumerate(labels):
        write_video(Path(f"mine_videos/v{i}.mp4"), seconds=3, seed=i)
        table.append({"id": f"v{i}", "label": label, "camera": f"c{i % 4}"})
    write_csv("mine.csv", table)
    source = {"file": "mine.csv", "id": "id", "label": "label", "unlabelled": [""]}
    write_yaml(small_yaml(annotations=source, splits={"folds": 2} | splits))


@pytest.fixture
def folded(ws: Path) -> None:
    write_dataset(["calm", "busy", "calm", "busy", "", "calm"])
    prepare_mine()


def test_all_samples_may_train_and_each_labelled_one_is_tested_in_one_fold(folded: None) -> None:
    train, test = read_jsonl("data/mine/train.jsonl"), read_jsonl("data/mine/test.jsonl")
    assert [row["id"] for row in train] == ["v0", "v1", "v2", "v3", "v4", "v5"]
    assert [row["id"] for row in test] == ["v0", "v1", "v2", "v3", "v5"]
    parts = [read_jsonl(f"data/mine/fold{fold}.jsonl") for fold in (0, 1)]
    assert sorted(row["id"] for part in parts for row in part) == ["v0", "v1", "v2", "v3", "v5"]
    assert all(row["fold"] == fold for fold, part in enumerate(parts) for row in part)
    assert [row.get("fold") for row in train if row["id"] == "v4"] == [None] and "fold" not in train[4]
    assert train[0]["hinted_prompt"] and not test[0]["hinted_prompt"]
    assert read_jsonl("data/mine/val.jsonl") == []
    manifest = read_manifest("mine")
    assert {split: sum(of.values()) for split, of in manifest.counts.items()} == {"train": 1, "fold0": 3, "fold1": 2}
    assert (manifest.in_file("train").total(), manifest.in_file("test").total()) == (6, 5)
    assert manifest.in_file("fold0") == manifest.counts["fold0"] and manifest.in_file("val").total() == 0
    assert splits_with_labels(load("mine")) == ("train", "test")


def test_each_fold_has_tasks_and_fewer_folds_have_fewer(folded: None) -> None:
    names = {path.stem for path in task_files(load("mine"))}
    assert {name for name in names if "fold" in name} == {
        f"rbft_mine{kind}_fold{fold}" for kind in ("", "_ll", "_novideo") for fold in (0, 1)
    }
    text = Path("task_configs/rbft_mine_ll_fold1.yaml").read_text()
    assert "include: rbft_mine_ll.yaml" in text and "../data/mine/fold1.jsonl" in text
    assert not Path("task_configs/rbft_mine_val.yaml").exists()
    path = Path("dataset_info/mine.yaml")
    path.write_text(path.read_text().replace("folds: 2", "ratio: {train: 0.4, val: 0.3, test: 0.3}"))
    prepare_mine()
    assert not list(Path("task_configs").glob("rbft_mine*_fold*.yaml"))
    assert Path("task_configs/rbft_mine_val.yaml").is_file()
    assert "fold" not in read_jsonl("data/mine/train.jsonl")[0]


@pytest.mark.parametrize("kind", ["label", "ll", "novideo"])
def test_names_of_tasks_say_the_fold(kind: str) -> None:
    name = task_name("a_b", kind, fold=12)
    assert parse_task(name) == ("a_b", kind, "test", 12)


@given(
    st.lists(st.tuples(st.sampled_from(["calm", "busy", None]), st.integers(0, 2)), min_size=1, max_size=30),
    st.sampled_from(list(ROW_KINDS)),
    st.sets(st.integers(0, 2), min_size=1, max_size=2),
    st.integers(0, 3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_row_of_any_kind_is_of_a_sample_of_a_left_out_fold(
    dealt: list[tuple[str | None, int]], kind: str, without: set[int], seed: int
) -> None:
    """Neither its clip nor its rationale; shuffled rationales are those of other samples that are trained on."""
    samples = [_sample(f"s{i}", label, fold if label else None) for i, (label, fold) in enumerate(dealt)]
    rationales = [TrainingRow(s.id, "<video>Why?", f"text of {s.id}", s.video) for s in samples]
    part = rows.subset(samples, folds=without)
    made = rows.rows(part, ROW_KINDS[kind], rationales, seed=seed)
    tested = {s.id for s in samples if s.fold in without}
    assert not tested & {row.id for row in made}
    assert not tested & {row.video.split("/")[-1].removesuffix(".mp4") for row in made}
    assert not [row for row in made if any(f"text of {name}" in row.answer.splitlines() for name in tested)]


def _sample(name: str, label: str | None, fold: int | None) -> PreparedSample:
    from builders import prepared_sample

    return prepared_sample(name, label, fold=fold)


def test_rows_of_a_fold_are_written_by_a_command(folded: None) -> None:
    tested = {row["id"] for row in read_jsonl("data/mine/fold0.jsonl")}
    rows.write("mine", "label", Path("runs/r/rows/label.jsonl"), folds=[0])
    made = [row["id"] for row in read_jsonl("runs/r/rows/label.jsonl")]
    assert sorted(made) == sorted({"v0", "v1", "v2", "v3", "v5"} - tested)
    with pytest.raises(RbftError) as raised:
        rows.write("mine", "label", Path("label.jsonl"), folds=[0, 7])
    assert str(raised.value) == "mine: there is no fold 7; its folds are: 0, 1 (`splits.folds` in its YAML)"


def test_groups_stay_in_one_fold_and_take_their_unlabelled_samples_with_them(ws: Path) -> None:
    write_dataset(["calm", "busy", "calm", "busy", "", "busy", "calm", "calm"], group="camera")
    prepare_mine()
    fold_of = {sample.id: sample.fold for sample in read_split("mine", "train")}
    for camera in range(4):
        assert len({fold_of[f"v{i}"] for i in range(8) if i % 4 == camera}) == 1
    assert fold_of["v4"] == fold_of["v0"] is not None
    assert "v4" not in {row["id"] for row in read_jsonl("data/mine/test.jsonl")}  # it has no label


def test_the_same_moments_in_two_folds_are_a_leak(ws: Path) -> None:
    write_dataset(["calm", "busy", "calm", "busy"])
    write_video(Path("mine_videos/v2.mp4"), seconds=3, seed=0)  # as v0
    with pytest.raises(ProblemsError, match="mine: the same video in two splits"):
        prepare_mine()


def test_folds_go_with_no_other_way_to_split(ws: Path) -> None:
    write_dataset(["calm", "busy"] * 2, ratio={"train": 0.5, "test": 0.5})
    with pytest.raises(ProblemsError, match="give 'column', or 'ratio', 'ids' or both, or 'folds'"):
        load("mine")
    write_yaml(small_yaml("mine_fold2"))
    with pytest.raises(ProblemsError, match="name: must not end in fold and a number: tasks of folds are named so"):
        load("mine_fold2")


def test_too_few_samples_for_the_folds_are_said_with_their_file(ws: Path) -> None:
    write_dataset(["calm"] * 4 + ["busy"], folds=3)
    with pytest.raises(ProblemsError) as raised:
        prepare_mine()
    assert str(raised.value) == (
        "dataset_info/mine.yaml: splits.folds: 1 problem\n"
        "  - label 'busy' has 1 sample, fewer than 3 folds\n"
        "Take fewer folds, or label more samples."
    )


def test_datasets_without_folds_are_what_they_were(ws: Path) -> None:
    sample = _sample("a", "calm", None)
    assert "fold" not in json.loads(sample.model_dump_json())
