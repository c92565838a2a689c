"""dataset_info/<name>.yaml -> Dataset: what a user says of a dataset."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from rbft_plugin.answers import normal
from rbft_plugin.config import Name, Strict, load_yaml
from rbft_plugin.errors import ProblemsError, RbftError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
RESERVED_SUFFIXES = ("rationale", "hinted", "ll", "novideo")  # of task names: rbft_<name>_<suffix>
TAGS = ("rbft_labels", "rbft_likelihoods", "rbft_novideos", "rbft_rationales", "rbft_rationales_hinted")  # of tasks
READERS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl"}


def _without_media(text: str) -> str:
    if "<video>" in text or "<image>" in text:
        raise ValueError("must not hold '<video>' or '<image>': the video is put before the text")
    return text


Shown = Annotated[str, AfterValidator(_without_media)]  # in prompts, where training would take them for media


def _by_split(value: Any) -> Any:
    """One path for all splits, or one for each."""
    return {"all": value} if isinstance(value, str | Path) else value


Paths = Annotated[dict[Literal["all", "train", "val", "test"], Path], BeforeValidator(_by_split)]


class Hub(Strict):
    """A Hugging Face dataset: a hub name or a local folder, read with `datasets`; `video` names its video column."""

    path: Name
    config: Name | None = None
    revision: Name | None = None
    video: Name = "video"
    splits: dict[Split, Name] = {}  # ours: theirs; without it, all that it has, as they are named there


class Join(Strict):
    """A second file whose columns are added to the rows with the same id."""

    file: Path
    id: Name | None = None  # its column of ids; that of the annotations unless given
    columns: tuple[Name, ...] = ()  # to take; all unless given


class Annotations(Strict):
    """Where samples and labels come from: one of `file`, `folder` (of class folders) and `hub`.

    `id` and `label` name columns; paths are relative to the workspace.
    """

    file: Paths | None = None
    folder: Paths | None = None
    hub: Hub | None = None
    id: Name | None = None
    label: Name | None = None
    unlabelled: tuple[str, ...] = ()  # raw labels that mean "no label"
    drop: tuple[str, ...] = ()  # raw labels whose rows are left out
    join: tuple[Join, ...] = ()
    hidden: tuple[Name, ...] = ()  # columns that annotators wrote: never in a prompt


class Segment(Strict):
    """Columns, in seconds, of the part of the video that is the sample.

    `trim`: a positive number drops so much of the end, a negative one of the start (SmartHome-Bench's table).
    """

    start: Name | None = None
    end: Name | None = None
    trim: Name | None = None


class About(Strict):
    """What a person has to know before using a dataset; shown by `rbft check`."""

    title: str = ""
    homepage: str = ""
    licence: str = ""
    citation: str = ""
    videos: str = ""  # how to get them
    missing: str = ""  # what of them may not be had


class Label(Strict):
    """A class: the name that prompts show and the model answers, what it means, and its raw values in the file."""

    name: Annotated[Shown, Field(min_length=1)]
    description: Annotated[Shown, Field(min_length=1)]
    values: tuple[str, ...] = ()
    display: str = ""  # in tables and pictures, where it is not the name

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
    """`column` (and `values`, if it does not say train, val and test), or `ids` and `ratio`.

    `ids` are files with an id a line; what they do not name is split by `ratio` over the other splits, stratified by
    label, seeded, and with all samples of a `group` in one split; without a ratio it trains.
    """

    column: Name | None = None
    values: dict[Split, tuple[str, ...]] = {}
    ids: dict[Split, Path] = {}
    ratio: dict[Split, float] | None = None
    seed: int = 0
    group: Name | None = None  # a column: samples of one source

    @model_validator(mode="after")
    def _one_way(self) -> Splits:
        if (self.column is None) == (self.ratio is None):
            raise ValueError("give either 'column' or 'ratio'")
        if self.values and self.column is None:
            raise ValueError("'values' belongs to 'column'")
        raws = Counter(raw for values in self.values.values() for raw in values)
        if twice := [repr(raw) for raw, n in raws.items() if n > 1]:
            raise ValueError(f"'values' holds more than once: {', '.join(twice)}")
        if self.ratio is not None:
            if any(v < 0 for v in self.ratio.values()) or abs(sum(self.ratio.values()) - 1) > 1e-6:
                raise ValueError("'ratio' must be shares that sum to 1")
            if self.ratio.get("train", 0) == 0 or self.ratio.get("test", 0) == 0:
                raise ValueError("'ratio' needs a train and a test share above 0")
        return self


class Prompts(Strict):
    """`domain` is a sentence on where the videos come from; `context` shows columns under a name (Title: title);
    the others replace the default prompts.

    In these `{domain}`, `{labels}` (a list with descriptions), `{names}` (names alone) and `{context}` are filled in,
    in `hinted` also `{label}`.
    """

    domain: Shown = ""
    context: dict[Name, Name] = {}
    rationale: Shown | None = None
    hinted: Shown | None = None
    label: Shown | None = None

    @field_validator("rationale", "label")
    @classmethod
    def _known_fields(cls, text: str | None) -> str | None:
        unknown = set(re.findall(r"\{(\w*)\}", text or "")) - {"domain", "labels", "names"}
        if unknown:
            raise ValueError(f"unknown field {{{sorted(unknown)[0]}}}; known are {{domain}}, {{labels}}, {{names}}")
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
    about: About = About()
    annotations: Annotations
    videos: Name | None = None
    segment: Segment = Segment()
    max_missing: Annotated[int, Field(ge=0)] = 0  # samples whose videos cannot be used, of which a run may do without
    labels: tuple[Label, ...]
    splits: Splits | None = None
    prompts: Prompts = Prompts()
    clips: ClipSettings = ClipSettings()

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise ValueError("must be lower-case letters, digits, '_' and '-'")
        if name.split("_")[-1] in RESERVED_SUFFIXES:
            raise ValueError(f"must not end in {', '.join('_' + s for s in RESERVED_SUFFIXES)}: tasks are named so")
        if f"rbft_{name}" in TAGS:
            raise ValueError(f"must not be '{name}': rbft_{name} stands for all tasks of a kind")
        return name

    @field_validator("videos")
    @classmethod
    def _one_each(cls, videos: str) -> str:
        if not re.search(r"\{.+?\}", videos):
            raise ValueError("must name a column in braces, such as {id}: each sample has a video of its own")
        return videos

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        if len(labels) < 2:
            raise ValueError("needs two labels or more")
        # answers.parse does not see case and width, registry.f1_metric no punctuation
        names = Counter(re.sub(r"\W+", " ", normal(label.name)).strip() for label in labels)
        raws = Counter(raw for label in labels for raw in label.raw)
        twice = [repr(k) for k, n in (*names.items(), *raws.items()) if n > 1]
        if twice:
            raise ValueError(
                "names must differ in more than case and punctuation, and raw values must differ; more than once: "
                + ", ".join(dict.fromkeys(twice))
            )
        return labels

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def folder(self) -> Path:
        """What the commands make of it."""
        return Path("data") / self.name


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
