"""dataset_info/<name>.yaml -> Dataset: what a user says of a dataset."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.scoring.answers import normal
from rbft_plugin.spec.dataset_sources import (
    FOLDER_COLUMNS,
    SPLITS,
    About,
    Annotations,
    Raw,
    Segment,
    Shown,
    ShownName,
    Split,
    Splits,
)
from rbft_plugin.spec.names import TASK_KINDS, reserved_suffixes
from rbft_plugin.spec.yaml_models import Name, Strict, load_yaml, problems_at

__all__ = ["SPLITS", "Annotations", "ClipSettings", "Dataset", "Label", "Prompts", "Segment", "Split", "Splits", "load"]


class Label(Strict):
    """A class."""

    name: ShownName
    """What prompts show and the model answers."""
    description: Annotated[Shown, Field(min_length=1)]
    """What it means, in a sentence; prompts show it."""
    values: tuple[Raw, ...] = ()
    """Its values in the label column; its name unless given."""
    display: str = ""
    """Its name in tables and pictures, where it is another."""

    @model_validator(mode="before")
    @classmethod
    def _described(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"a label has a description, which prompts show: {{name: {value}, description: ...}}")
        return value

    @property
    def raw(self) -> tuple[str, ...]:
        return self.values or (self.name,)


class Prompts(Strict):
    """Texts that the model is shown.

    In `rationale`, `hinted` and `label`, which replace the defaults, {domain}, {labels} (a list with descriptions),
    {names} (names alone) and {context} are filled in; in `hinted` also {label}.
    """

    domain: Shown = ""
    """A sentence on where the videos come from."""
    context: dict[ShownName, Name] = {}
    """Columns of text to show with the video, each under a name, such as {Title: title}."""
    rationale: Shown | None = None
    """Asks the base model for the rationale of a video; it does not show the label."""
    hinted: Shown | None = None
    """Asks for a rationale and shows the label ({label})."""
    label: Shown | None = None
    """Asks for the label."""
    after_video: Literal["", "\n"] = ""
    """What training rows have between video and prompt: a line break for InternVL, whose processor puts one there."""

    @field_validator("rationale", "hinted", "label")
    @classmethod
    def _known_fields(cls, text: str | None, info: Any) -> str | None:
        known = ["domain", "labels", "names", "context", *(["label"] if info.field_name == "hinted" else [])]
        found = re.findall(r"\{(\w*)\}", text or "")
        if unknown := set(found) - set(known):
            there = ", ".join(f"{{{field}}}" for field in known)
            strange = ", ".join(f"{{{field}}}" for field in sorted(unknown))
            raise ValueError(f"unknown field {strange}; known are {there}")
        if text is not None and info.field_name == "hinted" and "label" not in found:
            raise ValueError("must hold {label}: it is the prompt that shows the label")
        return text


class ClipSettings(Strict):
    """What `prepare` makes of a video."""

    frames: Annotated[int, Field(ge=2, le=768)] = 16
    """At most so many frames, an even number."""
    max_fps: Annotated[float, Field(gt=0, le=30)] = 2.0
    """At most so many frames a second; above 2, Qwen2.5-VL gives every frame the same position in time."""
    max_pixels: Annotated[int, Field(ge=784)] = 200_704
    """At most so many pixels a frame."""
    multiple: Annotated[int, Field(ge=2)] = 28
    """Of both sides, patch x merge size: 28 for Qwen2-VL and Qwen2.5-VL, 32 for Qwen3-VL."""
    crf: Annotated[int, Field(ge=0, le=40)] = 18
    """H.264 quality; lower is better and larger."""

    @field_validator("frames", "multiple")
    @classmethod
    def _even(cls, number: int, info: Any) -> int:
        if number % 2:
            why = {"frames": "models merge frames in pairs", "multiple": "H.264 stores colour at half the resolution"}
            raise ValueError(f"must be even: {why[info.field_name]}")
        return number

    @model_validator(mode="after")
    def _possible(self) -> ClipSettings:
        if self.max_pixels < (2 * self.multiple) ** 2:
            raise ValueError(f"'max_pixels' must be at least (2 x multiple)^2 = {(2 * self.multiple) ** 2}")
        return self


class Dataset(Strict):
    """A dataset of videos with labels: dataset_info/<name>.yaml. Paths in it are relative to the workspace."""

    name: Name
    """The file's name; of lower-case letters, digits, '_' and '-'."""
    about: About = About()
    annotations: Annotations
    videos: Annotated[Name | None, Field(validate_default=True)] = None
    """Where the videos are: a path with columns in braces, such as videos/{id}.mp4; the extension may differ or be left
    out. Not needed with `folder` and `hub`."""
    segment: Segment = Segment()
    max_missing: Annotated[int, Field(ge=0)] = 0
    """How many samples a run may do without because their videos are missing or cannot be read."""
    labels: tuple[Label, ...]
    """The classes, in the order of prompts, tables and pictures."""
    splits: Annotated[Splits | None, Field(validate_default=True)] = None
    """Not needed where `annotations` names a file or folder for each split, or a hub dataset has splits."""
    prompts: Prompts = Prompts()
    clips: ClipSettings = ClipSettings()

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise ValueError("must be lower-case letters, digits, '_' and '-'")
        if name.split("_")[-1] in (reserved := reserved_suffixes()):
            raise ValueError(f"must not end in {', '.join('_' + suffix for suffix in reserved)}: tasks are named so")
        if f"rbft_{name}" in [kind.tag for kind in TASK_KINDS.values()]:
            raise ValueError(f"must not be '{name}': rbft_{name} stands for all tasks of a kind")
        return name

    @field_validator("videos")
    @classmethod
    def _one_each(cls, videos: str | None, info: Any) -> str | None:
        source = info.data.get("annotations")
        if videos is None:
            if source and source.file:
                raise PydanticCustomError("missing", "missing")
            return None
        if source and source.folder:
            raise ValueError("not with 'annotations.folder', which holds the videos")
        if not re.search(r"\{.+?\}", videos):
            raise ValueError("must name a column in braces, such as {id}: each sample has a video of its own")
        return videos

    @field_validator("labels")
    @classmethod
    def _distinct(cls, labels: tuple[Label, ...], info: Any) -> tuple[Label, ...]:
        if len(labels) < 2:
            raise ValueError("needs two labels or more")
        # answers.parse does not see case and width, registry.class_metric no punctuation
        names = Counter(re.sub(r"\W+", " ", normal(label.name)).strip() for label in labels)
        raws = Counter(raw for label in labels for raw in label.raw)
        twice = [repr(k) for k, n in (*names.items(), *raws.items()) if n > 1]
        if twice:
            raise ValueError(
                "names must differ in more than case and punctuation, and raw values must differ; more than once: "
                + ", ".join(dict.fromkeys(twice))
            )
        if source := info.data.get("annotations"):
            for key in ("unlabelled", "drop"):
                if both := [repr(raw) for raw in getattr(source, key) if raw in raws]:
                    raise ValueError(f"raw values of a label that stand in annotations.{key} too: {', '.join(both)}")
        return labels

    @field_validator("splits")
    @classmethod
    def _one_split_each(cls, splits: Splits | None, info: Any) -> Splits | None:
        source: Annotations | None = info.data.get("annotations")
        decides = splits is not None and splits.decides
        if source and source.gives_splits and decides:
            raise ValueError(
                f"{source.gives_splits} says already which sample is in which; only 'group' may stand here"
            )
        if source and not source.gives_splits and not source.hub and not decides:
            if splits is None:
                raise PydanticCustomError("missing", "missing")
            raise ValueError("give either 'column', or 'ratio', 'ids' or both")
        return splits

    @field_validator("prompts")
    @classmethod
    def _no_leak(cls, prompts: Prompts, info: Any) -> Prompts:
        """What tells the label, or was written by somebody who knew it, must not be shown."""
        source, splits = info.data.get("annotations"), info.data.get("splits")
        if not source:
            return prompts
        telling = dict.fromkeys(source.hidden, "annotations.hidden")
        telling |= dict.fromkeys(FOLDER_COLUMNS if source.folder else (), "the class folder is in it")
        telling |= {source.label_column: "the labels"} | ({splits.column: "the splits"} if splits else {})
        leaks: list[tuple[tuple[str | int, ...], str]] = [
            (
                ("context", name),
                f"a label leak: column '{column}' ({telling[column]}) is not known of a new video; take it out",
            )
            for name, column in prompts.context.items()
            if column in telling
        ]
        if leaks:
            raise problems_at(leaks)
        return prompts

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)


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
