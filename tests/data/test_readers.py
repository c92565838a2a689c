"""readers: real files of every format, odd ones among them, and the whole text of every complaint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rbft_plugin.data import readers
from rbft_plugin.errors import RbftError


def read(name: str, content: Any, id_column: str = "id") -> list[dict[str, str]]:
    """Rows of a file with this content: bytes, text, or what to write as JSON."""
    raw = content if isinstance(content, bytes) else content.encode() if isinstance(content, str) else None
    Path(name).write_bytes(json.dumps(content).encode() if raw is None else raw)
    return readers.read(Path(name), "annotations.file", id_column)


def message(name: str, content: Any) -> str:
    with pytest.raises(RbftError) as raised:
        read(name, content)
    return str(raised.value)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["bare", "byte-order mark"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["unix", "windows"])
def test_a_csv_is_read_with_or_without_a_byte_order_mark(mark: bytes, end: bytes) -> None:
    content = mark + end.join([b"id,text", 'ä,"one, two"'.encode(), b"", b'b,"line', b'line"', b""])
    line = f"line{end.decode()}line"
    assert read("a.csv", content) == [{"id": "ä", "text": "one, two"}, {"id": "b", "text": line}]


def test_a_tsv_is_cut_at_tabs_alone() -> None:
    assert read("a.TSV", "id\tlabel\na, b\tvery calm\n") == [{"id": "a, b", "label": "very calm"}]


def test_a_cell_may_hold_a_long_transcript() -> None:
    assert read("a.csv", f"id,text\na,{'x' * 200_000}\n") == [{"id": "a", "text": "x" * 200_000}]


def test_columns_without_a_name_are_left_out() -> None:
    assert read("a.csv", ",id,,\n0,a,,\n1,b,,\n") == [{"id": "a"}, {"id": "b"}]


ODD = '{"id": 7, "a": null, "b": true, "c": 1.10, "d": NaN, "e": ["x", 0.5], "f": {"g": "é"}, "h": 3}'
ODD_CELLS = {"id": "7", "a": "", "b": "true", "c": "1.10", "d": "", "e": '["x", 0.5]', "f": '{"g": "é"}', "h": "3"}


def test_values_of_json_become_text_as_it_stands_in_the_file() -> None:
    assert read("a.jsonl", f"\ufeff{ODD}\n\n{ODD}") == [ODD_CELLS, ODD_CELLS]
    assert read("a.json", f"\ufeff[{ODD}]") == [ODD_CELLS]


def test_a_json_object_is_keyed_by_id() -> None:
    content = {"a": {"title": "A"}, "b": {"title": "B", "clip": "b"}}
    assert read("a.json", content, "clip") == [{"title": "A", "clip": "a"}, {"title": "B", "clip": "b"}]
    assert read("a.json", {}) == read("a.json", []) == []


def test_a_parquet_file_has_numbers_as_a_person_writes_them_and_no_binary_columns() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "id": pa.array([1, 2]),
        "pandas": pa.array([3.0, float("nan")]),  # whole numbers, one of them missing
        "single": pa.array([0.1, None], pa.float32()),
        "flag": pa.array([True, None]),
        "text": pa.array(["é", None]).dictionary_encode(),
        "list": pa.array([["a"], []]),
        "video": pa.array([{"bytes": b"\xff", "path": "a.mp4"}, None]),
        "raw": pa.array([b"\xff", b""]),
    }
    pq.write_table(pa.table(columns), "a.parquet")
    assert readers.read(Path("a.parquet"), "key", "id") == [
        {"id": "1", "pandas": "3", "single": "0.1", "flag": "true", "text": "é", "list": '["a"]'},
        {"id": "2", "pandas": "", "single": "", "flag": "", "text": "", "list": "[]"},
    ]


def test_a_path_may_hold_variables_and_the_home_folder(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    Path("a.csv").write_text("id\nx\n")
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("NAME", "a")
    for path in ("~/$NAME.csv", "${NAME}.csv", str(here / "a.csv")):
        assert readers.read(Path(path), "key", "id") == [{"id": "x"}]


def test_a_file_that_is_not_there_is_named_with_its_key_and_the_workspace(here: Path) -> None:
    for name in ("a.csv", "a" * 300 + ".csv"):
        with pytest.raises(RbftError) as raised:
            readers.read(Path(name), "annotations.file", "id")
        assert str(raised.value) == f"{name}: no such file (annotations.file, relative to the workspace {here})"


NULLS = '[{}, {"a": "\\u0000"}, {"\\ud800": ""}]'
NOT_UTF8 = b"id,label\n" + b"".join(b"id%d,calm\n" % i for i in range(5000)) + b"caf\xe9,calm\n"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.csv", "id,label\na,calm\nb\nc,calm,more\n", ": rows with more or fewer cells than the header: 2, 3"),
        ("a.csv", NOT_UTF8, ": line 5002: not UTF-8 text (invalid continuation byte); save it as UTF-8"),
        ("a.csv", "id\na\nb\0c\n", ": line 3: a null character; save it as UTF-8 text"),
        ("a.csv", 'id,label\na,"calm\nb,busy\n', ": line 3: unexpected end of data; is a quote left open?"),
        ("a.tsv", "id\tx\tx\tid\na\tb\tc\td\n", ": columns that stand twice in the header: 'id', 'x'"),
        ("a.jsonl", "{}\n{'id': 1}\n", ": line 2: not JSON (Expecting property name enclosed in double quotes)"),
        ("a.jsonl", "{}\n\n[1]\n", ": line 3: must be a JSON object"),
        ("a.jsonl", '{"a": 1, "a": 2}\n', ": line 1: keys that an object has twice: a"),
        ("a.jsonl", '{"a": 1' + "0" * 5000 + "}", ": line 1: Exceeds the limit (4300 digits) for integer string "),
        ("a.json", '[{"a": 1},\n}]', ": line 2: not JSON (Expecting value)"),
        ("a.json", "", ": line 1: not JSON (Expecting value)"),
        ("a.json", "{}\n{}\n", ": line 2: not JSON (Extra data); if each line is an object, name the file .jsonl"),
        ("a.json", "[" * 100_000, ": nested too deep"),
        ("a.json", "3", ": must be a list of objects, or an object of objects by id"),
        ("a.json", [{}, 3, "x"], ": must be a list of objects; no object: 2, 3"),
        ("a.json", {"a": {}, "b": 3}, ": must be an object of objects by id; no object: 'b'"),
        ("a.json", '{"a": {}, "a": {}}', ": keys that an object has twice: a"),
        ("a.json", {"a": {"id": "b"}}, ": keys that differ from their object's 'id': 'a' ('b')"),
        ("a.json", '{"a": {"id": "\\ud800"}}', ": keys that differ from their object's 'id': 'a' ('\\ud800')"),
        ("a.json", NULLS, ": text with null characters or broken Unicode in rows: 2, 3"),
        ("a.parquet", b"PAR1 and no more", ": not readable as parquet ("),
        ("a.parquet", b"", ": not readable as parquet ("),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_with_its_line_or_row(name: str, content: Any, problem: str) -> None:
    text = message(name, content)
    assert text.startswith(f"{name}{problem}") if problem.endswith(("(", " ")) else text == f"{name}{problem}"


def test_a_parquet_file_with_two_columns_of_one_name_is_refused() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["id", "id"]), "a.parquet")
    with pytest.raises(RbftError) as raised:
        readers.read(Path("a.parquet"), "key", "id")
    assert str(raised.value) == "a.parquet: columns that stand twice in the header: id"
