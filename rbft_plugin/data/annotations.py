"""Annotated rows -> samples."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from rbft_plugin.clips.video import WHOLE, Part
from rbft_plugin.data import readers, segments, sources
from rbft_plugin.data.readers import Cells, Row, Source
from rbft_plugin.data.video_lookup import Places
from rbft_plugin.errors import ProblemsError, RbftError, shortened
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.dataset_prompts import MEDIA
from rbft_plugin.spec.dataset_sources import SPLITS


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
        return self.where if self.where == self.id else f"{self.where} (id '{self.id}')"

    def problem(self, text: str) -> str:
        """A line of a message about its video."""
        return f"{self.named}: {self.video} {text}"


@dataclass(frozen=True)
class Annotated:
    """Samples in the order of the source, and for `rbft check` what is doubtful in it (files left out, joined rows that
    are not there), what was dropped as the YAML says, and how often each raw label stands there.
    """

    samples: list[Sample]
    doubts: tuple[str, ...]
    dropped: tuple[str, ...]
    raws: Counter[str]


def read_annotations(dataset: Dataset) -> Annotated:
    """Samples and remarks; raises ProblemsError with every problem of the annotations.

    Where splits are by ids or ratio, `split` is that of `ids` or None: `splits.assign` decides.
    """
    source = sources.read(dataset)
    if problems := _missing_columns(dataset, source) or ([] if source.rows else ["has no rows"]):
        raise ProblemsError(source.name, problems)
    rows, notes, problems = _labelled(dataset, source.rows)
    split_of, wrong = _splits(dataset, source.rows)
    problems = _bad_ids(dataset, source.rows) + problems + wrong + _media(dataset, rows)
    template, places = os.path.expandvars(dataset.videos or source.videos), Places()
    found = []
    for row, label in rows:
        part = segments.part(dataset.segment, row.cells)
        video = places.find(_filled(template, row.cells))
        sample = _sample(dataset, row, label, split_of.get(row.where))
        problems += [f"{sample.named}: {p}" for p in (part, video) if isinstance(p, str)]
        if isinstance(part, Part) and isinstance(video, Path):
            found.append(replace(sample, part=part, video=video))
    lost = [s.id for s in found if s.label is None and s.split in ("val", "test")]
    if lost:
        problems.append(f"samples without a label outside the training split: {shortened(lost)}")
    if problems:
        raise ProblemsError(source.name, problems)
    raws = Counter(row.cells[dataset.annotations.label_column].strip() for row in source.rows)
    there = {column for row in source.rows for column in row.cells}
    strange = [f"'{column}'" for column in dataset.annotations.hidden if column not in there]
    hides = f"annotations.hidden names columns that no row has, and so keeps nothing from prompts: {', '.join(strange)}"
    return Annotated(found, (*source.notes, *([hides] if strange else [])), tuple(notes), raws)


def _labelled(dataset: Dataset, rows: list[Row]) -> tuple[list[tuple[Row, str | None]], list[str], list[str]]:
    """Rows that are not dropped with their labels; remarks; problems."""
    given, column = dataset.annotations, dataset.annotations.label_column
    label_of: dict[str, str | None] = dict.fromkeys(given.unlabelled)
    label_of |= {raw: label.name for label in dataset.labels for raw in label.raw}
    raws = Counter(row.cells[column].strip() for row in rows)
    dropped = Counter({raw: n for raw, n in raws.items() if raw in given.drop})
    unknown = Counter({raw: n for raw, n in raws.items() if raw not in label_of and raw not in dropped})
    notes = [f"left out, as annotations.drop says: {_counted(dropped)}"] if dropped else []
    problem = (
        f"column '{column}' has values of no label: {_counted(unknown)}; add each to the values of a label, to "
        "annotations.unlabelled or to annotations.drop"
    )
    kept = [(row, raw) for row in rows if (raw := row.cells[column].strip()) in label_of]
    return [(row, label_of[raw]) for row, raw in kept], notes, [problem] if unknown else []


def _bad_ids(dataset: Dataset, rows: list[Row]) -> list[str]:
    column = dataset.annotations.id_column
    ids = Counter(row.cells[column] for row in rows)
    problems = [f"id '{i}' stands in {n} rows" for i, n in ids.items() if i and n > 1]
    without = [row.where for row in rows if not row.cells[column]]
    return problems + ([f"without an id: {shortened(without)}"] if without else [])


def _sample(dataset: Dataset, row: Row, label: str | None, split: str | None) -> Sample:
    """All of a sample but its video and part."""
    column = dataset.splits.group if dataset.splits else None
    shown = {name: " ".join(row.cells.get(c, "").split()) for name, c in dataset.prompts.context.items()}
    return Sample(
        id=row.cells[dataset.annotations.id_column],
        video=Path(),
        label=label,
        split=split,
        where=row.where,
        group=row.cells[column].strip() or None if column else None,
        context=tuple((name, text) for name, text in shown.items() if text),
    )


def _splits(dataset: Dataset, rows: list[Row]) -> tuple[dict[str, str], list[str]]:
    """Splits that the annotations or files of ids say, by the rows' `where`; and what is wrong with them."""
    splits, id_column = dataset.splits, dataset.annotations.id_column
    if splits is None or not splits.decides:
        return {row.where: row.split for row in rows if row.split}, []
    if splits.column:
        split_of: dict[str, str] = {split: split for split in SPLITS if split not in splits.values}
        split_of |= {raw: split for split, raws in splits.values.items() for raw in raws}  # "val" may be said to train
        said = {row.where: row.cells[splits.column].strip() for row in rows}
        unknown = Counter(raw for raw in said.values() if raw not in split_of)
        text = f"column '{splits.column}' has values of no split: {_counted(unknown)}; add each to splits.values"
        return {where: split_of[raw] for where, raw in said.items() if raw in split_of}, [text] if unknown else []
    problems: list[str] = []
    decided: dict[str, str] = {}
    there = {row.cells[id_column] for row in rows}
    for split in [s for s in SPLITS if s in splits.ids]:
        file = readers.expanded(splits.ids[split])
        named = _ids(file, f"splits.ids.{split}")
        if strange := [i for i in named if i not in there]:
            problems.append(f"{file} (splits.ids.{split}) names ids that are in no row: {shortened(strange)}")
        if both := [i for i in named if i in decided]:
            problems.append(f"{file} (splits.ids.{split}) names ids that another split's file names: {shortened(both)}")
        decided |= dict.fromkeys(named, split)
    return {row.where: decided[i] for row in rows if (i := row.cells[id_column]) in decided}, problems


def _ids(file: Path, key: str) -> list[str]:
    """Ids of a text file: one a line, without empty lines and those that begin with #."""
    if not os.path.isfile(file):
        raise RbftError(f"{file}: no such file ({key}, relative to the workspace {Path.cwd()})")
    lines = [line.strip() for line in readers.utf8_text(file).splitlines()]
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def _media(dataset: Dataset, rows: list[tuple[Row, str | None]]) -> list[str]:
    """Columns that prompts show, in which training would take text for a video or picture."""
    problems = []
    for name, column in dataset.prompts.context.items():
        bad = [row.where for row, _ in rows if any(mark in row.cells.get(column, "") for mark in MEDIA)]
        if bad:
            problems.append(
                f"column '{column}', which prompts.context.{name} shows, holds '<video>' or '<image>', which training "
                f"would take for one, in: {shortened(bad)}"
            )
    return problems


def _missing_columns(dataset: Dataset, source: Source) -> list[str]:
    """Columns that the YAML names and some row lacks; what is shown and segments may be missing in some, not in all."""
    videos = os.path.expandvars(dataset.videos or source.videos)
    needed = {"annotations.id": dataset.annotations.id_column, "annotations.label": dataset.annotations.label_column}
    needed |= {f"videos ({{{c}}})": c for c in re.findall(r"\{(.+?)\}", videos)}
    if dataset.splits:
        needed |= {f"splits.{k}": c for k in ("column", "group") if (c := getattr(dataset.splits, k))}
    optional = {f"segment.{key}": column for key, column in dict(dataset.segment).items() if column}
    optional |= {f"prompts.context.{name}": column for name, column in dataset.prompts.context.items()}
    problems = []
    for key, column in (needed | optional).items():
        lacking = [row.where for row in source.rows if column not in row.cells]
        if lacking and len(lacking) == len(source.rows):
            problems.append(sources.no_column(column, key, list(source.rows[0].cells)))
        elif lacking and key in needed:  # only JSON has such rows, or a file that differs from another split's
            problems.append(f"no '{column}', which {key} names, in: {shortened(lacking)}")
    return problems


def _counted(values: Counter[str]) -> str:
    return shortened([f"{v!r} ({n} row{'s' if n > 1 else ''})" for v, n in values.most_common()], 20)


def _filled(template: str, cells: Cells) -> str:
    return re.sub(r"\{(.+?)\}", lambda m: cells[m.group(1)], template)
