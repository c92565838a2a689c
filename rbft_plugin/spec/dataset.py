"""dataset_info/<name>.yaml -> Dataset: all that a user writes about a dataset."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.scoring.answers import normal
from rbft_plugin.spec.dataset_prompts import Label, Prompts
from rbft_plugin.spec.dataset_sources import FOLDER_COLUMNS, ONE_WAY, Annotations, Segment, Splits
from rbft_plugin.spec.names import TASK_KINDS, reserved_suffixes
from rbft_plugin.spec.yaml_models import Name, Strict, load_yaml, problems_at


class About(Strict):
    """What a person has to know before the dataset is used."""

    title: str = ""
    homepage: str = ""
    licence: str = ""
    citation: str = ""
    videos: str = ""
    """How to get the videos."""
    missing: str = ""
    """Which of the videos cannot be had."""


class ClipSettings(Strict):
    """How `prepare` makes a clip of a video."""

    frames: Annotated[int, Field(ge=2, le=768)] = 16
    """The most frames that a clip has, an even number."""
    max_fps: Annotated[float, Field(gt=0, le=30)] = 2.0
    """The most frames for each second of a clip. Above 2, Qwen2.5-VL gives every frame the same position in time."""
    max_pixels: Annotated[int, Field(ge=784)] = 200_704
    """The most pixels that a frame has."""
    multiple: Annotated[int, Field(ge=2)] = 28
    """Width and height are multiples of this: the model's patch size x merge size, which is 28 for Qwen2-VL and
    Qwen2.5-VL, and 32 for Qwen3-VL."""
    crf: Annotated[int, Field(ge=0, le=40)] = 18
    """H.264 quality. A lower number gives better and larger clips."""

    @field_validator("frames", "multiple")
    @classmethod
    def _even(cls, number: int, info: ValidationInfo) -> int:
        why = (
            "models merge frames in pairs"
            if info.field_name == "frames"
            else "H.264 stores colour at half the resolution"
        )
        if number % 2:
            raise ValueError(f"must be even: {why}")
        return number

    @model_validator(mode="after")
    def _possible(self) -> ClipSettings:
        if self.max_pixels < (2 * self.multiple) ** 2:
            raise ValueError(f"'max_pixels' must be at least (2 x multiple)^2 = {(2 * self.multiple) ** 2}")
        return self


class Dataset(Strict):
    """A dataset of videos with labels: dataset_info/<name>.yaml. Paths in it are relative to the workspace."""

    name: Name
    """The name of the dataset and of its file, of lower-case letters, digits, '_' and '-'."""
    about: About = About()
    annotations: Annotations
    videos: Annotated[Name | None, Field(validate_default=True)] = None
    """The path of a sample's video with columns in braces, such as videos/{id}.mp4. The extension may differ or be left
    out. Not needed with `folder` and `hub`."""
    segment: Segment = Segment()
    max_missing: Annotated[int, Field(ge=0)] = 0
    """How many samples may be left out because their videos are missing or cannot be read."""
    labels: tuple[Label, ...]
    """The classes, in the order of prompts, tables and pictures."""
    splits: Annotated[Splits | None, Field(validate_default=True)] = None
    """Not needed if `annotations` names a file or folder for each split, or if a hub dataset has splits."""
    prompts: Prompts = Prompts()
    clips: ClipSettings = ClipSettings()

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise ValueError("must be lower-case letters, digits, '_' and '-'")
        if name.split("_")[-1] in (reserved := reserved_suffixes()):
            raise ValueError(f"must not end in {', '.join('_' + suffix for suffix in reserved)}: tasks are named so")
        if re.search(r"(^|_)fold\d+$", name):
            raise ValueError("must not end in fold and a number: tasks of folds are named so")
        if f"rbft_{name}" in [kind.tag for kind in TASK_KINDS.values()]:
            raise ValueError(f"must not be '{name}': rbft_{name} stands for all tasks of a kind")
        return name

    @field_validator("videos")
    @classmethod
    def _one_video_for_each_sample(cls, videos: str | None, info: ValidationInfo) -> str | None:
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
    def _distinct(cls, labels: tuple[Label, ...], info: ValidationInfo) -> tuple[Label, ...]:
        if len(labels) < 2:
            raise ValueError("needs two labels or more")
        # answers.parse ignores case and width of letters, names.class_metric ignores punctuation.
        names = Counter(re.sub(r"\W+", " ", normal(label.name)).strip() for label in labels)
        raws = Counter(raw for label in labels for raw in label.raw)
        if twice := dict.fromkeys(repr(text) for text, times in (*names.items(), *raws.items()) if times > 1):
            raise ValueError(
                "names must differ in more than case and punctuation, and raw values must differ; more than once: "
                + ", ".join(twice)
            )
        if source := info.data.get("annotations"):
            for key in ("unlabelled", "drop"):
                if both := [repr(raw) for raw in getattr(source, key) if raw in raws]:
                    raise ValueError(f"raw values of a label that stand in annotations.{key} too: {', '.join(both)}")
        return labels

    @field_validator("splits")
    @classmethod
    def _one_split_each(cls, splits: Splits | None, info: ValidationInfo) -> Splits | None:
        source: Annotations | None = info.data.get("annotations")
        given = source and source.gives_splits
        if given and splits and splits.decides:
            raise ValueError(f"{given} says already which sample is in which; only 'group' may stand here")
        if source and not given and not source.hub:
            if splits is None:
                raise PydanticCustomError("missing", "missing")
            if not splits.decides:
                raise ValueError(ONE_WAY)
        return splits

    @field_validator("prompts")
    @classmethod
    def _no_leak(cls, prompts: Prompts, info: ValidationInfo) -> Prompts:
        """A prompt must not show what tells the label, or what was written by somebody who knew it."""
        source, splits = info.data.get("annotations"), info.data.get("splits")
        if not source:
            return prompts
        telling = dict.fromkeys(source.hidden, "annotations.hidden")
        telling |= dict.fromkeys(FOLDER_COLUMNS if source.folder else (), "the class folder is in it")
        telling |= {source.label_column: "the labels"} | ({splits.column: "the splits"} if splits else {})
        leak = "a label leak: column '{}' ({}) is not known of a new video; take it out"
        shown = {name: column for name, column in prompts.context.items() if column in telling}
        if shown:
            raise problems_at([(("context", name), leak.format(of, telling[of])) for name, of in shown.items()])
        return prompts

    @property
    def may_validate(self) -> bool:
        """Whether there can be samples of the split val, as far as this file can tell."""
        if self.folds:
            return False
        given = self.annotations.file or self.annotations.folder
        if self.annotations.gives_splits:
            return "val" in (given or (self.annotations.hub.splits if self.annotations.hub else {}))
        splits = self.splits
        return (
            not splits
            or not (splits.ids or splits.ratio)
            or "val" in splits.ids
            or (splits.ratio or {}).get("val", 0) > 0
        )

    @property
    def folds(self) -> int:
        """How many folds there are; 0 where samples are split into train, val and test."""
        return (self.splits.folds if self.splits else None) or 0

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
    dataset = load_yaml(path, Dataset)
    if dataset.name != name:
        raise ProblemsError(path, [f"name: '{dataset.name}' is not the file's name '{name}'"])
    return dataset
