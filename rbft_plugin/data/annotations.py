"""Makes samples of annotated rows: their ids, labels, splits, videos and parts of videos."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rbft_plugin.clips.video import WHOLE, Part
from rbft_plugin.data import readers, segments, sources
from rbft_plugin.data.readers import Cells, Row, Source
from rbft_plugin.data.video_lookup import VideoLookup
from rbft_plugin.errors import ProblemsError, shortened
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.dataset_prompts import MEDIA
from rbft_plugin.spec.dataset_sources import SPLITS, Annotations, Split, Splits

COLUMN_FIELD = re.compile(r"\{(.+?)\}")  # in the template of the videos' paths


@dataclass(frozen=True)
class Sample:
    """An annotated video, or a part of one. `label` is None if it has none, `split` until `splits.assign` decides it.

    `where` names the row in messages, such as "row 3" (the first after a header is row 1). Samples of one `group`
    must be in one split. `context` has the names and texts that prompts show.
    """

    id: str
    video: Path
    label: str | None
    split: str | None
    where: str
    part: Part = WHOLE
    group: str | None = None
    context: tuple[tuple[str, str], ...] = ()

    @property
    def named(self) -> str:
        """The row and id, for a message."""
        return self.where if self.where == self.id else f"{self.where} (id '{self.id}')"

    def problem(self, text: str) -> str:
        """A line of a message about the video."""
        return f"{self.named}: {self.video} {text}"


@dataclass(frozen=True)
class Annotated:
    """Samples in the order of their source, and what `rbft check` says about the annotations.

    `dropped` says what was left out because of the YAML. `label_values` counts the values of the label column.
    """

    samples: list[Sample]
    warnings: tuple[str, ...]
    dropped: tuple[str, ...]
    label_values: Counter[str]


def read_annotations(dataset: Dataset) -> Annotated:
    """All samples of a dataset. Raises ProblemsError with every problem of the annotations.

    A sample has no split yet if `splits.assign` must decide it.
    """
    source, annotations = sources.read(dataset), dataset.annotations
    if problems := _missing_columns(dataset, source) or ([] if source.rows else ["has no rows"]):
        raise ProblemsError(source.name, problems)
    label_values = Counter(row.cells[annotations.label_column].strip() for row in source.rows)
    label_of: dict[str, str | None] = dict.fromkeys(annotations.unlabelled)
    label_of |= {raw: label.name for label in dataset.labels for raw in label.raw}
    split_of, split_problems = _splits(dataset, source.rows)
    labelled_rows = [
        (row, label_of[value])
        for row in source.rows
        if (value := row.cells[annotations.label_column].strip()) in label_of
    ]
    problems = [
        *_id_problems(annotations.id_column, source.rows),
        *_label_problems(annotations, label_of, label_values),
        *split_problems,
        *_context_problems(dataset, [row for row, _ in labelled_rows]),
    ]
    template, lookup = os.path.expandvars(dataset.videos or source.videos), VideoLookup()
    samples = []
    for row, label in labelled_rows:
        part = segments.part(dataset.segment, row.cells)
        video = lookup.find(_filled(template, row.cells))
        sample = _sample(dataset, row, label, split_of.get(row.where))
        problems += [f"{sample.named}: {problem}" for problem in (part, video) if isinstance(problem, str)]
        if isinstance(part, Part) and isinstance(video, Path):
            samples.append(replace(sample, part=part, video=video))
    if unlabelled := [s.id for s in samples if s.label is None and s.split in ("val", "test")]:
        problems.append(f"samples without a label outside the training split: {shortened(unlabelled)}")
    if problems:
        raise ProblemsError(source.name, problems)
    warnings = list(source.notes)
    existing_columns = {column for row in source.rows for column in row.cells}
    if unknown := [f"'{column}'" for column in annotations.hidden if column not in existing_columns]:
        text = "annotations.hidden names columns that no row has, and so keeps nothing from prompts"
        warnings.append(f"{text}: {', '.join(unknown)}")
    dropped = Counter({value: count for value, count in label_values.items() if value in annotations.drop})
    notes = (f"left out, as annotations.drop says: {_counted(dropped)}",) if dropped else ()
    return Annotated(samples, tuple(warnings), notes, label_values)


def _id_problems(id_column: str, rows: list[Row]) -> list[str]:
    counts = Counter(row.cells[id_column] for row in rows)
    problems = [f"id '{i}' stands in {count} rows" for i, count in counts.items() if i and count > 1]
    without = [row.where for row in rows if not row.cells[id_column]]
    return problems + ([f"without an id: {shortened(without)}"] if without else [])


def _label_problems(
    annotations: Annotations, label_of: Mapping[str, str | None], label_values: Counter[str]
) -> list[str]:
    known = {*label_of, *annotations.drop}
    unknown = Counter({value: count for value, count in label_values.items() if value not in known})
    problem = (
        f"column '{annotations.label_column}' has values of no label: {_counted(unknown)}; add each to the values of "
        "a label, to annotations.unlabelled or to annotations.drop"
    )
    return [problem] if unknown else []


def _context_problems(dataset: Dataset, rows: list[Row]) -> list[str]:
    """Columns that prompts show, and whose text training would replace by a video or picture."""
    problems = []
    for name, column in dataset.prompts.context.items():
        bad = [row.where for row in rows if any(mark in row.cells.get(column, "") for mark in MEDIA)]
        if bad:
            problems.append(
                f"column '{column}', which prompts.context.{name} shows, holds '<video>' or '<image>', which training "
                f"would take for one, in: {shortened(bad)}"
            )
    return problems


def _missing_columns(dataset: Dataset, source: Source) -> list[str]:
    """Columns that the YAML names and that rows lack. Some rows, but not all, may lack context and segments."""
    videos = os.path.expandvars(dataset.videos or source.videos)
    needed = {"annotations.id": dataset.annotations.id_column, "annotations.label": dataset.annotations.label_column}
    needed |= {f"videos ({{{column}}})": column for column in COLUMN_FIELD.findall(videos)}
    if dataset.splits:
        needed |= {f"splits.{k}": c for k in ("column", "group") if (c := getattr(dataset.splits, k))}
    optional = {f"segment.{key}": column for key, column in dict(dataset.segment).items() if column}
    optional |= {f"prompts.context.{name}": column for name, column in dataset.prompts.context.items()}
    problems = []
    for key, column in (needed | optional).items():
        lacking = [row.where for row in source.rows if column not in row.cells]
        if lacking and len(lacking) == len(source.rows):
            problems.append(sources.no_column(column, key, list(source.rows[0].cells)))
        elif lacking and key in needed:  # rows of JSON, or of a file that differs from another split's
            problems.append(f"no '{column}', which {key} names, in: {shortened(lacking)}")
    return problems


def _sample(dataset: Dataset, row: Row, label: str | None, split: str | None) -> Sample:
    """A sample without its video and part."""
    group_column = dataset.splits.group if dataset.splits else None
    texts = {name: " ".join(row.cells.get(column, "").split()) for name, column in dataset.prompts.context.items()}
    return Sample(
        id=row.cells[dataset.annotations.id_column],
        video=Path(),
        label=label,
        split=split,
        where=row.where,
        group=row.cells[group_column].strip() or None if group_column else None,
        context=tuple((name, text) for name, text in texts.items() if text),
    )


def _splits(dataset: Dataset, rows: list[Row]) -> tuple[dict[str, str], list[str]]:
    """The splits that are given, by the `where` of their rows; and the problems with them."""
    if dataset.splits is None or not dataset.splits.decides:
        return {row.where: row.split for row in rows if row.split}, []
    if dataset.splits.column:
        return _splits_of_column(dataset.splits, dataset.splits.column, rows)
    return _splits_of_id_files(dataset.splits.ids, dataset.annotations.id_column, rows)


def _splits_of_column(splits: Splits, column: str, rows: list[Row]) -> tuple[dict[str, str], list[str]]:
    split_of: dict[str, str] = {split: split for split in SPLITS if split not in splits.values}
    split_of |= {raw: split for split, raws in splits.values.items() for raw in raws}  # "val" can be a value of train
    values = {row.where: row.cells[column].strip() for row in rows}
    unknown = Counter(value for value in values.values() if value not in split_of)
    problem = f"column '{column}' has values of no split: {_counted(unknown)}; add each to splits.values"
    known = {where: split_of[value] for where, value in values.items() if value in split_of}
    return known, [problem] if unknown else []


def _splits_of_id_files(
    id_files: Mapping[Split, Path], id_column: str, rows: list[Row]
) -> tuple[dict[str, str], list[str]]:
    problems: list[str] = []
    split_of: dict[str, str] = {}
    existing_ids = {row.cells[id_column] for row in rows}
    for split in [split for split in SPLITS if split in id_files]:
        file, key = readers.expanded(id_files[split]), f"splits.ids.{split}"
        ids = _ids(file, key)
        if unknown := [i for i in ids if i not in existing_ids]:
            problems.append(f"{file} ({key}) names ids that are in no row: {shortened(unknown)}")
        if repeated := [i for i in ids if i in split_of]:
            problems.append(f"{file} ({key}) names ids that another split's file names: {shortened(repeated)}")
        split_of |= dict.fromkeys(ids, split)
    return {row.where: split_of[i] for row in rows if (i := row.cells[id_column]) in split_of}, problems


def _ids(file: Path, key: str) -> list[str]:
    """The ids of a text file with one id in each line. Empty lines and comments (#) are skipped."""
    readers.require_file(file, key)
    lines = [line.strip() for line in readers.utf8_text(file).splitlines()]
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def _filled(template: str, cells: Cells) -> str:
    return COLUMN_FIELD.sub(lambda field: cells[field[1]], template)


def _counted(values: Counter[str]) -> str:
    rows = [f"{value!r} ({count} row{'s' if count > 1 else ''})" for value, count in values.most_common()]
    return shortened(rows, 20)
