"""Reads files of annotations (csv, tsv, json, jsonl, parquet) into rows whose cells are text."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from rbft_plugin.errors import RbftError, one_line, shortened
from rbft_plugin.spec.yaml_models import UNUSABLE

Cells = dict[str, str]  # column -> text


@dataclass(frozen=True)
class Row:
    """An annotated row. Messages name it by `where`. `split` is None unless its source belongs to one split."""

    where: str
    cells: Cells
    split: str | None = None


@dataclass(frozen=True)
class Source:
    """All rows. Messages about them begin with `name`; `rbft check` shows `notes`.

    `videos` is the template of the videos' paths if the YAML has none.
    """

    name: str
    rows: list[Row]
    notes: tuple[str, ...] = ()
    videos: str = ""


def expanded(path: Path | str) -> Path:
    """A path of a YAML, in which ~ and $VARIABLES are replaced."""
    return Path(os.path.expanduser(os.path.expandvars(path)))


def require_file(file: Path, key: str) -> None:
    """Raise RbftError if there is no such file. `key` is the YAML key that names it."""
    if not os.path.isfile(file):  # Path.is_file raises OSError if a name is too long
        raise RbftError(f"{file}: no such file ({key}, relative to the workspace {Path.cwd()})")


def read(file: Path, key: str, id_column: str) -> list[Cells]:
    """The rows of a file. None and NaN become "", a list or mapping becomes JSON.

    `key` is the YAML key that names the file. If a JSON file is one object, its keys go to the column `id_column`.
    Raises RbftError with the file and the line or row.
    """
    path = expanded(file)
    require_file(path, key)
    try:
        rows = READERS[path.suffix.lower()](path, id_column)
    except OSError as error:
        raise RbftError(f"{path}: cannot be read ({error.strerror or error})") from None
    unusable = [number for number, row in enumerate(rows, 1) if has_unusable_text(row)]
    if unusable:
        raise RbftError(f"{path}: text with null characters or broken Unicode in rows: {shortened(unusable)}")
    return rows


def has_unusable_text(cells: Cells) -> bool:
    """Whether a row has null characters or broken Unicode, in a column's name or a cell."""
    return any(UNUSABLE.search(text) for pair in cells.items() for text in pair)


def cell_text(value: Any) -> str:
    """A value of JSON, parquet or a Hugging Face dataset as a person would write it."""
    if value is None or value != value:  # NaN stands for a missing number
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e16:
        return str(int(value))
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=lambda x: float(x) if isinstance(x, Decimal) else str(x))
    return str(value)


def utf8_text(file: Path) -> str:
    """The content of a text file without byte-order mark. Raises RbftError with the line that is not UTF-8 text."""
    content = file.read_bytes()
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RbftError(f"{file}: line {line}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise RbftError(f"{file}: line {line}: a null character; save it as UTF-8 text")
    return text


def _separated(file: Path, delimiter: str) -> list[Cells]:
    csv.field_size_limit(2**31 - 1)  # the default of 131,072 characters is too little for a long transcript
    reader = csv.DictReader(io.StringIO(utf8_text(file), newline=""), delimiter=delimiter, strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise RbftError(f"{file}: line {reader.reader.line_num}: {error}; is a quote left open?") from None
    if repeated := _repeated(name for name in reader.fieldnames or () if name):
        names = ", ".join(f"'{name}'" for name in repeated)
        raise RbftError(f"{file}: columns that stand twice in the header: {names}")
    uneven = [number for number, row in enumerate(rows, 1) if None in row or None in row.values()]
    if uneven:
        raise RbftError(f"{file}: rows with more or fewer cells than the header: {shortened(uneven)}")
    return [{name: value for name, value in row.items() if name} for row in rows]


def _jsonl(file: Path, id_column: str) -> list[Cells]:
    rows = []
    for number, line in enumerate(io.StringIO(utf8_text(file), newline=""), 1):
        if line.strip():
            row = _parsed(line, file, number)
            if not isinstance(row, dict):
                raise RbftError(f"{file}: line {number}: must be a JSON object")
            rows.append({column: cell_text(value) for column, value in row.items()})
    return rows


def _json(file: Path, id_column: str) -> list[Cells]:
    content = _parsed(utf8_text(file), file)
    if not isinstance(content, dict | list):
        raise RbftError(f"{file}: must be a list of objects, or an object of objects by id")
    by_id = isinstance(content, dict)
    rows, no_objects, clashing = [], [], []
    for key, row in content.items() if isinstance(content, dict) else enumerate(content, 1):
        if not isinstance(row, dict):
            no_objects.append(f"'{key}'" if by_id else key)
            continue
        cells = {column: cell_text(value) for column, value in row.items()}
        if by_id and cells.setdefault(id_column, str(key)) != key:
            clashing.append(f"'{key}' ('{cells[id_column]}')")
        rows.append(cells)
    if no_objects:
        kind = "an object of objects by id" if by_id else "a list of objects"
        raise RbftError(f"{file}: must be {kind}; no object: {shortened(no_objects)}")
    if clashing:
        raise RbftError(f"{file}: keys that differ from their object's '{id_column}': {shortened(clashing)}")
    return rows


def _parsed(content: str, file: Path, line: int | None = None) -> Any:
    """The JSON value of a file, or of a line of it."""
    where = f"{file}: line {line}" if line else str(file)
    try:
        return json.loads(
            content,
            parse_float=Decimal,  # 1.10 stays 1.10
            parse_constant=lambda name: None if name == "NaN" else name,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        hint = "; if each line is an object, name the file .jsonl" if not line and error.msg == "Extra data" else ""
        raise RbftError(f"{file}: line {line or error.lineno}: not JSON ({error.msg}){hint}") from None
    except (ValueError, ArithmeticError) as error:  # a key that stands twice; a number that is too long
        raise RbftError(f"{where}: {error or 'a number that is too large'}") from None
    except RecursionError:
        raise RbftError(f"{where}: nested too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError(f"keys that an object has twice: {shortened(_repeated(key for key, _ in pairs))}")
    return fields


def _parquet(file: Path, id_column: str) -> list[Cells]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            if repeated := _repeated(schema.names):
                raise RbftError(f"{file}: columns that stand twice in the header: {shortened(repeated)}")
            names = [field.name for field in schema if "binary" not in str(field.type)]  # no videos, no pictures
            table = opened.read(columns=names)
            columns = {name: _column(table[name]) for name in names}
    except (pa.ArrowException, ValueError, KeyError, MemoryError) as error:
        raise RbftError(f"{file}: not readable as parquet ({one_line(str(error)):.200})") from None
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _column(values: Any) -> list[str]:
    import pyarrow as pa

    if pa.types.is_floating(values.type):  # pyarrow writes 0.1 of 32 bits as 0.1, Python as 0.10000000149011612
        return [v if v and v != "nan" else "" for v in values.cast(pa.string()).to_pylist()]
    return [cell_text(v) for v in values.to_pylist()]


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


READERS: dict[str, Callable[[Path, str], list[Cells]]] = {
    ".csv": lambda file, id_column: _separated(file, ","),
    ".tsv": lambda file, id_column: _separated(file, "\t"),
    ".json": _json,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
