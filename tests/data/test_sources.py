"""sources: rows of files, of folders, and of files joined to them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from builders import small_yaml, write_csv

from rbft_plugin.data import sources
from rbft_plugin.data.sources import Row, Source
from rbft_plugin.errors import RbftError
from rbft_plugin.spec.dataset import Dataset

SHARES = {"ratio": {"train": 0.5, "test": 0.5}}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(annotations: dict[str, Any], **changes: Any) -> Source:
    return sources.read(Dataset.model_validate(small_yaml(annotations=annotations, **changes)))


def message(annotations: dict[str, Any], **changes: Any) -> str:
    with pytest.raises(RbftError) as raised:
        read(annotations, **changes)
    return str(raised.value)


def of_files(**files: list[dict[str, str]]) -> dict[str, Any]:
    for split, rows in files.items():
        write_csv(f"{split}.csv", rows)
    return {"file": {split: f"{split}.csv" for split in files}, "id": "id", "label": "label"}


def test_one_file_has_rows_without_a_split() -> None:
    write_csv("a.csv", [{"id": "x", "label": "calm"}])
    source = read({"file": "a.csv", "id": "id", "label": "label"})
    assert source == Source("a.csv", [Row("row 1", {"id": "x", "label": "calm"})])


def test_a_file_for_each_split_gives_it_to_its_rows() -> None:
    annotations = of_files(test=[{"id": "x"}], train=[{"id": "y"}, {"id": "z"}])
    assert read(annotations, splits=None) == Source(
        "train.csv, test.csv",
        [
            Row("train.csv row 1", {"id": "y"}, "train"),
            Row("train.csv row 2", {"id": "z"}, "train"),
            Row("test.csv row 1", {"id": "x"}, "test"),
        ],
    )


def test_files_of_one_name_are_told_apart_by_their_folders() -> None:
    for split in ("train", "test"):
        Path(split).mkdir()
        write_csv(f"{split}/a.csv", [{"id": split}])
    annotations = {"file": {"train": "train/a.csv", "test": "test/a.csv"}, "id": "id", "label": "label"}
    assert [row.where for row in read(annotations, splits=None).rows] == ["train/a.csv row 1", "test/a.csv row 1"]


def test_all_files_that_cannot_be_read_are_said_at_once(here: Path) -> None:
    annotations = of_files(train=[{"id": "x"}], test=[{"id": "y"}])
    Path("train.csv").unlink()
    Path("test.csv").write_text("id\n\0\n")
    assert message(annotations, splits=None) == (
        f"train.csv: no such file (annotations.file, relative to the workspace {here})\n"
        "test.csv: line 2: a null character; save it as UTF-8 text"
    )


def folders(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def test_class_folders_are_rows_with_their_labels() -> None:
    folders("v/busy/b.MP4", "v/calm/deep/a.webm", "v/calm/a.mp4", "v/calm/.hidden/a.mp4", "v/calm/._a.mp4")
    source = read({"folder": "v"}, videos=None, splits=SHARES)
    assert source == Source(
        "v",
        [
            Row("busy/b.MP4", {"id": "busy/b.MP4", "label": "busy", "path": "v/busy/b.MP4"}),
            Row("calm/a.mp4", {"id": "calm/a.mp4", "label": "calm", "path": "v/calm/a.mp4"}),
            Row("calm/deep/a.webm", {"id": "calm/deep/a.webm", "label": "calm", "path": "v/calm/deep/a.webm"}),
        ],
        videos="{path}",
    )


def test_a_folder_for_each_split_begins_the_ids() -> None:
    folders("a/calm/x.mp4", "b/calm/x.mp4")
    rows = read({"folder": {"test": "b", "train": "a"}}, videos=None, splits=None).rows
    assert [(row.where, row.cells["id"], row.split) for row in rows] == [
        ("train/calm/x.mp4", "train/calm/x.mp4", "train"),
        ("test/calm/x.mp4", "test/calm/x.mp4", "test"),
    ]


def test_files_of_a_folder_that_are_no_videos_are_counted() -> None:
    folders("v/calm/a.mp4", "v/calm/a.txt", "v/readme.md")
    notes = read({"folder": "v"}, videos=None, splits=SHARES).notes
    assert notes == ("2 files that are no videos are left out: v/readme.md, v/calm/a.txt",)


def test_linked_folders_are_followed_but_not_round_and_round() -> None:
    folders("v/calm/a.mp4", "elsewhere/b.mp4")
    Path("v/busy").symlink_to(Path("elsewhere").resolve())
    Path("v/calm/again").symlink_to(Path("v").resolve())
    rows = read({"folder": "v"}, videos=None, splits=SHARES).rows
    assert [row.cells["id"] for row in rows] == ["busy/b.mp4", "calm/a.mp4"]


def test_folders_that_are_not_there_or_not_by_class_are_said(here: Path) -> None:
    folders("v/a.mp4", "v/calm/b.mp4")
    Path(b"v/calm/\xff.mp4".decode("utf-8", "surrogateescape")).touch()
    assert message({"folder": {"train": "v", "test": "w"}}, videos=None, splits=None) == (
        "annotations.folder: 3 problems\n"
        "  - v/a.mp4: is in no class folder (v/<label>/a.mp4)\n"
        "  - v/calm/?.mp4: its name is not UTF-8 text\n"
        f"  - w: no such folder (annotations.folder, relative to the workspace {here})"
    )


def test_a_class_folder_that_may_not_be_read_is_said_and_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    folders("v/busy/a.mp4", "v/calm/b.mp4")
    scandir = os.scandir

    def refusing(path: Any) -> Any:  # rights mean nothing to root
        if Path(path).name == "calm":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert message({"folder": "v"}, videos=None, splits=SHARES) == "v/calm: cannot be read (Permission denied)"


BASE = [{"id": "a", "label": "calm"}, {"id": "b", "label": "busy"}, {"id": "c", "label": "busy"}]


def joining(*joins: dict[str, Any]) -> dict[str, Any]:
    write_csv("a.csv", BASE)
    return {"file": "a.csv", "id": "id", "label": "label", "join": list(joins)}


def test_joined_columns_come_by_id_and_rows_without_a_partner_are_counted() -> None:
    texts = {"b": {"title": "B", "label": "x"}, "a": {"title": "A"}, "z": {"title": "Z"}}
    Path("text.json").write_text(json.dumps(texts))
    write_csv("trim.csv", [{"clip": "c", "Time": "3"}])
    source = read(joining({"file": "text.json", "columns": ["title"]}, {"file": "trim.csv", "id": "clip"}))
    assert [row.cells for row in source.rows] == [
        {"id": "a", "label": "calm", "title": "A", "Time": ""},
        {"id": "b", "label": "busy", "title": "B", "Time": ""},
        {"id": "c", "label": "busy", "title": "", "Time": "3"},
    ]
    assert source.notes == (
        "text.json: no row for 1 of 3 samples; their title is empty",
        "trim.csv: no row for 2 of 3 samples; their Time is empty",
    )


def test_what_cannot_be_joined_is_said_for_all_files_at_once(here: Path) -> None:
    write_csv("b.csv", [{"id": "a", "x": "1"}, {"id": "a", "x": "2"}, {"id": "b", "x": "3"}])
    write_csv("c.csv", [{"name": "a", "x": "1"}])
    join = {"file": "c.csv", "id": "clip", "columns": ["x", "title"]}
    assert message(joining({"file": "b.csv"}, join, {"file": "c.csv"}, {"file": "d.csv"})) == (
        "b.csv: 1 problem\n"
        "  - id 'a' stands in 2 rows\n"
        "c.csv: 2 problems\n"
        "  - no column 'clip', which annotations.join[1].id names; the columns are: name, x\n"
        "  - no column 'title', which annotations.join[1].columns names; the columns are: name, x\n"
        "c.csv: 1 problem\n"
        "  - no column 'id', which annotations.id names; the columns are: name, x\n"
        f"d.csv: no such file (annotations.join[3].file, relative to the workspace {here})"
    )


def test_rows_without_the_column_of_ids_are_not_joined() -> None:
    annotations = joining({"file": "b.csv"})
    write_csv("b.csv", [{"id": "a", "x": "1"}])
    write_csv("a.csv", [{"name": "a", "label": "calm"}])
    assert message(annotations) == (
        "a.csv: 1 problem\n  - no column 'id', which annotations.id names; the columns are: name, label"
    )
    write_csv("a.csv", [{"name": "a", " id": "calm"}])  # as people write CSV by hand: "name, id"
    assert message(annotations) == (
        "a.csv: 1 problem\n  - no column 'id', which annotations.id names; the columns are: name, ' id'"
    )


def test_joined_columns_that_are_there_already_ask_for_columns() -> None:
    write_csv("b.csv", [{"id": "a", "label": "x", "title": "A"}])
    write_csv("c.csv", [{"id": "z", "x": "1"}])
    assert message(joining({"file": "b.csv"}, {"file": "c.csv"})) == (
        "b.csv: has columns that are there already: 'label'; name those to take in annotations.join[0].columns\n"
        "c.csv: has no row for any id of the annotations, such as 'a'"
    )
    assert read(joining({"file": "b.csv", "columns": ["title"]})).rows[0].cells["title"] == "A"
