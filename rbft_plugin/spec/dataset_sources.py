"""Keys of a dataset YAML that say where its samples, labels and splits come from."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from rbft_plugin.spec.yaml_models import Name, Problem, Strict, problems_at

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
FORMATS = (".csv", ".tsv", ".json", ".jsonl", ".parquet")
ONE_WAY = "give 'column', or 'ratio', 'ids' or both, or 'folds'"  # said of splits that do none of these
FOLDER_COLUMNS = ("id", "label", "path")  # the columns that samples of a folder of class folders have


def _workspace_path(value: Any) -> Any:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ValueError("must be a path")
    return value


def _by_split(value: Any) -> Any:
    """One path for all splits, or one for each."""
    if not isinstance(value, dict):
        return {"all": _workspace_path(value)}
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
    """A value as it stands in a file of annotations. 0 and 1 are so common that they need no quotes in YAML."""
    return str(value) if type(value) is int else value.strip() if isinstance(value, str) else value


RawValue = Annotated[str, BeforeValidator(_raw), WithJsonSchema({"type": ["string", "integer"]})]
WorkspacePath = Annotated[Path, BeforeValidator(_workspace_path), WithJsonSchema({"type": "string"})]
File = Annotated[WorkspacePath, AfterValidator(_format)]
_each = {"type": "object", "properties": {s: {"type": "string"} for s in SPLITS}, "additionalProperties": False}
_schema = WithJsonSchema({"anyOf": [{"type": "string"}, _each | {"required": ["train", "test"]}]})
Paths = Annotated[dict[Literal["all", "train", "val", "test"], WorkspacePath], BeforeValidator(_by_split), _schema]


class Hub(Strict):
    """A Hugging Face dataset, read with `datasets`."""

    path: Name
    """The dataset's name on the hub, or a local folder."""
    config: Name | None = None
    """The configuration, if the dataset has several."""
    revision: Name | None = None
    """A commit, tag or branch on the hub."""
    video: Name = "video"
    """The column of videos, or of their paths."""
    splits: dict[Split, Name] = {}
    """The dataset's splits by our names, such as {train: train, test: validation}. Without this, all are taken."""

    @field_validator("splits")
    @classmethod
    def _train_and_test(cls, splits: dict[Split, str]) -> dict[Split, str]:
        if splits and not {"train", "test"} <= set(splits):
            raise ValueError("needs train and test")
        return splits


class Join(Strict):
    """A second file, whose columns are added to the rows of the same id."""

    file: File
    """csv, tsv, json, jsonl or parquet; relative to the workspace."""
    id: Name | None = None
    """The file's column of ids, or a name for the keys of a JSON object. Without this, `annotations.id`."""
    columns: tuple[Name, ...] = ()
    """The columns that are added. Without this, all are."""


class Annotations(Strict):
    """Where samples and labels come from: one of `file`, `folder` and `hub`."""

    file: Paths | None = None
    """csv, tsv, json, jsonl or parquet, relative to the workspace; or a mapping of train, val and test to files."""
    folder: Paths | None = None
    """A folder of class folders, <folder>/<label>/<video>; or a mapping of train, val and test to such folders."""
    hub: Hub | None = None
    """A Hugging Face dataset."""
    id: Annotated[Name | None, Field(validate_default=True)] = None
    """The column of ids. Each id stands in one row."""
    label: Annotated[Name | None, Field(validate_default=True)] = None
    """The column of labels."""
    unlabelled: tuple[RawValue, ...] = ()
    """Values of the label column that mean "no label". Such samples train stage 1 only."""
    drop: tuple[RawValue, ...] = ()
    """Values of the label column whose rows are left out."""
    join: tuple[Join, ...] = ()
    """Further files, joined by id."""
    hidden: tuple[Name, ...] = ()
    """Columns that annotators wrote (descriptions, reasons, votes). Prompts must not show them."""

    @field_validator("file")
    @classmethod
    def _known_formats(cls, file: Any) -> Any:
        problems: list[Problem] = []
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
    def _where_needed(cls, column: str | None, info: ValidationInfo) -> str | None:
        # A key that failed its own validation is not in info.data; it counts as given.
        given = [key for key in ("file", "folder", "hub") if key not in info.data or info.data[key]]
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
        """The key here that says which sample is in which split, if there is one."""
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
    """Columns of times that say which part of its video a sample is. A time is 12.5 (seconds), 1:02 or 0:01:02.5."""

    start: Name | None = None
    """When the part starts. An empty value means the beginning of the video."""
    end: Name | None = None
    """When the part ends. An empty value means the end of the video."""
    trim: Name | None = None
    """How much is cut off: from the end if positive, from the start if negative, nothing if 0 or empty."""


class Splits(Strict):
    """How samples are split into train, val and test: by `column`, or by `ids`, `ratio` or both; or `folds`."""

    column: Name | None = None
    """The column that says which split a sample is in."""
    values: dict[Split, tuple[RawValue, ...]] = {}
    """The column's values for each split. Without this, they are train, val and test."""
    ids: dict[Split, WorkspacePath] = {}
    """Text files with an id in each line (and # comments). Other samples go by `ratio`; without it they train."""
    ratio: dict[Split, float] | None = None
    """Shares of those splits that `ids` leaves. They sum to 1 and hold for each label. Unlabelled samples train."""
    folds: Annotated[int, Field(ge=2)] | None = None
    """The number of folds. Each labelled sample is in the test of one fold, and is trained on in the others."""
    seed: int = 0
    """The seed of the split by `ratio` or by `folds`."""
    group: Name | None = None
    """A column. Samples that share its value (a source, a person, a camera) stay in one split or fold."""

    @model_validator(mode="after")
    def _one_way(self) -> Splits:
        by_share = bool(self.ids) or self.ratio is not None
        ways = (self.column is not None) + by_share + (self.folds is not None)
        if ways > 1 or (ways == 0 and self.group is None):
            raise ValueError(ONE_WAY)
        if self.values and self.column is None:
            raise ValueError("'values' belongs to 'column'")
        raws = Counter(raw for values in self.values.values() for raw in values)
        if twice := [repr(raw) for raw, n in raws.items() if n > 1]:
            raise ValueError(f"'values' holds more than once: {', '.join(twice)}")
        ratio = self.ratio or {}
        shares = ratio.values()
        if self.ratio is not None and not (all(share >= 0 for share in shares) and abs(sum(shares) - 1) < 1e-6):
            raise ValueError("'ratio' must be shares that sum to 1")
        if both := [split for split in SPLITS if split in ratio and split in self.ids]:
            raise ValueError(f"both in 'ids' and in 'ratio': {', '.join(both)}")
        if by_share:
            named = {*self.ids, *(split for split in ratio if ratio[split] > 0), *(() if ratio else ("train",))}
            if not self.ids and not {"train", "test"} <= named:
                raise ValueError("'ratio' needs a train and a test share above 0")
            if lacking := {"train", "test"} - named:
                raise ValueError(f"neither 'ids' nor 'ratio' names {' and '.join(sorted(lacking))}")
        return self

    @property
    def decides(self) -> bool:
        """Whether this says which sample is in which split. With `group` alone, the annotations say it."""
        return self.folds is not None or self.column is not None or self.ratio is not None or bool(self.ids)
