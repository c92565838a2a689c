"""A Hugging Face dataset -> rows of text; videos that it holds as bytes become files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rbft_plugin import files
from rbft_plugin.data import readers
from rbft_plugin.data.prepared import DataFolder
from rbft_plugin.data.readers import Row, Source
from rbft_plugin.errors import ProblemsError, RbftError, one_line, shortened
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.dataset_sources import SPLITS, Hub
from rbft_plugin.spec.yaml_models import UNUSABLE

NAMES = {"train": "train", "val": "val", "validation": "val", "valid": "val", "dev": "val", "test": "test"}


def read(dataset: Dataset, hub: Hub) -> Source:
    """Rows of all splits that are wanted; class numbers become names, the video column holds paths.

    A video that the dataset holds as bytes is written once, to data/<name>/source/<hash of its bytes>.<extension>.
    Where the YAML names no column of ids and there is no column `id`, <split>-<number from 0> is the id.
    """
    parts = _loaded(hub)
    theirs = _wanted(dataset, hub, list(parts))
    rows, problems = [], []
    for split, name in theirs:
        part = parts[name]
        if hub.video not in part.column_names:
            there = shortened(part.column_names, 20)
            problems.append(f"split '{name}' has no column '{hub.video}' (annotations.hub.video); it has: {there}")
            continue
        for number, cells in enumerate(_rows(part, hub.video, DataFolder(dataset.name).source)):
            if dataset.annotations.id is None:
                cells.setdefault("id", f"{name}-{number}")
            rows.append(Row(f"{name} row {number + 1}", cells, split))
    if problems:
        raise ProblemsError(hub.path, problems)
    bad = [row.where for row in rows if any(UNUSABLE.search(t) for pair in row.cells.items() for t in pair)]
    if bad:
        raise ProblemsError(hub.path, [f"text with null characters or broken Unicode: {shortened(bad)}"])
    return Source(hub.path, rows, videos=f"{{{hub.video}}}")


def _loaded(hub: Hub) -> dict[str, Any]:
    import datasets

    local = readers.place(hub.path)
    saved = any((local / name).is_file() for name in ("dataset_dict.json", "state.json"))  # by save_to_disk
    try:
        with _quiet():
            if saved:
                found = datasets.load_from_disk(str(local))
            else:
                where = str(local) if local.is_dir() else hub.path
                found = datasets.load_dataset(where, hub.config, revision=hub.revision)
    except Exception as error:  # datasets raises its own kinds, OSError, ValueError and more: each says what it lacks
        said = one_line(str(error))
        raise RbftError(f"{hub.path}: cannot be read with `datasets` (annotations.hub): {said:.300}") from None
    return dict(found) if isinstance(found, dict) else {"train": found}


def _wanted(dataset: Dataset, hub: Hub, there: list[str]) -> list[tuple[str | None, str]]:
    """(Our split, its name at the hub); ours is None where the YAML's `splits` decide."""
    decided = dataset.splits is not None and dataset.splits.decides
    if hub.splits:
        named = [(split, hub.splits[split]) for split in SPLITS if split in hub.splits]
        if lacking := [f"'{theirs}'" for _, theirs in named if theirs not in there]:
            problem = f"annotations.hub.splits: there is no split {', '.join(lacking)}; there are: {shortened(there)}"
            raise ProblemsError(hub.path, [problem])
        return [*named]
    if decided:
        return [(None, name) for name in there]
    ours = [(NAMES[name], name) for name in there if name in NAMES]
    if (
        len(ours) < len(there)
        or len({split for split, _ in ours}) < len(ours)
        or not {"train", "test"} <= {*dict(ours)}
    ):
        raise ProblemsError(
            hub.path,
            [f"its splits are {shortened(there)}: say which train and test, in annotations.hub.splits or in splits"],
        )
    return [*ours]


def _rows(part: Any, video: str, target: Path) -> Iterator[readers.Cells]:
    import datasets

    media = (datasets.Video, datasets.Image, datasets.Audio)
    part = part.remove_columns([c for c, f in part.features.items() if c != video and isinstance(f, media)])
    if isinstance(part.features[video], datasets.Video):
        part = part.cast_column(video, datasets.Video(decode=False))
    names = {c: f.names for c, f in part.features.items() if isinstance(f, datasets.ClassLabel)}
    for row in part.with_format(None):
        for column, known in names.items():  # -1 stands for no class
            row[column] = known[row[column]] if row[column] is not None and row[column] >= 0 else ""
        row[video] = _path(row[video], target)
        yield {column: readers.text(value) for column, value in row.items()}


def _path(video: Any, target: Path) -> str:
    """The path of a video; bytes are written to `target` first, unless they are there already."""
    if isinstance(video, bytes):
        video = {"bytes": video}
    if not isinstance(video, dict):
        return readers.text(video)
    if video.get("bytes") is None:
        return readers.text(video.get("path"))
    suffix = Path(video.get("path") or "").suffix.lower() or ".mp4"
    file = target / (hashlib.sha256(video["bytes"]).hexdigest()[:20] + suffix)
    if not file.is_file():  # its name says what it holds
        files.write_bytes(file, video["bytes"])
    return file.as_posix()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of `datasets`, which is only reading an index."""
    import datasets

    was = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not was:
            datasets.enable_progress_bars()
