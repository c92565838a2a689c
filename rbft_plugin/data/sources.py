"""Reads the rows of a dataset: files, a folder of class folders or a Hugging Face dataset, and files joined to them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from rbft_plugin.data import hub, readers
from rbft_plugin.data.readers import Cells, Row, Source
from rbft_plugin.data.video_lookup import VIDEO_SUFFIXES
from rbft_plugin.errors import ProblemsError, RbftError, shortened
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.dataset_sources import SPLITS, Annotations, Join, Split
from rbft_plugin.spec.yaml_models import UNUSABLE

Paths = Sequence[tuple[Split | None, Path]]  # (split, or None if one path has all samples; path)
Item = TypeVar("Item")
Result = TypeVar("Result")


class JoinedFile(NamedTuple):
    """The columns that are taken from a joined file, and its rows by id with these columns only."""

    columns: list[str]
    rows: dict[str, Cells]


def read(dataset: Dataset) -> Source:
    """All rows, with joined columns. Raises RbftError with all that is wrong with the files."""
    annotations = dataset.annotations
    if annotations.hub:
        source = hub.read(dataset, annotations.hub)
    else:
        path_of = annotations.file or annotations.folder or {}
        paths = [(split, path_of[split or "all"]) for split in (None, *SPLITS) if (split or "all") in path_of]
        name = ", ".join(str(readers.expanded(path)) for _, path in paths)
        if annotations.file:
            source = Source(name, _rows_of_files(paths, annotations.id_column))
        else:
            rows, notes = _rows_of_folders(paths)
            source = Source(name, rows, notes, videos="{path}")
    return _joined(source, annotations) if annotations.join else source


def columns_of(rows: Iterable[Cells]) -> list[str]:
    """The columns that rows have, in the order in which they first come."""
    return list(dict.fromkeys(column for cells in rows for column in cells))


def no_column(column: str, key: str, existing_columns: list[str]) -> str:
    """A message about a column that a key of the YAML names and that does not exist."""
    shown = [name if name == name.strip() else repr(name) for name in existing_columns]
    return f"no column '{column}', which {key} names; the columns are: {shortened(shown, 20)}"


def _rows_of_files(paths: Paths, id_column: str) -> list[Row]:
    names = [path.name for _, path in paths]
    tables = _for_all([path for _, path in paths], lambda path: readers.read(path, "annotations.file", id_column))
    rows = []
    for (split, path), table in zip(paths, tables, strict=True):
        file = path.name if names.count(path.name) == 1 else path.as_posix()
        prefix = f"{file} " if split else ""
        rows += [Row(f"{prefix}row {number}", cells, split) for number, cells in enumerate(table, 1)]
    return rows


def _rows_of_folders(paths: Paths) -> tuple[list[Row], tuple[str, ...]]:
    """A row with id (the path below the folder), label and path for each video below a class folder; and notes."""
    rows, others, problems = [], [], []
    for split, folder in paths:
        top = readers.expanded(folder)
        if not os.path.isdir(top):
            problems.append(f"{top}: no such folder (annotations.folder, relative to the workspace {Path.cwd()})")
            continue
        for file in _files_below(top):
            below = file.relative_to(top)
            if file.suffix.lower() not in VIDEO_SUFFIXES:
                others.append(file)
            elif len(below.parts) == 1:
                problems.append(f"{file}: is in no class folder ({top}/<label>/{file.name})")
            elif UNUSABLE.search(str(below)):
                problems.append(f"{str(file).encode(errors='replace').decode()}: its name is not UTF-8 text")
            else:
                sample_id = f"{split}/{below.as_posix()}" if split else below.as_posix()
                cells = {"id": sample_id, "label": below.parts[0], "path": str(file)}
                rows.append(Row(sample_id, cells, split))
    if problems:
        raise ProblemsError("annotations.folder", problems)
    return rows, (f"{len(others)} files that are no videos are left out: {shortened(others)}",) if others else ()


def _files_below(top: Path) -> Iterator[Path]:
    """Files below a folder in the order of their names, without hidden files such as macOS's ._x.mp4.

    Raises RbftError for a folder that cannot be read. os.walk would skip it.
    """

    def fail(error: OSError) -> None:
        raise RbftError(f"{error.filename}: cannot be read ({error.strerror})")

    for name, folders, files in os.walk(top, onerror=fail, followlinks=True):
        folder = Path(name)
        real = folder.resolve()
        ancestors = (real, *real.parents)  # a link to one of these would have no end
        folders[:] = sorted(f for f in folders if not f.startswith(".") and (folder / f).resolve() not in ancestors)
        yield from (folder / file for file in sorted(files) if not file.startswith("."))


def _joined(source: Source, annotations: Annotations) -> Source:
    """Rows with the columns of joined files. A row without a partner in a file gets ""; a note counts such rows."""
    id_column = annotations.id_column

    def read_numbered(numbered: tuple[int, Join]) -> JoinedFile:
        number, join = numbered
        return _joined_file(join, f"annotations.join[{number}]", id_column)

    joined_files = _for_all(enumerate(annotations.join), read_numbered)
    existing_columns = columns_of(row.cells for row in source.rows)
    if source.rows and id_column not in existing_columns:
        raise ProblemsError(source.name, [no_column(id_column, "annotations.id", existing_columns)])
    rows, notes, problems = source.rows, list(source.notes), []
    ids = [row.cells.get(id_column, "") for row in rows]
    for number, (join, (columns, partners)) in enumerate(zip(annotations.join, joined_files, strict=True)):
        file = readers.expanded(join.file)
        existing_columns = columns_of(row.cells for row in rows)
        if clashing := [f"'{column}'" for column in columns if column in existing_columns]:
            problems.append(
                f"{file}: has columns that are there already: {', '.join(clashing)}; name those to take in "
                f"annotations.join[{number}].columns"
            )
            continue
        alone = sum(i not in partners for i in ids)
        if alone and alone == len(ids):
            problems.append(f"{file}: has no row for any id of the annotations, such as '{ids[0]}'")
        elif alone:
            notes.append(f"{file}: no row for {alone} of {len(ids)} samples; their {', '.join(columns)} is empty")
        empty = dict.fromkeys(columns, "")
        rows = [replace(row, cells=row.cells | partners.get(i, empty)) for row, i in zip(rows, ids, strict=True)]
    if problems:
        raise RbftError("\n".join(problems))
    return replace(source, rows=rows, notes=tuple(notes))


def _joined_file(join: Join, key: str, annotations_id: str) -> JoinedFile:
    id_column = join.id or annotations_id
    rows = readers.read(join.file, f"{key}.file", id_column)
    existing_columns = columns_of(rows)
    columns = list(join.columns) or [column for column in existing_columns if column != id_column]
    named = [(f"{key}.id" if join.id else "annotations.id", id_column), *((f"{key}.columns", c) for c in columns)]
    problems = [no_column(c, by_key, existing_columns) for by_key, c in named if c not in existing_columns]
    if id_column in existing_columns:
        counts = Counter(row.get(id_column, "") for row in rows)
        problems += [f"id '{i}' stands in {count} rows" for i, count in counts.items() if count > 1]
    if problems:
        raise ProblemsError(readers.expanded(join.file), problems)
    return JoinedFile(columns, {row.get(id_column, ""): {c: row.get(c, "") for c in columns} for row in rows})


def _for_all(items: Iterable[Item], function: Callable[[Item], Result]) -> list[Result]:
    """The results of a function for all items. Raises RbftError with the messages of all calls that fail."""
    results, messages = [], []
    for item in items:
        try:
            results.append(function(item))
        except RbftError as error:
            messages.append(str(error))
    if messages:
        raise RbftError("\n".join(messages))
    return results
