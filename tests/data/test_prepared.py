"""prepared: files of JSON lines, and what is said of damaged ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from builders import prepared_sample, write_prepared

from rbft_plugin.data import prepared
from rbft_plugin.data.prepared import write_jsonl
from rbft_plugin.errors import RbftError


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


def test_what_is_damaged_is_named_with_its_line_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_prepared("mine", test=[prepared_sample("a")])
    with Path("data/mine/test.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"id": 1}\n')
    with pytest.raises(RbftError) as raised:
        prepared.read_split("mine", "test")
    problem = "id: Input should be a valid string"
    assert str(raised.value) == f"data/mine/test.jsonl: line 2: {problem}; run `rbft prepare mine` again"
    Path("data/mine/manifest.json").write_text('{"dataset": "mine"}')
    with pytest.raises(RbftError) as raised:
        prepared.read_manifest("mine")
    assert (
        str(raised.value) == "data/mine/manifest.json: damaged (counts: Field required); run `rbft prepare mine` again"
    )
