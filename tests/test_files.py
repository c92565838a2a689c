"""Files that are there complete or not at all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rbft_plugin import files
from rbft_plugin.errors import RbftError


def test_a_file_appears_with_its_folders_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a/b/c.json"
    files.write_json(path, {"größe": [1, None]})
    assert path.read_text(encoding="utf-8") == '{\n  "größe": [\n    1,\n    null\n  ]\n}\n'
    assert files.read_json(path) == {"größe": [1, None]}
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_says_the_same_already_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "same")
    os.utime(path, ns=(1, 1))
    files.write_text(path, "same")
    assert path.stat().st_mtime_ns == 1
    files.write_text(path, "other")
    assert path.stat().st_mtime_ns > 1 and path.read_text() == "other"


def test_lines_are_written_as_they_come_and_the_same_ones_leave_the_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "deep/a.jsonl"
    sha = files.write_lines(path, iter(["ä\n", "b\u2028\n"]))
    assert path.read_bytes() == "ä\nb\u2028\n".encode() and sha == files.sha256(path)
    assert sha == hashlib.sha256(path.read_bytes()).hexdigest()
    os.utime(path, ns=(1, 1))
    assert files.write_lines(path, ["ä\n", "b\u2028\n"]) == sha and path.stat().st_mtime_ns == 1

    def broken() -> Iterator[str]:
        yield "c\n"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_lines(path, broken())
    assert files.sha256(path) == sha
    assert files.write_lines(path, ["c\n"]) != sha and path.read_text() == "c\n"


def test_an_interrupted_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        files.write_text(path, "new")
    assert path.read_text() == "old"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text('{"counts": ')
    with pytest.raises(RbftError) as error:
        files.read_json(path)
    assert str(error.value) == (
        f"{path}: damaged (Expecting value: line 1 column 12 (char 11)); "
        "remove it and run the command again that makes it"
    )
