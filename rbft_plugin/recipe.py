"""recipes/*.yaml of the runner -> Recipe: a dataset, a base model, and arms as lists of training stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from rbft_plugin.config import Name, Strict, load_yaml
from rbft_plugin.errors import RbftError
from rbft_plugin.filters import Filters

Stage = Literal["rationale", "label"]
Settings = dict[str, Any]  # passed on as they stand


class TrainingStage(Strict):
    """A LLaMA-Factory recipe, and keys of it to set otherwise."""

    recipe: Path
    overrides: Settings = {}


class Training(Strict):
    """`overrides` hold for both stages; those of a stage come after them."""

    overrides: Settings = {}
    rationale: TrainingStage
    label: TrainingStage


class Rationales(Strict):
    """The base model's own, which stage 1 trains on."""

    mode: Literal["blind", "hinted"] = "blind"
    """hinted: it is shown the label, and so writes only about samples that have one."""
    filters: Filters = Filters()


class Evaluation(Strict):
    """For lmms-eval: `model_args` join those of rbft_vl, `args` are options without their dashes."""

    tasks: tuple[Literal["label", "ll", "novideo"], ...] = ("label",)
    """Answers (label), likelihoods of the labels (ll), answers without the video (novideo); the report takes label."""
    batch_size: Annotated[int, Field(ge=1)] = 1
    model_args: Settings = {}
    args: Settings = {}

    @field_validator("tasks")
    @classmethod
    def _with_answers(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        if "label" not in tasks:
            raise ValueError("must hold 'label', which the report compares")
        if len(set(tasks)) < len(tasks):
            raise ValueError("a task can be there once")
        return tasks


class Recipe(Strict):
    """One comparison. All that it makes goes to runs/<run>."""

    run: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    dataset: Name
    base_model: Name
    arms: dict[str, tuple[Stage, ...]]
    seeds: tuple[int, ...] = (0,)
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str | int] = {}  # of both harnesses
    rationales: Rationales = Rationales()
    training: Training
    evaluation: Evaluation = Evaluation()

    @field_validator("arms")
    @classmethod
    def _usable_arms(cls, arms: dict[str, tuple[Stage, ...]]) -> dict[str, tuple[Stage, ...]]:
        if not arms:
            raise ValueError("needs an arm")
        for name, stages in arms.items():
            if not name.replace("_", "").replace("-", "").isalnum():
                raise ValueError(f"'{name}': use letters, digits, '_' and '-'")
            if len(set(stages)) < len(stages):
                raise ValueError(f"'{name}': a stage can be there once")
        if len(set(arms.values())) < len(arms):
            raise ValueError("two arms have the same stages")
        return arms

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if not seeds:
            raise ValueError("needs a seed")
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed can be there once")
        return seeds

    @property
    def folder(self) -> Path:
        return Path("runs") / self.run


def load(path: Path) -> Recipe:
    """Read a runner recipe; raises RbftError with all that is wrong, each with the path to its key."""
    if not path.is_file():
        raise RbftError(f"{path}: no such recipe")
    recipe: Recipe = load_yaml(path, Recipe)
    return recipe
