"""A plan and its steps: what a command reads and makes and how to judge it, and what a run scores."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.model import checkpoint
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.run.sweep import Cell
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.recipe import Recipe


@dataclass(frozen=True)
class Step:
    """One command. Its record in steps/ makes it done for as long as command, files and models stay the same.

    `problems_before` is asked before it starts; `problems_beside`, what takes seconds to find out, while the harness
    starts, which is ended if there are any; `problems_after`, with its log, decides whether it succeeded.
    """

    name: str
    argv: list[str]
    output: Path | None = None  # a folder that only this step writes
    leaves: tuple[Path, ...] = ()  # files that it has to make; without them it has failed, or has to run again
    files: tuple[Path, ...] = ()  # read by it: content counts; of a folder, the logs of samples below it
    models: tuple[str, ...] = ()  # read by it: fingerprints count
    cache: Path | None = None  # what an interrupted start left for the next one with the same inputs
    resumable: bool = False  # the harness itself goes on from a checkpoint-* that an interrupted start left in `output`
    always: bool = False  # cheap, and knows itself what is up to date
    soft: bool = False  # makes the best of what is there, if any step of those that it needs has succeeded
    problems_before: Callable[[], list[str]] = lambda: []
    problems_beside: Callable[[], list[str]] = lambda: []
    problems_after: Callable[[str], list[str]] = lambda log: []
    finish: Callable[[], None] = lambda: None

    @property
    def slug(self) -> str:
        return self.name.replace(" ", "-").replace("/", "-")

    @property
    def made(self) -> list[Path]:
        return [*([self.output] if self.output else []), *self.leaves]

    def command(self) -> list[str]:
        """`argv` as it is run: an evaluation's model arguments end in the fingerprint of the model as it is now."""
        if "--model_args" not in self.argv or not self.models:
            return self.argv
        at = self.argv.index("--model_args") + 1
        fingerprint = Checkpoint(self.models[0], self.models[1:]).fingerprint()
        return [*self.argv[:at], f"{self.argv[at]},fingerprint={fingerprint}", *self.argv[at + 1 :]]

    def inputs(self) -> dict[str, Any]:
        """What the outcome depends on, as it is on disk now."""
        return {
            "argv": self.argv,
            "files": {p.as_posix(): _content(p) for p in self.files},
            "models": {m: checkpoint.fingerprint(m) for m in self.models},
        }

    def needs(self, other: Step) -> bool:
        """Whether it reads what the other step makes."""
        read = [*self.files, *map(Path, self.models)]
        return any(path == made or made in path.parents for path in read for made in other.made)


@dataclass(frozen=True)
class Scored:
    """Where the answers of one arm, seed and cell are logged, and the model that gave them."""

    cell: Cell
    arm: str
    seed: int
    output: Path
    model: Checkpoint

    @property
    def name(self) -> str:
        """The arm, below the part of the cell that its answers depend on."""
        return self.output.parents[1].relative_to(self.cell.recipe.folder).as_posix()


@dataclass(frozen=True)
class Plan:
    """The steps of a run, in order, and what it scores. What several cells or arms have in common is there once."""

    recipe: Recipe
    dataset: Dataset
    steps: list[Step]
    scored: list[Scored] = field(default_factory=list)
    made: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    @property
    def folder(self) -> Path:
        return self.recipe.folder

    def needs(self, step: Step, other: Step) -> bool:
        """Whether a step has to wait for another: everything does for the data."""
        return step is not self.steps[0] and (other is self.steps[0] or step.needs(other))

    def described(self) -> dict[str, Any]:
        """What the report has to know of the run."""
        return {
            "arms": list(self.recipe.arms),
            "scored": [
                {"cell": s.cell.name, "values": s.cell.values, "arm": s.arm, "seed": s.seed, "output": str(s.output)}
                for s in self.scored
            ],
        }

    def once(self, key: Hashable, make: Callable[[], tuple[Step, Any]]) -> Any:
        """What the step of this key makes; the step is added when it is asked for first."""
        if key not in self.made:
            step, self.made[key] = make()
            self.steps.append(step)
        return self.made[key]


def _content(path: Path) -> str:
    """sha256 of a file, or of the logs of samples below a folder."""
    files = evaluation.sample_logs(path) + evaluation.sample_logs(path, "rationales") if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else b"missing")
    return digest.hexdigest()
