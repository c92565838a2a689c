"""Where a dataset's rows come from: files, a folder of class folders, a Hugging Face dataset; files joined to them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rbft_plugin.data import hub, readers
from rbft_plugin.data.readers import Cells, Row, Source
from rbft_plugin.data.video_lookup import VIDEO_SUFFIXES
from rbft_plugin.errors import ProblemsError, RbftError, shortened
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.dataset_sources import SPLITS, Annotations, Join
from rbft_plugin.spec.yaml_models import UNUSABLE


def read(dataset: Dataset) -> Source:
    """All rows, with joined columns; raises RbftError with what is wrong with the files, all at once."""
    given = dataset.annotations
    if given.hub:
        source = hub.read(dataset, given.hub)
    elif given.file:
        source = _files(_in_order(given.file), given.id_column)
    else:
        source = _folders(_in_order(given.folder or {}))
    return _joined(source, given) if given.join else source


def _files(paths: dict[str, Path], id_column: str) -> Source:
    names = [path.name for path in paths.values()]
    read = _all(
        lambda path=path: readers.read(path, "annotations.file", id_column)  # type: ignore[misc]
        for path in paths.values()
    )
    rows = []
    for (split, path), found in zip(paths.items(), read, strict=True):
        if split == "all":
            rows += [Row(f"row {n}", cells) for n, cells in enumerate(found, 1)]
        else:
            file = path.name if names.count(path.name) == 1 else path.as_posix()
            rows += [Row(f"{file} row {n}", cells, split) for n, cells in enumerate(found, 1)]
    return Source(", ".join(str(readers.place(path)) for path in paths.values()), rows)


def _folders(paths: dict[str, Path]) -> Source:
    """A row for each video below a class folder: its id (path below the folder), label and path."""
    rows, other, problems = [], [], []
    for split, folder in paths.items():
        top = readers.place(folder)
        if not os.path.isdir(top):
            problems.append(f"{top}: no such folder (annotations.folder, relative to the workspace {Path.cwd()})")
            continue
        for file in _below(top):
            below = file.relative_to(top)
            if file.suffix.lower() not in VIDEO_SUFFIXES:
                other.append(str(file))
            elif len(below.parts) == 1:
                problems.append(f"{file}: is in no class folder ({top}/<label>/{file.name})")
            elif UNUSABLE.search(str(below)):
                problems.append(f"{str(file).encode(errors='replace').decode()}: its name is not UTF-8 text")
            else:
                name = below.as_posix() if split == "all" else f"{split}/{below.as_posix()}"
                cells = {"id": name, "label": below.parts[0], "path": str(file)}
                rows.append(Row(name, cells, None if split == "all" else split))
    if problems:
        raise ProblemsError("annotations.folder", problems)
    notes = [f"{len(other)} files that are no videos are left out: {shortened(other)}"] if other else []
    return Source(", ".join(str(readers.place(path)) for path in paths.values()), rows, tuple(notes), "{path}")


def _below(top: Path) -> Iterator[Path]:
    """Files below a folder in the order of their names; hidden ones, such as macOS's ._x.mp4, are not the user's.

    Raises RbftError for a folder that cannot be read, which os.walk would pass over.
    """

    def unread(error: OSError) -> None:
        raise RbftError(f"{error.filename}: cannot be read ({error.strerror})")

    for folder, folders, files in os.walk(top, onerror=unread, followlinks=True):
        here = Path(folder)
        real = here.resolve()
        folders[:] = sorted(
            f for f in folders if not f.startswith(".") and (here / f).resolve() not in (real, *real.parents)
        )
        yield from (here / name for name in sorted(files) if not name.startswith("."))


def _joined(source: Source, given: Annotations) -> Source:
    """Rows with the columns of the files in `join`; a row without a partner there gets "" and is counted in a note."""
    read = _all(
        lambda n=n, join=join: _by_id(join, f"annotations.join[{n}]", given.id_column)  # type: ignore[misc]
        for n, join in enumerate(given.join)
    )
    there = list(dict.fromkeys(column for row in source.rows for column in row.cells))
    if source.rows and given.id_column not in there:
        raise ProblemsError(source.name, [no_column(given.id_column, "annotations.id", there)])
    rows, notes, problems = source.rows, list(source.notes), []
    for n, (join, (columns, partners)) in enumerate(zip(given.join, read, strict=True)):
        here = {column for row in rows for column in row.cells}
        file = readers.place(join.file)
        if clashing := [f"'{c}'" for c in columns if c in here]:
            problems.append(
                f"{file}: has columns that are there already: {', '.join(clashing)}; name those to take in "
                f"annotations.join[{n}].columns"
            )
            continue
        ids = [row.cells.get(given.id_column, "") for row in rows]
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


def _by_id(join: Join, key: str, id_column: str) -> tuple[list[str], dict[str, Cells]]:
    """The columns to take from a joined file, and its rows with these alone, by id."""
    column = join.id or id_column
    found = readers.read(join.file, f"{key}.file", column)
    there = list(dict.fromkeys(c for row in found for c in row))
    columns = list(join.columns) or [c for c in there if c != column]
    problems = [
        no_column(name, named, there)
        for named, name in (
            (f"{key}.id" if join.id else "annotations.id", column),
            *((f"{key}.columns", c) for c in columns),
        )
        if name not in there
    ]
    counts = Counter(row.get(column, "") for row in found)
    problems += [f"id '{i}' stands in {n} rows" for i, n in counts.items() if n > 1 and column in there]
    if problems:
        raise ProblemsError(readers.place(join.file), problems)
    return columns, {row.get(column, ""): {c: row.get(c, "") for c in columns} for row in found}


def no_column(column: str, key: str, there: list[str]) -> str:
    """What is said of a column that a key of the YAML names and that is not there."""
    shown = [name if name == name.strip() else repr(name) for name in there]
    return f"no column '{column}', which {key} names; the columns are: {shortened(shown, 20)}"


def _in_order(paths: Any) -> dict[str, Path]:
    return {split: paths[split] for split in ("all", *SPLITS) if split in paths}


def _all(calls: Iterator[Callable[[], Any]]) -> list[Any]:
    """Results of all calls; raises RbftError with the messages of all that fail."""
    results, said = [], []
    for call in calls:
        try:
            results.append(call())
        except RbftError as error:
            said.append(str(error))
    if said:
        raise RbftError("\n".join(said))
    return results
