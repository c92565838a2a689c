"""dataset_info/<name>.yaml -> Dataset: what a user says of a dataset."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rbft_plugin.answers import normal
from rbft_plugin.errors import ProblemsError, RbftError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
RESERVED_SUFFIXES = ("rationale", "ll", "novideo")  # of task names: rbft_<name>_<suffix>
READERS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl"}


def _without_media(text: str) -> str:
    if "<video>" in text or "<image>" in text:
        raise ValueError("must not hold '<video>' or '<image>': the video is put before the text")
    return text


Name = Annotated[str, Field(min_length=1)]
Shown = Annotated[str, AfterValidator(_without_media)]  # in prompts, where training would take them for media


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

    name: Annotated[Shown, Field(min_length=1)]
    description: Annotated[Shown, Field(min_length=1)]
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
    values: dict[Split, tuple[str, ...]] = {}
    ratio: dict[Split, float] | None = None
    seed: int = 0

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
    """`domain` is a sentence on where the videos come from; the other two replace the default prompts.

    In these `{domain}`, `{labels}` (a list with descriptions) and `{names}` (names alone) are filled in.
    """

    domain: Shown = ""
    rationale: Shown | None = None
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
    annotations: Annotations
    videos: Name
    labels: tuple[Label, ...]
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


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number, as YAML 1.2 and LLaMA-Factory do; to PyYAML it is text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping; raises ProblemsError if it is none."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProblemsError(path, [f"not valid YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(raw, dict):
        raise ProblemsError(path, ["must be a mapping of keys"])
    return raw


def load_yaml(path: Path, model: type[Any]) -> Any:
    """Read a YAML file as a pydantic model; raises ProblemsError that names every bad key by its path."""
    try:
        return model.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ProblemsError(path, [_explained(e) for e in error.errors()]) from None


def _explained(error: Any) -> str:
    keys = [p for p in error["loc"] if p != "[key]"]  # pydantic's mark for a bad key of a mapping
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in keys).lstrip(".") or "the file"
    texts = {
        "extra_forbidden": "unknown key",
        "missing": "missing",
        "string_type": "must be text; YAML takes numbers, yes and no for something else unless they are in quotes",
    }
    return f"{where}: {texts.get(error['type'], error['msg'].removeprefix('Value error, '))}"
