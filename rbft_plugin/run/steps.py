"""A plan and its steps: what a command reads and makes, and how its outcome is judged."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from rbft_plugin import files
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.model import checkpoint
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.run import layout
from rbft_plugin.run.candidates import Candidate
from rbft_plugin.run.records import Inputs, PlannedEvaluation, PlanRecord, StepKind
from rbft_plugin.run.sweep import Place
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.dataset_sources import Split
from rbft_plugin.spec.recipe import Recipe

T = TypeVar("T")


@dataclass(frozen=True)
class Step:
    """One command. It is done while its record is there and the command, files and models stay what they were.

    `problems_before` is asked before it starts. `problems_beside`, which takes seconds, is asked while the harness
    starts; the harness is ended if there are any. `problems_after`, given its log, decides whether it succeeded.
    """

    name: str
    kind: StepKind
    argv: list[str]
    arm: str | None = None
    seed: int | None = None
    stage: str | None = None
    split: Split | None = None  # whose samples the model is asked about
    fold: int | None = None  # of the test, if it is asked about one alone
    most: int | None = None  # of them, if not all
    cell: str = ""  # the part of a sweep's cell that it depends on
    output: Path | None = None  # a folder that only this step writes
    leaves: tuple[Path, ...] = ()  # files that it has to make; without them it has failed, or has to run again
    files: tuple[Path, ...] = ()  # read by it: content counts; of a folder, the logs of samples below it
    model: Checkpoint | None = None  # read by it: fingerprints count
    models_made: int = 0  # with all weights
    adapters_made: int = 0
    cache: Path | None = None  # what an interrupted start left for the next one with the same inputs
    resumable: bool = False  # the harness itself goes on from a checkpoint-* that an interrupted start left in `output`
    torchrun: bool = False  # the harness starts torchrun, which every node of `launch` has to join
    problems_before: Callable[[], list[str]] = lambda: []
    problems_beside: Callable[[], list[str]] = lambda: []
    problems_after: Callable[[str], list[str]] = lambda log: []
    finish: Callable[[], None] = lambda: None

    @property
    def models(self) -> tuple[str, ...]:
        return (self.model.base, *self.model.adapters) if self.model else ()

    @property
    def made(self) -> list[Path]:
        return [*([self.output] if self.output else []), *self.leaves]

    def command(self) -> list[str]:
        """`argv` as it is run: an evaluation's model arguments end in the present fingerprint of the model."""
        if self.kind not in ("rationales", "score") or not self.model:
            return self.argv
        at = self.argv.index("--model_args") + 1
        return [*self.argv[:at], f"{self.argv[at]},fingerprint={self.model.fingerprint()}", *self.argv[at + 1 :]]

    def inputs(self) -> Inputs:
        """What the outcome depends on, as it is on disk now."""
        return Inputs(
            argv=tuple(self.argv),
            files={p.as_posix(): _content(p) for p in self.files},
            models={m: checkpoint.fingerprint(m) for m in self.models},
        )

    def made_model(self, model: str) -> bool:
        """Whether a model is what this step made, or a checkpoint of it."""
        return self.output is not None and self.output in (Path(model), *Path(model).parents)

    def needs(self, other: Step) -> bool:
        """Whether it has to wait for another step: all others wait for the data, and each for what it reads."""
        if "prepare" in (self.kind, other.kind):
            return self.kind != "prepare"
        read = [*self.files, *map(Path, self.models)]
        return any(path == made or made in path.parents for path in read for made in other.made)


@dataclass(frozen=True)
class Plan:
    """The steps of a run, in order, and what it scores. What several cells or arms have in common is there once.

    With `select`, the steps end with the choice among `candidates`; `plan.add_chosen` adds those that come after it.
    """

    recipe: Recipe
    dataset: Dataset
    steps: list[Step]
    scored: list[PlannedEvaluation] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    made: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @property
    def folder(self) -> Path:
        return layout.run_folder(self.recipe.run)

    def commands(self) -> str:
        """What a person would type, each command below the name of its step."""
        return commands(self.steps)

    def with_env(self, argv: list[str], more: dict[str, str | int] | None = None) -> list[str]:
        """A harness's command with the recipe's environment, and what its launch needs besides."""
        env = self.recipe.env | (more or {})
        return ["env", *(f"{k}={v}" for k, v in env.items()), *argv] if env else argv

    def record(self) -> PlanRecord:
        """What the report has to know of the run."""
        return PlanRecord(arms=tuple(self.recipe.arms), scored=tuple(self.scored))

    def once(self, key: Hashable, make: Callable[[], tuple[Step, T]]) -> T:
        """What the step of this key makes; the step is added when it is asked for first."""
        if key not in self.made:
            step, self.made[key] = make()
            self.steps.append(step)
        return cast(T, self.made[key])


def models_folder(plan: Plan, place: Place) -> Path:
    """Where the models of a place are, and their answers."""
    return layout.models_folder(plan.folder / place.cell, place.arm, place.seed, place.without)


def commands(steps: Iterable[Step]) -> str:
    return "".join(f"# {step.name}\n{shlex.join(step.argv)}\n" for step in steps)


def _content(path: Path) -> str:
    """sha256 of a file, or of the logs of samples below a folder."""
    if path.is_file():
        return files.cached_sha256(path)
    digest = hashlib.sha256()
    logs = evaluation.sample_logs(path) + evaluation.sample_logs(path, "rationales") if path.is_dir() else []
    for log in logs:
        digest.update(log.read_bytes())
    return digest.hexdigest() if path.is_dir() else hashlib.sha256(b"missing").hexdigest()
