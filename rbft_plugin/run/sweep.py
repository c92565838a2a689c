"""Recipe with a `sweep` -> cells: one recipe for each combination of its values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

from pydantic import ValidationError

from rbft_plugin.errors import ProblemsError
from rbft_plugin.spec.recipe import Recipe
from rbft_plugin.spec.row_kinds import ROW_KINDS
from rbft_plugin.spec.yaml_models import explained

FIXED = ("run", "dataset", "arms", "seeds", "sweep", "env", "launch")  # keys that a sweep cannot change

# Keys of a recipe that steps depend on (see Cell.part): writing rationales, collecting them, taking a part of rows.
WRITING = ("base_model", "evaluation.batch_size", "evaluation.model_args", "evaluation.args")
COLLECTING = (*WRITING, "filters")
PART = ("shots", "train_fraction")


def of_training(recipe: Recipe, stages: Sequence[str]) -> tuple[str, ...]:
    """The keys that a model trained in these stages depends on."""
    if not stages:
        return ("base_model",)
    keys = ("base_model", *PART, "training.overrides", *(f"training.stages.{stage}" for stage in stages))
    keys += ("training.adapters",) if len(stages) > 1 else ()
    return keys + (COLLECTING if any(ROW_KINDS[recipe.training.stages[s].rows].rationales for s in stages) else ())


@dataclass(frozen=True)
class Cell:
    """One combination of a sweep's values; `name` is its folder below the run's, "" where there is no sweep."""

    name: str
    values: dict[str, Any]
    recipe: Recipe

    def part(self, keys: Iterable[str]) -> str:
        """The name of the cells that do not differ from this one in these keys of the recipe; "" where no cell does.

        What a step makes is in the folder of the keys that it depends on, so that a further value moves nothing.
        """
        read = [key.split(".") for key in keys]
        return _name({k: v for k, v in self.values.items() if any(_overlap(k.split("."), key) for key in read)})


@dataclass(frozen=True)
class Place:
    """An arm and seed, and the part of a sweep's cell on which a step depends that makes something for them."""

    cell: str
    arm: str
    seed: int

    def __str__(self) -> str:
        return in_cell(self.cell, f"{self.arm} seed {self.seed}")


def in_cell(cell: str, what: str) -> str:
    return f"{cell}/{what}" if cell else what


def cells(recipe: Recipe) -> list[Cell]:
    """All combinations, the last key changing fastest; raises ProblemsError if one cannot be."""
    problems = [f"sweep.{key}: has no values" for key, values in recipe.sweep.items() if not values]
    problems += [f"sweep.{key}: is the same for a whole run" for key in recipe.sweep if key.split(".")[0] in FIXED]
    if problems:
        raise ProblemsError(recipe.run, problems)
    made, unswept = [], recipe.model_dump() | {"sweep": {}}
    for values in product(*recipe.sweep.values()):
        chosen = dict(zip(recipe.sweep, values, strict=True))
        name = _name(chosen)
        content = unswept
        for key, value in chosen.items():
            content = _with(content, key.split("."), value)
        try:
            made.append(Cell(name, chosen, Recipe.model_validate(content)))
        except ValidationError as error:
            problems += [f"sweep ({name}): {explained(e)}" for e in error.errors()]
    names = [cell.name for cell in made]
    problems += [f"sweep: several cells would be named {name}" for name in {n for n in names if names.count(n) > 1}]
    of_parts = {_name(part) for cell in made for part in _parts(cell.values)}
    if clash := sorted(of_parts & set(recipe.arms)):
        problems.append(f"sweep: a cell and an arm have the same name: {', '.join(clash)}")
    if problems:
        raise ProblemsError(recipe.run, list(dict.fromkeys(problems)))
    return made


def _with(content: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """A copy of nested mappings with the value at a path; missing mappings on the way are added."""
    key, *rest = path
    inner = content.get(key)
    return content | {key: _with(inner if isinstance(inner, dict) else {}, rest, value) if rest else value}


def _overlap(one: list[str], other: list[str]) -> bool:
    """Whether one path is the other, or leads to it."""
    return all(a == b for a, b in zip(one, other, strict=False))


def _parts(values: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """The values of each choice of keys, in their order."""
    return (dict(items) for n in range(1, len(values) + 1) for items in combinations(values.items(), n))


def _name(values: dict[str, Any]) -> str:
    return "_".join(f"{key.rsplit('.', 1)[-1]}-{_word(value)}" for key, value in values.items())


def _word(value: Any) -> str:
    """A value as part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", str(value)).strip("-") or "none"
