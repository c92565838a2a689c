"""Recipe with a `sweep` -> cells: one recipe for each combination of its values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from pydantic import ValidationError

from rbft_plugin.errors import ProblemsError
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.spec.recipe import Recipe
from rbft_plugin.spec.row_kinds import ROW_KINDS
from rbft_plugin.spec.yaml_models import explained

FIXED = (
    "run",
    "dataset",
    "arms",
    "seeds",
    "folds",
    "sweep",
    "env",
    "launch",
    "select",
)  # keys that a sweep cannot change

# Keys of a recipe that steps depend on (see Cell.part): writing rationales, collecting them, taking a part of rows.
WRITING = ("base_model", "evaluation.batch_size", "evaluation.model_args", "evaluation.args")
COLLECTING = (*WRITING, "filters")
PART = ("shots", "train_fraction")


def of_training(recipe: Recipe, stages: Sequence[str]) -> tuple[str, ...]:
    """The keys that a model trained in these stages depends on."""
    if not stages:
        return ("base_model",)
    keys = ("base_model", *PART, "training.overrides", *(f"training.stages.{stage}" for stage in stages))
    keys += ("training.adapters",) if len(set(stages)) > 1 else ()  # rounds start from the same model
    return keys + (COLLECTING if any(ROW_KINDS[recipe.training.stages[s].rows].by_model for s in stages) else ())


@dataclass(frozen=True)
class Cell:
    """One combination of a sweep's values; `name` is its folder below the run's, "" where there is no sweep.

    `without` are the folds whose samples its models are not trained on.
    """

    name: str
    values: dict[str, Any]
    recipe: Recipe
    without: tuple[int, ...] = ()

    def part(self, keys: Iterable[str]) -> str:
        """The name of the cells that do not differ from this one in these keys of the recipe; "" where no cell does.

        What a step makes is in the folder of the keys that it depends on, so that a further value moves nothing.
        """
        return _name({key: value for key, value in self.values.items() if overlaps(key, keys)})

    def with_values(self, values: dict[str, Any]) -> Cell:
        """The cell with further values, which its recipe has too. Raises ValidationError if there is no such recipe."""
        if not values:
            return self
        content = self.recipe.model_dump()
        for key, value in values.items():
            content = with_value(content, key.split("."), value)
        return Cell(_name(self.values | values), self.values | values, Recipe.model_validate(content), self.without)

    def place(self, keys: Iterable[str], arm: str, seed: int) -> Place:
        """Where something is that depends on these keys of the recipe."""
        return Place(self.part(keys), arm, seed, self.without)


@dataclass(frozen=True)
class Place:
    """An arm and seed, the part of a sweep's cell on which a step depends that makes something for them, and folds
    without which its models are trained.
    """

    cell: str
    arm: str
    seed: int
    without: tuple[int, ...] = ()

    def __str__(self) -> str:
        folds = f" without fold {', '.join(map(str, self.without))}" if self.without else ""
        return in_cell(self.cell, f"{self.arm} seed {self.seed}{folds}")


@dataclass(frozen=True)
class Round:
    """A further round of a stage on rationales. `writer`, the model of the round before, writes them at `place`.

    `stage` is the stage's name in this round, such as rationale-2.
    """

    writer: Checkpoint
    place: Place
    stage: str

    def __str__(self) -> str:
        return f"{self.place} {self.stage}"


def in_cell(cell: str, what: str) -> str:
    return f"{cell}/{what}" if cell else what


def cells(recipe: Recipe) -> list[Cell]:
    """All combinations, the last key changing fastest; raises ProblemsError if one cannot be."""
    problems = [f"sweep.{key}: has no values" for key, values in recipe.sweep.items() if not values]
    problems += [f"sweep.{key}: is the same for a whole run" for key in recipe.sweep if key.split(".")[0] in FIXED]
    if problems:
        raise ProblemsError(recipe.run, problems)
    made = []
    unswept = Cell("", {}, recipe.model_copy(update={"sweep": {}}))
    for combination in product(*recipe.sweep.values()):
        values = dict(zip(recipe.sweep, combination, strict=True))
        try:
            made.append(unswept.with_values(values))
        except ValidationError as error:
            problems += [f"sweep ({_name(values)}): {explained(e)}" for e in error.errors()]
    names = [cell.name for cell in made]
    problems += [f"sweep: several cells would be named {name}" for name in {n for n in names if names.count(n) > 1}]
    of_parts = {_name(part) for cell in made for part in _parts(cell.values)}
    if clash := sorted(of_parts & set(recipe.arms)):
        problems.append(f"sweep: a cell and an arm have the same name: {', '.join(clash)}")
    if problems:
        raise ProblemsError(recipe.run, list(dict.fromkeys(problems)))
    return made


def with_value(content: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """A copy of nested mappings with the value at a path; missing mappings on the way are added."""
    key, *rest = path
    inner = content.get(key)
    return content | {key: with_value(inner if isinstance(inner, dict) else {}, rest, value) if rest else value}


def overlaps(key: str, others: Iterable[str]) -> bool:
    """Whether a key's path is one of the others, leads to it, or begins with it."""
    return any(all(a == b for a, b in zip(key.split("."), other.split("."), strict=False)) for other in others)


def _parts(values: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """The values of each choice of keys, in their order."""
    return (dict(items) for n in range(1, len(values) + 1) for items in combinations(values.items(), n))


def _name(values: dict[str, Any]) -> str:
    return "_".join(f"{short}-{_word(values[key])}" for key, short in short_names(values).items())


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """{key: its last word}, with the name of its stage before it, where several keys end in that word."""
    last = {key: key.rsplit(".", 1)[-1] for key in keys}
    several = {word for word, number in Counter(last.values()).items() if number > 1}
    stages = {key: re.match(r"training\.stages\.([^.]+)\.", key) for key in last}
    return {
        key: f"{stage[1]}.{word}" if word in several and (stage := stages[key]) else word for key, word in last.items()
    }


def _word(value: Any) -> str:
    """A value as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", str(value)).strip("-") or "none"
