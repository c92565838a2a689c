"""Reads a Hugging Face dataset into rows of text. Videos that it holds as bytes become files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rbft_plugin import files
from rbft_plugin.data import readers
from rbft_plugin.data.prepared import DataFolder
from rbft_plugin.data.readers import Cells, Row, Source
from rbft_plugin.errors import ProblemsError, RbftError, one_line, shortened
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.dataset_sources import SPLITS, Hub, Split

# Names that splits have on the hub.
OUR_SPLITS: dict[str, Split] = {
    **{"train": "train", "test": "test"},
    **{"val": "val", "validation": "val", "valid": "val", "dev": "val"},
}


def read(dataset: Dataset, hub: Hub) -> Source:
    """The rows of all splits that are used. Class numbers become names, and the video column has paths.

    A video that the dataset holds as bytes is written once, to data/<name>/source/<hash of its bytes>.<extension>.
    The id is `<split>-<number from 0>` if the YAML names no column of ids and there is no column `id`.
    Raises RbftError.
    """
    tables = _loaded(hub)
    rows, problems = [], []
    for split, name in _our_splits(dataset, hub, list(tables)):
        table = tables[name]
        if hub.video not in table.column_names:
            columns = shortened(table.column_names, 20)
            problems.append(f"split '{name}' has no column '{hub.video}' (annotations.hub.video); it has: {columns}")
            continue
        for number, cells in enumerate(_rows(table, hub.video, DataFolder(dataset.name).source)):
            if dataset.annotations.id is None:
                cells.setdefault("id", f"{name}-{number}")
            rows.append(Row(f"{name} row {number + 1}", cells, split))
    if unusable := [row.where for row in rows if readers.has_unusable_text(row.cells)]:
        problems.append(f"text with null characters or broken Unicode: {shortened(unusable)}")
    if problems:
        raise ProblemsError(hub.path, problems)
    return Source(hub.path, rows, videos=f"{{{hub.video}}}")


def _loaded(hub: Hub) -> dict[str, Any]:
    """The tables of a dataset by the names of its splits. A table without splits counts as train."""
    import datasets

    datasets.disable_progress_bars()  # they would show how an index is read
    local = readers.expanded(hub.path)
    try:
        if any((local / name).is_file() for name in ("dataset_dict.json", "state.json")):  # made by save_to_disk
            loaded = datasets.load_from_disk(str(local))
        else:
            path = str(local) if local.is_dir() else hub.path
            loaded = datasets.load_dataset(path, hub.config, revision=hub.revision)
    except Exception as error:  # `datasets` raises its own errors, OSError, ValueError and more
        message = one_line(str(error))
        raise RbftError(f"{hub.path}: cannot be read with `datasets` (annotations.hub): {message:.300}") from None
    return dict(loaded) if isinstance(loaded, dict) else {"train": loaded}


def _our_splits(dataset: Dataset, hub: Hub, names: list[str]) -> list[tuple[Split | None, str]]:
    """Our splits with their names on the hub. Our split is None where `splits` of the YAML decides."""
    if hub.splits:
        if lacking := [f"'{hub.splits[s]}'" for s in SPLITS if s in hub.splits and hub.splits[s] not in names]:
            problem = f"annotations.hub.splits: there is no split {', '.join(lacking)}; there are: {shortened(names)}"
            raise ProblemsError(hub.path, [problem])
        return [(split, hub.splits[split]) for split in SPLITS if split in hub.splits]
    if dataset.splits is not None and dataset.splits.decides:
        return [(None, name) for name in names]
    known = {OUR_SPLITS.get(name): name for name in names}
    if None in known or len(known) < len(names) or not {"train", "test"} <= set(known):
        raise ProblemsError(
            hub.path,
            [f"its splits are {shortened(names)}: say which train and test, in annotations.hub.splits or in splits"],
        )
    return list(known.items())


def _rows(table: Any, video: str, folder: Path) -> Iterator[Cells]:
    """The rows of a split as text, without pictures, sound and other videos than those of the column `video`."""
    import datasets

    media = (datasets.Video, datasets.Image, datasets.Audio)
    table = table.remove_columns([c for c, f in table.features.items() if c != video and isinstance(f, media)])
    if isinstance(table.features[video], datasets.Video):
        table = table.cast_column(video, datasets.Video(decode=False))
    class_names = {c: f.names for c, f in table.features.items() if isinstance(f, datasets.ClassLabel)}
    for row in table.with_format(None):
        for column, names in class_names.items():  # -1 means that there is no class
            row[column] = names[row[column]] if row[column] is not None and row[column] >= 0 else ""
        row[video] = _video_path(row[video], folder)
        yield {column: readers.cell_text(value) for column, value in row.items()}


def _video_path(video: Any, folder: Path) -> str:
    """The path of a video. If it is given as bytes, they are written to a file of `folder`."""
    if isinstance(video, bytes):
        video = {"bytes": video}
    if not isinstance(video, dict):
        return readers.cell_text(video)
    if video.get("bytes") is None:
        return readers.cell_text(video.get("path"))
    suffix = Path(video.get("path") or "").suffix.lower() or ".mp4"
    file = folder / (hashlib.sha256(video["bytes"]).hexdigest()[:20] + suffix)
    if not file.is_file():  # a file of this name has these bytes
        files.write_bytes(file, video["bytes"])
    return file.as_posix()
