"""Annotation files -> samples."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rbft_plugin.clips import WHOLE, Part
from rbft_plugin.dataset import READERS, SPLITS, Dataset
from rbft_plugin.errors import ProblemsError, RbftError, shortened


@dataclass(frozen=True)
class Sample:
    """One annotated video. `label` is None where the annotation has none; `split` is None until it is decided."""

    id: str
    video: Path
    label: str | None
    split: str | None
    where: str  # "row 3" (1 is the first after a header), with the file's name where there are several
    part: Part = WHOLE
    group: str | None = None  # samples of one source, which must not straddle splits
    context: tuple[tuple[str, str], ...] = ()  # (name, text) shown in prompts

    @property
    def named(self) -> str:
        return f"{self.where} (id '{self.id}')"

    def problem(self, text: str) -> str:
        """A line of a message about its video."""
        return f"{self.named}: {self.video} {text}"


def read_rows(file: Path) -> list[dict[str, str]]:
    """Rows of an annotation file; every value is text, None becomes "" (UTF-8 with or without byte-order mark)."""
    if not file.is_file():
        raise RbftError(f"{file}: no such file (annotations.file, relative to the workspace {Path.cwd()})")
    kind = READERS[file.suffix.lower()]
    content = file.read_bytes()
    try:
        lines = io.StringIO(content.decode("utf-8").removeprefix("\ufeff"), newline="")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise RbftError(f"{file}: line {line}: not UTF-8 text ({error.reason}); save it as UTF-8") from None
    if kind == "jsonl":
        return list(_json_rows(file, lines))
    reader = csv.DictReader(lines, delimiter="\t" if kind == "tsv" else ",")
    try:
        rows = list(reader)
    except csv.Error as error:
        raise RbftError(f"{file}: line {reader.reader.line_num}: {error}") from None
    bad = [i for i, row in enumerate(rows, 1) if None in row or None in row.values()]
    if bad:
        raise RbftError(f"{file}: rows with more or fewer cells than the header: {shortened(bad)}")
    return rows


def _json_rows(file: Path, lines: Iterable[str]) -> Iterator[dict[str, str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise RbftError(f"{file}: line {number}: not JSON ({error.msg})") from None
        if not isinstance(row, dict):
            raise RbftError(f"{file}: line {number}: must be a JSON object")
        yield {k: "" if v is None else str(v) for k, v in row.items()}


def samples(dataset: Dataset) -> list[Sample]:
    """The annotated samples in the order of the file; raises ProblemsError with every problem of the annotations.

    Where splits are by ratio, `split` is None: `splits.assign` decides.
    """
    file = dataset.annotations.file["all"].expanduser()
    rows = read_rows(file)
    problems = _missing_columns(dataset, rows)
    if problems:
        raise ProblemsError(file, problems)
    label_of: dict[str, str | None] = dict.fromkeys(dataset.annotations.unlabelled)
    label_of |= {raw: label.name for label in dataset.labels for raw in label.raw}
    values = dataset.splits.values
    split_of: dict[str, str] = {split: split for split in SPLITS if split not in values}
    split_of |= {raw: split for split, raws in values.items() for raw in raws}  # "val" may be said to train
    videos = os.path.expandvars(dataset.videos)
    unknown_labels: Counter[str] = Counter()
    unknown_splits: Counter[str] = Counter()
    found, ids = [], Counter(row[dataset.annotations.id] for row in rows)
    for number, row in enumerate(rows, 1):
        label, split = row[dataset.annotations.label].strip(), None
        if label not in label_of:
            unknown_labels[label] += 1
        if dataset.splits.column:
            split = split_of.get(row[dataset.splits.column].strip())
            if split is None:
                unknown_splits[row[dataset.splits.column].strip()] += 1
        video = Path(_filled(videos, row)).expanduser()
        found.append(Sample(row[dataset.annotations.id], video, label_of.get(label), split, f"row {number}"))
    problems = [f"id '{i}' stands in {n} rows" for i, n in ids.items() if i and n > 1]
    problems += [f"without an id: {shortened([s.where for s in found if not s.id])}"] if ids[""] else []
    if unknown_labels:
        problems.append(
            f"column '{dataset.annotations.label}' has values of no label: {_counted(unknown_labels)}; add each to the "
            "values of a label, or to annotations.unlabelled"
        )
    if unknown_splits:
        problems.append(
            f"column '{dataset.splits.column}' has values of no split: {_counted(unknown_splits)}; add each to "
            "splits.values"
        )
    lost = [s.id for s in found if s.label is None and s.split in ("val", "test")]
    if lost and not unknown_labels:
        problems.append(f"samples without a label outside the training split: {shortened(lost)}")
    if not rows:
        problems.append("has no rows")
    if problems:
        raise ProblemsError(file, problems)
    return found


def _missing_columns(dataset: Dataset, rows: list[dict[str, str]]) -> list[str]:
    """Columns that the YAML names and some row lacks."""
    named = {"annotations.id": dataset.annotations.id, "annotations.label": dataset.annotations.label}
    named |= {f"videos ({{{c}}})": c for c in re.findall(r"\{(.+?)\}", os.path.expandvars(dataset.videos))}
    if dataset.splits.column:
        named["splits.column"] = dataset.splits.column
    problems = []
    for key, column in named.items():
        lacking = [number for number, row in enumerate(rows, 1) if column not in row]
        if lacking and len(lacking) < len(rows):  # only JSON has such rows
            problems.append(f"no '{column}', which {key} names, in rows: {shortened(lacking)}")
        elif lacking:
            there = shortened(list(rows[0]), 20)
            problems.append(f"no column '{column}', which {key} names; the columns are: {there}")
    return problems


def _counted(values: Counter[str]) -> str:
    return shortened([f"{v!r} ({n} row{'s' if n > 1 else ''})" for v, n in values.most_common()], 20)


def _filled(template: str, row: dict[str, str]) -> str:
    return re.sub(r"\{(.+?)\}", lambda m: row[m.group(1)], template)
