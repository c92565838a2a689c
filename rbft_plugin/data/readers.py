"""Files of rows (csv, tsv, json, jsonl, parquet) -> rows of text."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from rbft_plugin.errors import RbftError, one_line, shortened
from rbft_plugin.spec.yaml_models import UNUSABLE

Cells = dict[str, str]


@dataclass(frozen=True)
class Row:
    """`where` names it in messages; `split` is None unless the source says it."""

    where: str
    cells: Cells
    split: str | None = None


@dataclass(frozen=True)
class Source:
    """`name` is that of messages about all rows; `notes` are remarks for `rbft check`; `videos` is the template of the
    videos' place where the YAML gives none.
    """

    name: str
    rows: list[Row]
    notes: tuple[str, ...] = ()
    videos: str = ""


def place(path: Path | str) -> Path:
    """A path of a YAML, with ~ and $VARIABLES filled in."""
    return Path(os.path.expanduser(os.path.expandvars(path)))


def read(file: Path, key: str, id_column: str) -> list[Cells]:
    """Rows of a file; every value is text: None and NaN become "", a list or mapping becomes JSON.

    `key` of the YAML names the file. Where a JSON file is one object, each of its keys goes to column `id_column`.
    Raises RbftError naming the file and the line or row.
    """
    path = place(file)
    if not os.path.isfile(path):  # not Path.is_file, which raises for names that are too long
        raise RbftError(f"{path}: no such file ({key}, relative to the workspace {Path.cwd()})")
    try:
        rows = READERS[path.suffix.lower()](path, id_column)
    except OSError as error:
        raise RbftError(f"{path}: cannot be read ({error.strerror or error})") from None
    bad = [i for i, row in enumerate(rows, 1) if any(UNUSABLE.search(text) for pair in row.items() for text in pair)]
    if bad:
        raise RbftError(f"{path}: text with null characters or broken Unicode in rows: {shortened(bad)}")
    return rows


def text(value: Any) -> str:
    """A value of JSON or of a Hugging Face dataset as a person would write it."""
    if value is None or value != value:  # NaN, which stands for a missing number
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e16:
        return str(int(value))
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=lambda x: float(x) if isinstance(x, Decimal) else str(x))
    return str(value)


def decoded(file: Path) -> str:
    """A text file's content without byte-order mark; raises RbftError with the line where it is no UTF-8 text."""
    content = file.read_bytes()
    try:
        decoded = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RbftError(f"{file}: line {line}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    if "\0" in decoded:
        line = decoded.count("\n", 0, decoded.index("\0")) + 1
        raise RbftError(f"{file}: line {line}: a null character; save it as UTF-8 text")
    return decoded


def _csv(file: Path, id_column: str) -> list[Cells]:
    return _separated(file, ",")


def _tsv(file: Path, id_column: str) -> list[Cells]:
    return _separated(file, "\t")


def _separated(file: Path, delimiter: str) -> list[Cells]:
    csv.field_size_limit(2**31 - 1)  # 131,072 characters by default, less than a transcript may have
    reader = csv.DictReader(io.StringIO(decoded(file), newline=""), delimiter=delimiter, strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise RbftError(f"{file}: line {reader.reader.line_num}: {error}; is a quote left open?") from None
    twice = [f"'{name}'" for name, n in Counter(reader.fieldnames or ()).items() if n > 1 and name]
    if twice:
        raise RbftError(f"{file}: columns that stand twice in the header: {', '.join(twice)}")
    bad = [i for i, row in enumerate(rows, 1) if None in row or None in row.values()]
    if bad:
        raise RbftError(f"{file}: rows with more or fewer cells than the header: {shortened(bad)}")
    return [{name: value for name, value in row.items() if name} for row in rows]


def _jsonl(file: Path, id_column: str) -> list[Cells]:
    rows = []
    for number, line in enumerate(io.StringIO(decoded(file), newline=""), 1):
        if line.strip():
            where = f"{file}: line {number}"
            row = _parsed(line, where)
            if not isinstance(row, dict):
                raise RbftError(f"{where}: must be a JSON object")
            rows.append({k: text(v) for k, v in row.items()})
    return rows


def _json(file: Path, id_column: str) -> list[Cells]:
    content = _parsed(decoded(file), str(file))
    if isinstance(content, dict):
        given: Iterable[tuple[str | None, Any]] = content.items()
    elif isinstance(content, list):
        given = [(None, row) for row in content]
    else:
        raise RbftError(f"{file}: must be a list of objects, or an object of objects by id")
    rows, bad, clashing = [], [], []
    for number, (key, row) in enumerate(given, 1):
        if not isinstance(row, dict):
            bad.append(number if key is None else f"'{key}'")
            continue
        cells = {k: text(v) for k, v in row.items()}
        if key is not None and cells.setdefault(id_column, key) != key:
            clashing.append(f"'{key}' ('{cells[id_column]}')")
        rows.append(cells)
    if bad:
        kind = "an object of objects by id" if isinstance(content, dict) else "a list of objects"
        raise RbftError(f"{file}: must be {kind}; no object: {shortened(bad)}")
    if clashing:
        raise RbftError(f"{file}: keys that differ from their object's '{id_column}': {shortened(clashing)}")
    return rows


def _parsed(content: str, where: str) -> Any:
    try:
        return json.loads(
            content,
            parse_float=Decimal,  # keeps 1.10 as it stands
            parse_constant=lambda name: None if name == "NaN" else name,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        line = "" if ": line " in where else f": line {error.lineno}"
        hint = "; if each line is an object, name the file .jsonl" if line and error.msg == "Extra data" else ""
        raise RbftError(f"{where}{line}: not JSON ({error.msg}){hint}") from None
    except (ValueError, ArithmeticError) as error:  # a key twice; a number that is too long
        raise RbftError(f"{where}: {error or 'a number that is too large'}") from None
    except RecursionError:
        raise RbftError(f"{where}: nested too deep") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = [key for key, n in Counter(key for key, _ in pairs).items() if n > 1]
        raise ValueError(f"keys that an object has twice: {shortened(twice)}")
    return found


def _parquet(file: Path, id_column: str) -> list[Cells]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            if twice := [name for name, n in Counter(schema.names).items() if n > 1]:
                raise RbftError(f"{file}: columns that stand twice in the header: {shortened(twice)}")
            kept = [f.name for f in schema if "binary" not in str(f.type)]  # no text: videos, pictures
            table = opened.read(columns=kept)
            columns = {name: _column(table[name]) for name in kept}
    except (pa.ArrowException, ValueError, KeyError, MemoryError) as error:
        raise RbftError(f"{file}: not readable as parquet ({one_line(str(error)):.200})") from None
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _column(values: Any) -> list[str]:
    import pyarrow as pa

    if pa.types.is_floating(
        values.type
    ):  # as text at its own precision: 0.1, where 32 bits are 0.10000000149 in Python
        return [v if v and v != "nan" else "" for v in values.cast(pa.string()).to_pylist()]
    return [text(v) for v in values.to_pylist()]


READERS = {".csv": _csv, ".tsv": _tsv, ".json": _json, ".jsonl": _jsonl, ".parquet": _parquet}
