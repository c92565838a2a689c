"""Keys of a dataset YAML that say where its samples, labels and splits come from, and their kinds of text."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rbft_plugin.spec.yaml_models import Name, Strict, problems_at

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
FOLDER_COLUMNS = ("id", "label", "path")  # of a folder of class folders
MEDIA = ("<video>", "<image>")  # in texts of prompts, training would take them for media


def _place(value: Any) -> Any:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ValueError("must be a path")
    return value


def _by_split(value: Any) -> Any:
    """One path for all splits, or one for each."""
    if not isinstance(value, dict):
        return {"all": _place(value)}
    if unknown := [key for key in value if key not in SPLITS]:
        raise problems_at([((str(key),), "is no split; use train, val and test") for key in unknown])
    if not {"train", "test"} <= set(value):
        raise ValueError("needs a path for train and one for test")
    return value


def _format(path: Path) -> Path:
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"'{path.suffix}' is not a known format; use one of {', '.join(FORMATS)}")
    return path


def _raw(value: Any) -> Any:
    """A value as it stands in the file; 0 and 1 are so common that they may stand without quotes."""
    return str(value) if type(value) is int else value.strip() if isinstance(value, str) else value


def _without_media(text: str) -> str:
    if any(mark in text for mark in MEDIA):
        raise ValueError("must not hold '<video>' or '<image>': the video is put before the text")
    return text


def _one_line(text: str) -> str:
    if text != " ".join(text.split()):
        raise ValueError("must be one line without leading, trailing or double spaces")
    return text


Shown = Annotated[str, AfterValidator(_without_media)]
ShownName = Annotated[Shown, Field(min_length=1), AfterValidator(_one_line)]
Place = Annotated[Path, BeforeValidator(_place), WithJsonSchema({"type": "string"})]
File = Annotated[Place, AfterValidator(_format)]
Raw = Annotated[str, BeforeValidator(_raw), WithJsonSchema({"type": ["string", "integer"]})]
_each = {"type": "object", "properties": {s: {"type": "string"} for s in SPLITS}, "additionalProperties": False}
_schema = WithJsonSchema({"anyOf": [{"type": "string"}, _each | {"required": ["train", "test"]}]})
Paths = Annotated[dict[Literal["all", "train", "val", "test"], Place], BeforeValidator(_by_split), _schema]


class About(Strict):
    """What a person has to know before using a dataset."""

    title: str = ""
    homepage: str = ""
    licence: str = ""
    citation: str = ""
    videos: str = ""
    """How to get them."""
    missing: str = ""
    """What of them may not be had."""


class Hub(Strict):
    """A Hugging Face dataset, read with `datasets`."""

    path: Name
    """Its name at the hub, or a local folder."""
    config: Name | None = None
    """Its configuration, where it has several."""
    revision: Name | None = None
    """A commit, tag or branch at the hub."""
    video: Name = "video"
    """Its column of videos, or of their paths."""
    splits: dict[Split, Name] = {}
    """Its splits by our names, such as {train: train, test: validation}; without this all that it has are taken."""

    @field_validator("splits")
    @classmethod
    def _enough(cls, splits: dict[Split, str]) -> dict[Split, str]:
        if splits and not {"train", "test"} <= set(splits):
            raise ValueError("needs train and test")
        return splits


class Join(Strict):
    """A second file, whose columns are added to the rows of the same id."""

    file: File
    """csv, tsv, json, jsonl or parquet; relative to the workspace."""
    id: Name | None = None
    """Its column of ids, or a name for the keys of a JSON object; that of the annotations unless given."""
    columns: tuple[Name, ...] = ()
    """The columns to take; all unless given."""


class Annotations(Strict):
    """Where samples and labels come from: one of `file`, `folder` and `hub`."""

    file: Paths | None = None
    """csv, tsv, json, jsonl or parquet, relative to the workspace; or a mapping of train, val and test to files."""
    folder: Paths | None = None
    """A folder of class folders, <folder>/<label>/<video>; or a mapping of train, val and test to such folders."""
    hub: Hub | None = None
    """A Hugging Face dataset."""
    id: Annotated[Name | None, Field(validate_default=True)] = None
    """The column of ids, each of which stands in one row."""
    label: Annotated[Name | None, Field(validate_default=True)] = None
    """The column of labels."""
    unlabelled: tuple[Raw, ...] = ()
    """Values of the label column that mean "no label": such samples train stage 1 only."""
    drop: tuple[Raw, ...] = ()
    """Values of the label column whose rows are left out."""
    join: tuple[Join, ...] = ()
    """Further files, joined by id."""
    hidden: tuple[Name, ...] = ()
    """Columns that annotators wrote (descriptions, reasons, votes); they are refused in prompts."""

    @field_validator("file")
    @classmethod
    def _known_formats(cls, file: Any) -> Any:
        problems: list[tuple[tuple[str | int, ...], str]] = []
        for split, path in (file or {}).items():
            try:
                _format(path)
            except ValueError as error:
                problems.append((() if split == "all" else (split,), str(error)))
        if problems:
            raise problems_at(problems)
        return file

    @field_validator("id", "label")
    @classmethod
    def _where_needed(cls, column: str | None, info: Any) -> str | None:
        given = [key for key in ("file", "folder", "hub") if info.data.get(key, "wrong, and so not there")]
        if column is None and ("file" in given or ("hub" in given and info.field_name == "label")):
            raise PydanticCustomError("missing", "missing")
        if column is not None and given == ["folder"]:
            raise ValueError("not with 'folder': there the path below it is the id, the class folder's name the label")
        return column

    @model_validator(mode="after")
    def _one_source(self) -> Annotations:
        if sum(source is not None for source in (self.file, self.folder, self.hub)) != 1:
            raise ValueError("give one of 'file', 'folder' and 'hub'")
        if twice := [f"'{raw}'" for raw in self.drop if raw in self.unlabelled]:
            raise ValueError(f"both in 'drop' and in 'unlabelled': {', '.join(twice)}")
        return self

    @property
    def gives_splits(self) -> str | None:
        """The key that says which sample is in which split, if one here does."""
        for key, paths in (("file", self.file), ("folder", self.folder)):
            if paths and "all" not in paths:
                return f"annotations.{key}"
        return "annotations.hub.splits" if self.hub and self.hub.splits else None

    @property
    def id_column(self) -> str:
        return self.id or "id"

    @property
    def label_column(self) -> str:
        return self.label or "label"


class Segment(Strict):
    """Columns that say which part of its video is the sample, as 12.5 (seconds), 1:02 or 0:01:02.5."""

    start: Name | None = None
    """Where it starts; at the beginning where the cell is empty."""
    end: Name | None = None
    """Where it ends; at the end where the cell is empty."""
    trim: Name | None = None
    """How much to drop: of the end where positive, of the start where negative, nothing where 0 or empty."""


class Splits(Strict):
    """Which samples train, validate and test: by `column`, or by `ids`, `ratio` or both."""

    column: Name | None = None
    """The column that says it."""
    values: dict[Split, tuple[Raw, ...]] = {}
    """Its values for each split; train, val and test unless given."""
    ids: dict[Split, Place] = {}
    """Text files with an id a line (and # comments). Other samples go by `ratio`; without it they train."""
    ratio: dict[Split, float] | None = None
    """Shares that sum to 1, stratified by label; of the splits that `ids` does not name. Unlabelled samples train."""
    seed: int = 0
    """Of the ratio."""
    group: Name | None = None
    """A column; samples with one value in it (a source, a person, a camera) stay in one split."""

    @model_validator(mode="after")
    def _one_way(self) -> Splits:
        by_share = bool(self.ids) or self.ratio is not None
        if (self.column is not None) == by_share and (by_share or self.group is None):
            raise ValueError("give either 'column', or 'ratio', 'ids' or both")
        if self.values and self.column is None:
            raise ValueError("'values' belongs to 'column'")
        raws = Counter(raw for values in self.values.values() for raw in values)
        if twice := [repr(raw) for raw, n in raws.items() if n > 1]:
            raise ValueError(f"'values' holds more than once: {', '.join(twice)}")
        ratio = self.ratio or {}
        if self.ratio is not None and not (all(v >= 0 for v in ratio.values()) and abs(sum(ratio.values()) - 1) < 1e-6):
            raise ValueError("'ratio' must be shares that sum to 1")
        if both := [split for split in SPLITS if split in ratio and split in self.ids]:
            raise ValueError(f"both in 'ids' and in 'ratio': {', '.join(both)}")
        if by_share:
            named = {*self.ids, *(s for s, share in ratio.items() if share > 0), *(() if self.ratio else ("train",))}
            if not self.ids and not {"train", "test"} <= named:
                raise ValueError("'ratio' needs a train and a test share above 0")
            if lacking := {"train", "test"} - named:
                raise ValueError(f"neither 'ids' nor 'ratio' names {' and '.join(sorted(lacking))}")
        return self

    @property
    def decides(self) -> bool:
        """Whether it says which sample is in which split; with `group` alone the annotations do."""
        return self.column is not None or self.ratio is not None or bool(self.ids)
