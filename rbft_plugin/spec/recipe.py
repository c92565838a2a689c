"""recipes/*.yaml of the runner -> Recipe: a dataset, a base model, and arms as lists of training stages."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from rbft_plugin.errors import RbftError
from rbft_plugin.spec.filters import Filters
from rbft_plugin.spec.names import TASK_KINDS, stage_name
from rbft_plugin.spec.row_kinds import ROW_KINDS
from rbft_plugin.spec.selection import TRIED, Select
from rbft_plugin.spec.yaml_models import Count, Name, Seeds, Strict, load_yaml, one_of, read_yaml

HarnessOptions = dict[str, Any]  # passed to a harness as they are
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]  # names a folder
# Folders of a run beside those of its arms; see run/layout.py.
RESERVED = ("logs", "rationales", "rationales_hinted", "report", "rows", "rows_hinted", "steps", "superseded")


def scored_tasks() -> list[str]:
    return [name for name, kind in TASK_KINDS.items() if kind.scores]


class Stage(Strict):
    """A training: a LLaMA-Factory recipe, `overrides` of its keys, and the kind of rows that it trains on.

    `samples: labelled` leaves out the training samples that have no label. `checkpoint` takes the model after so many
    optimizer steps, which the training has to save (see its save_steps), in place of its last one. `file` has the texts
    of `rows: rationale_file`, in JSON lines {"id": ..., "text": ...}.
    """

    recipe: Path
    rows: Annotated[str, *one_of(lambda: ROW_KINDS)]
    samples: Literal["all", "labelled"] = "all"
    checkpoint: Count | None = None
    file: Path | None = None
    overrides: HarnessOptions = {}

    @model_validator(mode="after")
    def _with_its_file(self) -> Stage:
        of_file = ROW_KINDS[self.rows].rationales == "file"
        if of_file and self.file is None:
            raise ValueError(f"rows: {self.rows} needs `file`, JSON lines with the 'id' of a sample and its 'text'")
        if self.file is not None and not of_file:
            raise ValueError(f"file: rows: {self.rows} are not made of a file; rationale_file are")
        return self

    @property
    def needs_labels(self) -> bool:
        return self.samples == "labelled" or ROW_KINDS[self.rows].labelled_only


class Training(Strict):
    """`overrides` hold for every stage; a stage's own overrides come after them.

    `adapters`: with LoRA, each stage trains a fresh adapter on the merged model of the last one, or continues that
    model's adapter. `export`: each arm's model is also merged into one checkpoint.
    """

    overrides: HarnessOptions = {}
    stages: dict[Word, Stage]
    adapters: Literal["fresh", "continue"] = "fresh"
    export: bool = False


class EvaluationSettings(Strict):
    """For lmms-eval: `model_args` join those of rbft_vl, `args` are options without their dashes.

    `fit`: each trained arm is also scored on up to so many of the labelled samples that it was trained on; 0: on none.
    """

    tasks: tuple[Annotated[str, *one_of(scored_tasks)], ...] = ("label",)
    """Answers (label), likelihoods of the labels (ll), answers without the video (novideo)."""
    batch_size: Count = 1
    fit: Annotated[int, Field(ge=0)] = 200
    model_args: HarnessOptions = {}
    args: HarnessOptions = {}

    @field_validator("tasks")
    @classmethod
    def _with_answers(cls, tasks: tuple[str, ...]) -> tuple[str, ...]:
        if "label" not in tasks:
            raise ValueError("must hold 'label', which the report compares")
        if len(set(tasks)) < len(tasks):
            raise ValueError("lists a task twice")
        return tasks


class Launch(Strict):
    """What computes a run: training by torchrun on all nodes, the rest by `accelerate launch` on the first one.

    Without `processes`, LLaMA-Factory takes every GPU that it sees. `devices` are values of CUDA_VISIBLE_DEVICES, one
    for each job of `rbft run --jobs N`.
    """

    processes: Count | None = None  # on each node
    nodes: Count = 1
    master_addr: Name = "127.0.0.1"
    master_port: Annotated[int, Field(ge=1, le=65535)] = 29500
    devices: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _whole(self) -> Launch:
        if self.nodes > 1 and self.processes is None:
            raise ValueError("'nodes' needs 'processes', how many each node starts")
        return self

    @property
    def node_rank(self) -> int:
        """The number of this node, from NODE_RANK in the environment."""
        return int(os.environ.get("NODE_RANK", "0"))


class Recipe(Strict):
    """One comparison. All that it makes goes to runs/<run>.

    An arm may repeat a stage with `rows: rationale`. In each further round, the model of the round before writes the
    rationales, and the stage trains on them from where the first round started.
    `shots` (labelled training samples of each class) and `train_fraction` (of all training samples, class by class)
    make the training set smaller, drawn by the seed, the same for every arm. With `shots: 0` no label is used: all
    training samples stay, and stages that need labels fall away. `sweep` makes a cell of each combination of values of
    keys by their path, such as `shots` or `training.overrides.learning_rate`. It compares them on the test split, while
    `select` chooses the settings of each arm on the validation split.
    """

    run: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    dataset: Name
    base_model: Name
    arms: dict[Word, tuple[Word, ...]]
    seeds: Seeds = (0,)
    shots: Annotated[int, Field(ge=0)] | None = None
    train_fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    folds: tuple[Annotated[int, Field(ge=0)], ...] | None = None  # of a dataset with folds; all unless given
    sweep: dict[Name, tuple[Any, ...]] = {}
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str | int] = {}  # of both harnesses
    launch: Launch = Launch()
    filters: Filters = Filters()  # of the base model's rationales
    training: Training
    evaluation: EvaluationSettings = EvaluationSettings()
    select: Select | None = None

    @field_validator("arms")
    @classmethod
    def _usable_arms(cls, arms: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        if not arms:
            raise ValueError("needs an arm")
        for name in arms:
            if name in RESERVED:
                raise ValueError(f"'{name}': a run's own files are in a folder of that name")
        if len(set(arms.values())) < len(arms):
            raise ValueError("two arms have the same stages")
        return arms

    @field_validator("shots", "train_fraction", mode="before")
    @classmethod
    def _one_value(cls, value: Any, info: Any) -> Any:
        if isinstance(value, list):
            raise ValueError(f"must be one value; for several: `sweep: {{{info.field_name}: {value}}}`")
        return value

    @model_validator(mode="after")
    def _known_stages(self) -> Recipe:
        used = [stage for stages in self.arms.values() for stage in stages]
        if unknown := sorted(set(used) - set(self.training.stages)):
            known = ", ".join(self.training.stages)
            raise ValueError(f"arms name stages that are not in training.stages ({known}): {', '.join(unknown)}")
        for arm in self.arms:
            self._check_rounds(arm)
        if self.shots == 0 and self.filters.right:
            raise ValueError("filters.right: compares rationales with labels, and `shots: 0` uses none")
        if self.shots is not None and self.train_fraction is not None:
            raise ValueError("give 'shots' or 'train_fraction', not both")
        if self.select and not any(map(self.stages_of, self.arms)):
            raise ValueError("select: no arm has a stage, so there is nothing to choose")
        if self.select and (given := [name for name, stage in self.training.stages.items() if stage.checkpoint]):
            raise ValueError(f"training.stages.{given[0]}.checkpoint: not with `select`, which chooses checkpoints")
        for key in self.select.settings if self.select else ():
            _, kind, word, *_ = key.split(".")
            if kind == "stages" and word not in used:
                raise ValueError(f"select.settings.{key}: no arm has a stage {word}")
            if kind == "overrides" and all(word in self.training.stages[name].overrides for name in used):
                raise ValueError(f"select.settings.{key}: has no effect, since each stage sets {word} itself")
        if self.select and (mixed := [key for key in self.sweep if key.startswith(TRIED)]):
            raise ValueError(f"sweep.{mixed[0]}: with `select`, settings of trainings stand in select.settings")
        return self

    def _check_rounds(self, arm: str) -> None:
        """Raises ValueError if an arm repeats a stage in a way that makes no rounds."""
        stages = self.arms[arm]
        for stage, number in Counter(stages).items():
            if number == 1:
                continue
            if self.training.stages[stage].rows != "rationale":
                raise ValueError(f"arms.{arm}: lists {stage} twice; only a stage with `rows: rationale` has rounds")
            if sum(one == stage for one, _ in groupby(stages)) > 1:
                raise ValueError(f"arms.{arm}: the rounds of {stage} must follow each other")
            names = [stage_name([stage] * each) for each in range(2, number + 1)]
            if clash := [one for one in stages for name in names if one == name or one.startswith(f"{name}_")]:
                raise ValueError(f"arms.{arm}: {clash[0]} is the name of a folder of the rounds of {stage}; rename it")

    def stages_of(self, arm: str) -> tuple[str, ...]:
        """The stages that an arm is trained in: with `shots: 0`, those that need no labels."""
        return tuple(s for s in self.arms[arm] if self.shots != 0 or not self.training.stages[s].needs_labels)


def recipes_with(key: str, value: str) -> list[Path]:
    """The recipes in recipes/ that give a key this value, such as the name of their run or dataset."""
    found = []
    for path in sorted(Path("recipes").glob("*.yaml")):
        with suppress(RbftError):  # a broken file is not looked for
            if read_yaml(path).get(key) == value:
                found.append(path)
    return found


def load(path: Path) -> Recipe:
    """Read a runner recipe; raises RbftError with all that is wrong, each with the path to its key."""
    if not path.is_file():
        raise RbftError(f"{path}: no such recipe")
    return load_yaml(path, Recipe)
