"""LLaMA-Factory's lists of datasets: dataset_info.json of the workspace and of each run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from rbft_plugin import files
from rbft_plugin.data.prepared import REGISTRATION_LOCK, DataFolder, splits_with_labels
from rbft_plugin.errors import RbftError
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.names import STAGES, VALIDATION_ROWS, llamafactory_name


def dataset_entry(file: str) -> dict[str, Any]:
    """A LLaMA-Factory dataset of sharegpt rows with videos. It silently ignores keys that it does not know."""
    return {
        "file_name": file,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "videos": "videos"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    }


def dataset_info(dataset: Dataset) -> dict[Path, str]:
    """The path and content of dataset_info/dataset_info.json with a dataset's entries added to its present ones."""
    path = Path("dataset_info/dataset_info.json")
    entries = {
        llamafactory_name(dataset.name, rows): dataset_entry(f"../{DataFolder(dataset.name).rows(rows).as_posix()}")
        for rows in (*STAGES, VALIDATION_ROWS)
    }
    validation = llamafactory_name(dataset.name, VALIDATION_ROWS)
    unneeded = {} if "val" in splits_with_labels(dataset) else {validation: entries.pop(validation)}
    return {path: _entries_text(path, entries, unneeded)}


def write_entries(folder: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Add or replace entries of `folder`/dataset_info.json; all others stay as they are.

    Only one process of a workspace does this at a time, so that none loses another's entries.
    """
    with locked():
        files.write_text(folder / "dataset_info.json", _entries_text(folder / "dataset_info.json", entries))


def register_rows(dataset: str, file: Path) -> None:
    """Name a file of rows in the dataset_info.json beside it, and also the dataset's rows for validation.

    A training reads one such file, which therefore has to know its `eval_dataset` too.
    """
    validation = DataFolder(dataset).rows(VALIDATION_ROWS)
    known = {file.stem: file} | ({VALIDATION_ROWS: validation} if _has_rows(validation) else {})
    paths = {name: Path(os.path.relpath(path, file.parent)).as_posix() for name, path in known.items()}
    write_entries(file.parent, {llamafactory_name(dataset, name): dataset_entry(path) for name, path in paths.items()})


def _has_rows(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def registered_file(folder: Path, name: str) -> Path | None:
    """The file of a dataset that `folder`/dataset_info.json names; None if it names no file."""
    path = folder / "dataset_info.json"
    file = (files.read_json(path) if path.is_file() else {}).get(name, {}).get("file_name")
    return Path(os.path.normpath(folder / file)) if file else None


@contextmanager
def locked() -> Iterator[None]:
    """Lets no other process of the workspace write registrations. The process that holds the lock may enter again."""
    REGISTRATION_LOCK.parent.mkdir(exist_ok=True)
    with FileLock(REGISTRATION_LOCK, is_singleton=True):
        yield


def _entries_text(
    path: Path, entries: dict[str, dict[str, Any]], unneeded: dict[str, dict[str, Any]] | None = None
) -> str:
    """The file with these entries, and without the unneeded ones, if they are still as we made them."""
    known = {}
    if path.is_file():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise RbftError(f"{path}: not JSON (line {error.lineno}: {error.msg}); correct it or remove it") from None
        if not isinstance(known, dict):
            raise RbftError(f"{path}: must be a JSON object of datasets; correct it or remove it")
    kept = {name: entry for name, entry in known.items() if entry != (unneeded or {}).get(name)}
    return files.json_text(dict(sorted((kept | entries).items())))
