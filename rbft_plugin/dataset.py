"""dataset_info/<name>.yaml -> Dataset: what a user says of a dataset, and the samples it stands for."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rbft_plugin.errors import ProblemsError, RbftError, shortened

SPLITS = ("train", "val", "test")
RESERVED_SUFFIXES = ("rationale", "ll", "novideo")  # of task names: rbft_<name>_<suffix>
READERS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl"}

Name = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """A part of a YAML file; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Annotations(Strict):
    """The annotation file. `id` and `label` name columns; paths are relative to the workspace."""

    file: Path
    id: Name
    label: Name
    unlabelled: tuple[str, ...] = ()

    @field_validator("file")
    @classmethod
    def _known_format(cls, file: Path) -> Path:
        if file.suffix.lower() not in READERS:
            raise ValueError(f"'{file.suffix}' is not a known format; use one of {', '.join(READERS)}")
        return file


class Label(Strict):
    """A class: the name that prompts show and the model answers, what it means, and its raw values in the file."""

    name: Name
    description: Name
    values: tuple[str, ...] = ()

    @field_validator("name")
    @classmethod
    def _one_line(cls, name: str) -> str:
        if name != " ".join(name.split()):
            raise ValueError("must be one line without leading, trailing or double spaces")
        return name

    @property
    def raw(self) -> tuple[str, ...]:
        return self.values or (self.name,)


class Splits(Strict):
    """Either `column` (and `values`, if it does not say train, val and test), or `ratio` with a seed."""

    column: Name | None = None
    values: dict[Literal["train", "val", "test"], tuple[str, ...]] = {}
    ratio: dict[Literal["train", "val", "test"], float] | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _one_way(self) -> Splits:
        if (self.column is None) == (self.ratio is None):
            raise ValueError("give either 'column' or 'ratio'")
        if self.values and self.column is None:
            raise ValueError("'values' belongs to 'column'")
        if self.ratio is not None:
            if any(v < 0 for v in self.ratio.values()) or abs(sum(self.ratio.values()) - 1) > 1e-6:
                raise ValueError("'ratio' must be shares that sum to 1")
            if self.ratio.get("train", 0) == 0 or self.ratio.get("test", 0) == 0:
                raise ValueError("'ratio' needs a train and a test share above 0")
        return self


class Prompts(Strict):
    """`domain` is a sentence on where the videos come from; the other two replace the default prompts.

    In these `{domain}`, `{labels}` (a list with descriptions) and `{names}` (names alone) are filled in.
    """

    domain: str = ""
    rationale: str | None = None
    label: str | None = None

    @field_validator("rationale", "label")
    @classmethod
    def _known_fields(cls, text: str | None) -> str | None:
        unknown = set(re.findall(r"\{(\w*)\}", text or "")) - {"domain", "labels", "names"}
        if unknown:
            raise ValueError(f"unknown field {{{sorted(unknown)[0]}}}; known are {{domain}}, {{labels}}, {{names}}")
        if "<video>" in (text or ""):
            raise ValueError("must not hold '<video>': the video is put before the text")
        return text


class ClipSettings(Strict):
    """What `prepare` makes of a video. A model family needs sides that are multiples of patch x merge size."""

    frames: Annotated[int, Field(ge=2, le=768)] = 16
    max_fps: Annotated[float, Field(gt=0, le=30)] = 2.0
    max_pixels: Annotated[int, Field(ge=784)] = 200_704
    multiple: Annotated[int, Field(ge=2)] = 28
    crf: Annotated[int, Field(ge=0, le=40)] = 18

    @model_validator(mode="after")
    def _possible(self) -> ClipSettings:
        if self.frames % 2:
            raise ValueError("'frames' must be even: models merge frames in pairs")
        if self.multiple % 2:
            raise ValueError("'multiple' must be even: H.264 stores colour at half the resolution")
        if self.max_pixels < (2 * self.multiple) ** 2:
            raise ValueError(f"'max_pixels' must be at least (2 x multiple)^2 = {(2 * self.multiple) ** 2}")
        return self


class Dataset(Strict):
    """One authored dataset_info/<name>.yaml."""

    name: Name
    annotations: Annotations
    videos: Name
    labels: Annotated[tuple[Label, ...], Field(min_length=2)]
    splits: Splits
    prompts: Prompts = Prompts()
    clips: ClipSettings = ClipSettings()
    about: str = ""

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise ValueError("must be lower-case letters, digits, '_' and '-'")
        if name.split("_")[-1] in RESERVED_SUFFIXES:
            raise ValueError(f"must not end in {', '.join('_' + s for s in RESERVED_SUFFIXES)}: tasks are named so")
        return name

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        names = Counter(label.name.casefold() for label in labels)
        raws = Counter(raw for label in labels for raw in label.raw)
        twice = [repr(k) for k, n in (*names.items(), *raws.items()) if n > 1]
        if twice:
            raise ValueError(f"names and raw values must differ; more than once: {', '.join(dict.fromkeys(twice))}")
        return labels

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def folder(self) -> Path:
        """What the commands make of it."""
        return Path("data") / self.name


@dataclass(frozen=True)
class Sample:
    """One annotated video. `label` is None where the annotation has none; `split` is None until it is decided."""

    id: str
    video: Path
    label: str | None
    split: str | None
    row: int  # in the annotation file; 1 is the first row after a header


def path_of(name: str) -> Path:
    return Path("dataset_info") / f"{name}.yaml"


def available() -> list[str]:
    """Names of the datasets that the workspace has a YAML for."""
    return sorted(p.stem for p in Path("dataset_info").glob("*.yaml"))


def load(name: str) -> Dataset:
    """Read dataset_info/<name>.yaml; raises RbftError with all that is wrong, each with the path to its key."""
    path = path_of(name)
    if not path.is_file():
        raise RbftError(f"{path}: no such dataset. There are: {', '.join(available()) or 'none'}")
    dataset: Dataset = load_yaml(path, Dataset)
    if dataset.name != name:
        raise ProblemsError(path, [f"name: '{dataset.name}' is not the file's name '{name}'"])
    return dataset


def load_yaml(path: Path, model: type[Any]) -> Any:
    """Read a YAML file as a pydantic model; raises ProblemsError that names every bad key by its path."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProblemsError(path, [f"not valid YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(raw, dict):
        raise ProblemsError(path, ["must be a mapping of keys"])
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise ProblemsError(path, [_explained(e) for e in error.errors()]) from None


def _explained(error: Any) -> str:
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"]).lstrip(".") or "the file"
    texts = {"extra_forbidden": "unknown key", "missing": "missing"}
    return f"{where}: {texts.get(error['type'], error['msg'].removeprefix('Value error, '))}"


def read_rows(file: Path) -> list[dict[str, str]]:
    """Rows of an annotation file; every value is text, None becomes "" (UTF-8 with or without byte-order mark)."""
    if not file.is_file():
        raise RbftError(f"{file}: no such file (annotations.file, relative to the workspace {Path.cwd()})")
    kind = READERS[file.suffix.lower()]
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            if kind == "jsonl":
                return list(_json_rows(file, lines))
            reader = csv.DictReader(lines, delimiter="\t" if kind == "tsv" else ",")
            rows = list(reader)
    except UnicodeDecodeError as error:
        raise RbftError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    except csv.Error as error:
        raise RbftError(f"{file}: row {reader.line_num}: {error}") from None
    bad = [i for i, row in enumerate(rows, 1) if None in row or None in row.values()]
    if bad:
        raise RbftError(f"{file}: rows with more or fewer cells than the header: {shortened(bad)}")
    return rows


def _json_rows(file: Path, lines: Any) -> Iterator[dict[str, str]]:
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
    file = dataset.annotations.file.expanduser()
    rows = read_rows(file)
    problems = _missing_columns(dataset, rows)
    if problems:
        raise ProblemsError(file, problems)
    label_of: dict[str, str | None] = {raw: None for raw in dataset.annotations.unlabelled}
    label_of |= {raw: label.name for label in dataset.labels for raw in label.raw}
    split_of = {raw: split for split in SPLITS for raw in dataset.splits.values.get(split, (split,))}
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
        video = Path(os.path.expandvars(_filled(dataset.videos, row))).expanduser()
        found.append(Sample(row[dataset.annotations.id], video, label_of.get(label), split, number))
    problems = [f"id '{i}' stands in {n} rows" if i else f"{n} rows have no id" for i, n in ids.items() if n > 1 or not i]
    if unknown_labels:
        counts = shortened([f"{v!r} ({n} rows)" for v, n in unknown_labels.most_common()], 20)
        problems.append(
            f"column '{dataset.annotations.label}' has values of no label: {counts}; add each to the values of a "
            "label, or to annotations.unlabelled"
        )
    if unknown_splits:
        counts = shortened([f"{v!r} ({n} rows)" for v, n in unknown_splits.most_common()], 20)
        problems.append(f"column '{dataset.splits.column}' has values of no split: {counts}; see splits.values")
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
    named |= {f"videos ({{{c}}})": c for c in re.findall(r"\{(.+?)\}", dataset.videos)}
    if dataset.splits.column:
        named["splits.column"] = dataset.splits.column
    there = shortened(list(rows[0]), 20) if rows else "none"
    return [
        f"no column '{column}', which {key} names; the columns are: {there}"
        for key, column in named.items()
        if not all(column in row for row in rows)
    ]


def _filled(template: str, row: dict[str, str]) -> str:
    return re.sub(r"\{(.+?)\}", lambda m: row[m.group(1)], template)
