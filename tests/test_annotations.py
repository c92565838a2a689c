"""annotations: real files of every format, odd ones among them, and the whole text of every complaint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import small_yaml, write_csv, write_yaml

from rbft_plugin import annotations, dataset
from rbft_plugin.annotations import Sample
from rbft_plugin.errors import ProblemsError, RbftError

ROWS = [{"id": "a", "split": "train", "label": "calm"}, {"id": "b", "split": "test", "label": "busy"}]


def read(**changes: Any) -> list[Sample]:
    write_yaml(small_yaml(**changes))
    return annotations.samples(dataset.load("mine"))


def said(**changes: Any) -> str:
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
        Sample("a", Path("mine_videos/a.mp4"), "calm", "train", 1),
        Sample("b", Path("mine_videos/b.mp4"), "busy", "test", 2),
    ]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["bare", "byte-order mark"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["unix", "windows"])
def test_a_csv_is_read_with_or_without_a_byte_order_mark(tmp_path: Path, mark: bytes, end: bytes) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(mark + end.join([b"id,text", 'ä,"one, two"'.encode(), b"", b'b,"line', b'line"', b""]))
    line = f"line{end.decode()}line"
    assert annotations.read_rows(path) == [{"id": "ä", "text": "one, two"}, {"id": "b", "text": line}]


def test_a_tsv_is_cut_at_tabs_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.TSV"
    path.write_text("id\tlabel\na, b\tvery calm\n", encoding="utf-8")
    assert annotations.read_rows(path) == [{"id": "a, b", "label": "very calm"}]


def test_values_of_json_lines_become_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\ufeff{"id": 7, "label": null}\n\n{"id": "b", "label": "é", "x": 0.5}\n', encoding="utf-8")
    assert annotations.read_rows(path) == [{"id": "7", "label": ""}, {"id": "b", "label": "é", "x": "0.5"}]


def test_a_missing_file_names_its_key_and_the_workspace(ws: Path) -> None:
    assert said() == f"mine.csv: no such file (annotations.file, relative to the workspace {ws})"


def test_rows_of_a_csv_have_as_many_cells_as_its_header(ws: Path) -> None:
    Path("mine.csv").write_text("id,split,label\na,train,calm\nb,train\nc,train,calm,more\n", encoding="utf-8")
    assert said() == "mine.csv: rows with more or fewer cells than the header: 2, 3"


def test_text_that_is_not_utf8_is_refused_with_its_line_far_into_a_file(ws: Path) -> None:
    rows = b"".join(b"id%d,train,calm\n" % i for i in range(5000))
    Path("mine.csv").write_bytes(b"id,split,label\n" + rows + b"caf\xe9,train,calm\n")
    assert said() == "mine.csv: line 5002: not UTF-8 text (invalid continuation byte); save it as UTF-8"


def test_a_cell_beyond_the_limit_of_csv_is_refused_with_its_line(ws: Path) -> None:
    Path("mine.csv").write_text(f"id,split,label\na,train,{'x' * 200_000}\n", encoding="utf-8")
    assert said() == "mine.csv: line 2: field larger than field limit (131072)"


def test_json_lines_that_are_none_are_refused_with_their_line(ws: Path) -> None:
    changes = jsonl(ROWS[0])
    with Path("mine.jsonl").open("a") as file:
        file.write("\n{'id': 1}\n")
    text = "mine.jsonl: line 3: not JSON (Expecting property name enclosed in double quotes)"
    assert said(**changes) == text
    assert said(**jsonl(ROWS[0], [1, 2])) == "mine.jsonl: line 2: must be a JSON object"


def test_every_missing_column_is_said_with_the_key_that_names_it(ws: Path) -> None:
    write_csv("mine.csv", [{"name": "a", "kind": "calm"}])
    assert said(videos="v/{id}_{part}.mp4") == (
        "mine.csv: 5 problems\n"
        "  - no column 'id', which annotations.id names; the columns are: name, kind\n"
        "  - no column 'label', which annotations.label names; the columns are: name, kind\n"
        "  - no column 'id', which videos ({id}) names; the columns are: name, kind\n"
        "  - no column 'part', which videos ({part}) names; the columns are: name, kind\n"
        "  - no column 'split', which splits.column names; the columns are: name, kind"
    )


def test_a_key_that_some_json_rows_lack_is_said_with_the_rows(ws: Path) -> None:
    lacking = {"id": "c", "split": "train"}
    assert said(**jsonl(ROWS[0], lacking, ROWS[1], lacking)) == (
        "mine.jsonl: 1 problem\n  - no 'label', which annotations.label names, in rows: 2, 4"
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
    assert said() == (
        "mine.csv: 4 problems\n"
        "  - id 'a' stands in 2 rows\n"
        "  - rows without an id: 3, 5\n"
        "  - column 'label' has values of no label: 'Busy' (2 rows), 'wild' (1 row); add each to the values of a "
        "label, or to annotations.unlabelled\n"
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
    assert said() == "mine.csv: 1 problem\n  - has no rows"
    Path("mine.csv").write_text("", encoding="utf-8")
    assert said() == "mine.csv: 1 problem\n  - has no rows"


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
    assert said(annotations=unlabelled) == (
        "mine.csv: 1 problem\n  - samples without a label outside the training split: e, f"
    )


def test_values_of_the_split_column_are_those_given_and_otherwise_the_names_of_splits(ws: Path) -> None:
    splits = {"column": "split", "values": {"train": ["train", "val"], "test": ["holdout"]}}
    rows = [{"id": s, "split": s, "label": "calm"} for s in ("train", "val", "holdout")]
    write_csv("mine.csv", rows)
    assert [s.split for s in read(splits=splits)] == ["train", "train", "test"]
    write_csv("mine.csv", [*rows, {"id": "x", "split": "test", "label": "calm"}])
    assert said(splits=splits).endswith("values of no split: 'test' (1 row); add each to splits.values")


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
    assert "no column 'VIDEOS', which videos ({VIDEOS}) names" in said(videos="${VIDEOS}/{id}.mp4")
