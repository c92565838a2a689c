"""annotations: real files of every format, odd ones among them, and the whole text of every complaint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import small_yaml, write_csv, write_yaml

from rbft_plugin.clips.video import WHOLE, Part
from rbft_plugin.data import annotations
from rbft_plugin.data.annotations import Sample
from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.spec import dataset

ROWS = [{"id": "a", "split": "train", "label": "calm"}, {"id": "b", "split": "test", "label": "busy"}]


def read(**changes: Any) -> list[Sample]:
    write_yaml(small_yaml(**changes))
    return annotations.read_annotations(dataset.load("mine")).samples


def message(**changes: Any) -> str:
    with pytest.raises(RbftError) as raised:
        read(**changes)
    return str(raised.value)


def jsonl(*rows: Any) -> dict[str, Any]:
    """Write mine.jsonl; the change of the YAML that reads it."""
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"annotations": {"file": "mine.jsonl", "id": "id", "label": "label"}}


def test_rows_become_samples_in_the_order_of_the_file(ws: Path) -> None:
    write_csv("mine.csv", ROWS)
    assert read() == [
        Sample("a", Path("mine_videos/a.mp4"), "calm", "train", "row 1"),
        Sample("b", Path("mine_videos/b.mp4"), "busy", "test", "row 2"),
    ]


def test_a_missing_file_names_its_key_and_the_workspace(ws: Path) -> None:
    assert message() == f"mine.csv: no such file (annotations.file, relative to the workspace {ws})"


def test_every_missing_column_is_said_with_the_key_that_names_it(ws: Path) -> None:
    write_csv("mine.csv", [{"name": "a", "kind": "calm"}])
    assert message(videos="v/{id}_{part}.mp4") == (
        "mine.csv: 5 problems\n"
        "  - no column 'id', which annotations.id names; the columns are: name, kind\n"
        "  - no column 'label', which annotations.label names; the columns are: name, kind\n"
        "  - no column 'id', which videos ({id}) names; the columns are: name, kind\n"
        "  - no column 'part', which videos ({part}) names; the columns are: name, kind\n"
        "  - no column 'split', which splits.column names; the columns are: name, kind"
    )


def test_a_key_that_some_json_rows_lack_is_said_with_the_rows(ws: Path) -> None:
    lacking = {"id": "c", "split": "train"}
    assert message(**jsonl(ROWS[0], lacking, ROWS[1], lacking)) == (
        "mine.jsonl: 1 problem\n  - no 'label', which annotations.label names, in: row 2, row 4"
    )


def test_what_is_shown_and_segments_may_be_missing_in_some_json_rows_but_not_in_all(ws: Path) -> None:
    keys = {"segment": {"start": "from"}, "prompts": {"context": {"Title": "title"}}}
    samples = read(**jsonl(ROWS[0] | {"title": "A", "from": 2}, ROWS[1]), **keys)
    assert [(s.context, s.part) for s in samples] == [((("Title", "A"),), Part(2.0)), ((), WHOLE)]
    assert message(**jsonl(*ROWS), **keys) == (
        "mine.jsonl: 2 problems\n"
        "  - no column 'from', which segment.start names; the columns are: id, split, label\n"
        "  - no column 'title', which prompts.context.Title names; the columns are: id, split, label"
    )


def test_all_that_is_wrong_with_the_rows_is_said_at_once(ws: Path) -> None:
    rows = [
        {"id": "a", "split": "train", "label": "calm"},
        {"id": "a", "split": "train", "label": "Busy"},
        {"id": "", "split": "dev", "label": "Busy"},
        {"id": "b", "split": "test", "label": "wild"},
        {"id": "", "split": "", "label": "calm"},
    ]
    write_csv("mine.csv", rows)
    assert message() == (
        "mine.csv: 4 problems\n"
        "  - id 'a' stands in 2 rows\n"
        "  - without an id: row 3, row 5\n"
        "  - column 'label' has values of no label: 'Busy' (2 rows), 'wild' (1 row); add each to the values of a "
        "label, to annotations.unlabelled or to annotations.drop\n"
        "  - column 'split' has values of no split: 'dev' (1 row), '' (1 row); add each to splits.values"
    )


def test_many_unknown_values_are_shortened(ws: Path) -> None:
    write_csv("mine.csv", [{"id": f"v{i}", "split": "train", "label": f"label{i}"} for i in range(23)])
    with pytest.raises(ProblemsError) as raised:
        read()
    (problem,) = raised.value.problems
    assert "'label19' (1 row) and 3 more; add each" in problem and "label20" not in problem


def test_a_file_without_rows_is_refused(ws: Path) -> None:
    Path("mine.csv").write_text("id,split,label\n", encoding="utf-8")
    assert message() == "mine.csv: 1 problem\n  - has no rows"
    Path("mine.csv").write_text("", encoding="utf-8")
    assert message() == "mine.csv: 1 problem\n  - has no rows"


def test_raw_values_become_labels_and_spaces_around_them_do_not_matter(ws: Path) -> None:
    labels = [
        {"name": "calm", "description": "x", "values": ["0", "none"]},
        {"name": "busy", "description": "x", "values": ["1"]},
    ]
    values = ["0", " none ", "1"]
    write_csv("mine.csv", [{"id": str(i), "split": " train", "label": v} for i, v in enumerate(values)])
    assert [(s.label, s.split) for s in read(labels=labels)] == [
        ("calm", "train"),
        ("calm", "train"),
        ("busy", "train"),
    ]


def test_unlabelled_samples_may_only_train(ws: Path) -> None:
    unlabelled = {"file": "mine.csv", "id": "id", "label": "label", "unlabelled": ["", "?"]}
    rows = [*ROWS, {"id": "c", "split": "train", "label": ""}, {"id": "d", "split": "train", "label": "?"}]
    write_csv("mine.csv", rows)
    assert [s.label for s in read(annotations=unlabelled)] == ["calm", "busy", None, None]
    write_csv("mine.csv", [*rows, {"id": "e", "split": "test", "label": ""}, {"id": "f", "split": "val", "label": "?"}])
    assert message(annotations=unlabelled) == (
        "mine.csv: 1 problem\n  - samples without a label outside the training split: e, f"
    )


def test_values_of_the_split_column_are_those_given_and_otherwise_the_names_of_splits(ws: Path) -> None:
    splits = {"column": "split", "values": {"train": ["train", "val"], "test": ["holdout"]}}
    rows = [{"id": s, "split": s, "label": "calm"} for s in ("train", "val", "holdout")]
    write_csv("mine.csv", rows)
    assert [s.split for s in read(splits=splits)] == ["train", "train", "test"]
    write_csv("mine.csv", [*rows, {"id": "x", "split": "test", "label": "calm"}])
    assert message(splits=splits).endswith("values of no split: 'test' (1 row); add each to splits.values")


def test_by_ratio_samples_have_no_split_yet(ws: Path) -> None:
    write_csv("mine.csv", ROWS)
    assert [s.split for s in read(splits={"ratio": {"train": 0.5, "test": 0.5}})] == [None, None]


def test_the_place_of_videos_may_hold_columns_variables_and_the_home_folder(
    ws: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIDEOS", "somewhere")
    monkeypatch.setenv("HOME", "/home/me")
    write_csv("mine.csv", [{"id": "$VIDEOS", "split": "train", "label": "calm"}])
    assert read(videos="$VIDEOS/{split}/{id}.mp4")[0].video == Path("somewhere/train/$VIDEOS.mp4")
    assert read(videos="${VIDEOS}/{id}.mp4")[0].video == Path("somewhere/$VIDEOS.mp4")
    assert read(videos="~/{id}.mp4")[0].video == Path("/home/me/$VIDEOS.mp4")
    monkeypatch.delenv("VIDEOS")
    assert "no column 'VIDEOS', which videos ({VIDEOS}) names" in message(videos="${VIDEOS}/{id}.mp4")


def mine(**more: Any) -> dict[str, Any]:
    """The annotations key of the small dataset, and more keys of it."""
    return {"annotations": {"file": "mine.csv", "id": "id", "label": "label"} | more}


def test_dropped_values_are_left_out_and_counted(ws: Path) -> None:
    rows = [*ROWS, {"id": "c", "split": "test", "label": "unclear"}, {"id": "d", "split": "test", "label": " bad"}]
    write_csv("mine.csv", [*rows, {"id": "e", "split": "test", "label": "unclear"}])
    write_yaml(small_yaml(**mine(drop=["unclear", "bad", "never"])))
    annotated = annotations.read_annotations(dataset.load("mine"))
    assert [s.id for s in annotated.samples] == ["a", "b"]
    assert annotated.dropped == ("left out, as annotations.drop says: 'unclear' (2 rows), 'bad' (1 row)",)


def test_remarks_of_the_source_are_kept(ws: Path) -> None:
    write_csv("mine.csv", ROWS)
    write_csv("title.csv", [{"id": "a", "title": "A"}])
    write_yaml(small_yaml(**mine(join=[{"file": "title.csv"}])))
    assert annotations.read_annotations(dataset.load("mine")).warnings == (
        "title.csv: no row for 1 of 2 samples; their title is empty",
    )


def test_hidden_columns_that_are_not_there_are_a_remark(ws: Path) -> None:
    write_csv("mine.csv", [row | {"reason": "x"} for row in ROWS])
    write_yaml(small_yaml(**mine(hidden=["reason"])))
    assert annotations.read_annotations(dataset.load("mine")).warnings == ()
    write_yaml(small_yaml(**mine(hidden=["reasons", "reason", "Votes"])))
    assert annotations.read_annotations(dataset.load("mine")).warnings == (
        "annotations.hidden names columns that no row has, and so keeps nothing from prompts: 'reasons', 'Votes'",
    )


def test_a_folder_of_class_folders_needs_no_annotation_file(ws: Path) -> None:
    for name in ("calm/a.mp4", "BUSY/b.avi"):
        Path("v", name).parent.mkdir(parents=True)
        Path("v", name).touch()
    labels = [{"name": "calm", "description": "x"}, {"name": "busy", "description": "x", "values": ["BUSY"]}]
    few = {"annotations": {"folder": "v"}, "videos": None, "splits": {"ratio": {"train": 0.5, "test": 0.5}}}
    samples = read(labels=labels, **few)
    assert samples == [
        Sample("BUSY/b.avi", Path("v/BUSY/b.avi"), "busy", None, "BUSY/b.avi"),
        Sample("calm/a.mp4", Path("v/calm/a.mp4"), "calm", None, "calm/a.mp4"),
    ]
    assert samples[0].problem("is empty") == "BUSY/b.avi: v/BUSY/b.avi is empty"


def test_a_hub_dataset_brings_its_videos(ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rbft_plugin.data import sources

    cells = {"clip": "x/a.mp4", "kind": "calm", "id": "train-0"}
    source = sources.Source("theirs", [sources.Row("train row 1", cells, "train")], videos="{clip}")
    monkeypatch.setattr("rbft_plugin.data.hub.read", lambda dataset, hub: source)
    hub = {"annotations": {"hub": {"path": "theirs", "video": "clip"}, "label": "kind"}, "videos": None, "splits": None}
    assert read(**hub) == [Sample("train-0", Path("x/a.mp4"), "calm", "train", "train row 1")]


def test_segments_and_videos_that_cannot_be_are_named_by_their_rows(ws: Path) -> None:
    for name in ("a.mp4", "a.webm"):
        Path("v").mkdir(exist_ok=True)
        Path("v", name).touch()
    rows = [
        {"id": "x", "split": "train", "label": "calm", "file": "v/a", "from": "", "to": "1:00"},
        {"id": "y", "split": "train", "label": "calm", "file": "", "from": "5", "to": "4"},
        {"id": "z", "split": "test", "label": "busy", "file": "v/b", "from": "soon", "to": ""},
    ]
    write_csv("mine.csv", rows)
    assert message(videos="{file}", segment={"start": "from", "end": "to"}) == (
        "mine.csv: 4 problems\n"
        "  - row 1 (id 'x'): several videos fit v/a: a.mp4, a.webm; keep one of them\n"
        "  - row 2 (id 'y'): nothing is left between 5 s and 4 s (segment)\n"
        "  - row 2 (id 'y'): its row names no video\n"
        "  - row 3 (id 'z'): start 'soon' (segment): must be seconds or hours:minutes:seconds"
    )
    Path("v/a.webm").unlink()
    write_csv("mine.csv", rows[:1])
    (sample,) = read(videos="{file}", segment={"start": "from", "end": "to"})
    assert (sample.video, sample.part) == (Path("v/a.mp4"), Part(0.0, 60.0))


def test_context_is_shown_on_one_line_each_and_empty_texts_are_left_out(ws: Path) -> None:
    rows = [
        ROWS[0] | {"title": " A\n b ", "text": ""},
        ROWS[1] | {"title": "", "text": None},
    ]
    context = {"prompts": {"context": {"Title": "title", "What is said": "text"}}}
    assert [s.context for s in read(**jsonl(*rows), **context)] == [(("Title", "A b"),), ()]
    rows[1]["text"] = "an <image> of"
    assert message(**jsonl(*rows, rows[1] | {"id": "c"}), **context) == (
        "mine.jsonl: 1 problem\n"
        "  - column 'text', which prompts.context.What is said shows, holds '<video>' or '<image>', which training "
        "would take for one, in: row 2, row 3"
    )


def test_groups_are_those_of_a_column_and_an_empty_cell_is_none(ws: Path) -> None:
    write_csv("mine.csv", [ROWS[0] | {"camera": " one "}, ROWS[1] | {"camera": ""}])
    assert [s.group for s in read(splits={"column": "split", "group": "camera"})] == ["one", None]
    assert "no column 'place', which splits.group names" in message(splits={"column": "split", "group": "place"})


def ids(**files: str) -> dict[str, Any]:
    for split, text in files.items():
        Path(f"{split}.txt").write_text(text, encoding="utf-8")
    return {"splits": {"ids": {split: f"{split}.txt" for split in files}}}


def test_files_of_ids_say_the_splits_of_those_they_name(ws: Path) -> None:
    write_csv("mine.csv", [{"id": i, "label": "calm"} for i in ("a", "b", "c", "d e")])
    named = ids(test="\ufeff# the paper's\n\na\r\n d e \na\n", val="# none\nc")
    assert [s.split for s in read(**named)] == ["test", None, "val", "test"]


def test_ids_that_no_row_has_or_two_files_name_are_refused(ws: Path) -> None:
    write_csv("mine.csv", [{"id": i, "label": "calm"} for i in ("a", "b", "c")] + [{"id": "d", "label": "?"}])
    dropping = mine(drop=["?"])
    assert [s.split for s in read(**ids(test="a\nd"), **dropping)] == ["test", None, None]  # d is known, and left out
    assert message(**ids(test="a\nb\nx", val="b\na\ny"), **dropping) == (
        "mine.csv: 3 problems\n"
        "  - val.txt (splits.ids.val) names ids that are in no row: y\n"
        "  - test.txt (splits.ids.test) names ids that are in no row: x\n"
        "  - test.txt (splits.ids.test) names ids that another split's file names: a, b"
    )
    Path("test.txt").unlink()
    gone = {"splits": {"ids": {"test": "test.txt"}}}
    assert message(**gone, **dropping) == f"test.txt: no such file (splits.ids.test, relative to the workspace {ws})"
    Path("test.txt").write_bytes(b"a\n\xff\n")
    assert message(**gone, **dropping) == "test.txt: line 2: not UTF-8 text (invalid start byte); save it as UTF-8"


def test_samples_without_a_label_that_a_file_of_ids_tests_are_refused(ws: Path) -> None:
    write_csv("mine.csv", [{"id": "a", "label": ""}, {"id": "b", "label": "calm"}])
    assert message(**ids(test="a"), **mine(unlabelled=[""])) == (
        "mine.csv: 1 problem\n  - samples without a label outside the training split: a"
    )
