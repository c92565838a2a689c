"""What each arm of a recipe with `select` tries: settings of its stages, checkpoints, leaving out the last stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from rbft_plugin.errors import ProblemsError
from rbft_plugin.llamafactory import training
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.run.records import PlannedCandidate
from rbft_plugin.run.sweep import Cell, of_training, overlaps
from rbft_plugin.spec.recipe import Recipe
from rbft_plugin.spec.selection import Select
from rbft_plugin.spec.yaml_models import explained


def base_cell(cell: Cell) -> Cell:
    """A cell of the sweep without `select`. Its arms' last stages keep every checkpoint, if these are candidates."""
    recipe = cell.recipe
    assert recipe.select
    stages = dict(recipe.training.stages)
    last = {trained[-1] for trained in map(recipe.stages_of, recipe.arms) if trained}
    for name in last if recipe.select.checkpoints else ():
        if training.stage_settings(recipe.training, name).merged.get("save_total_limit"):
            unlimited = stages[name].overrides | {"save_total_limit": None}
            stages[name] = stages[name].model_copy(update={"overrides": unlimited})
    kept = recipe.training.model_copy(update={"stages": stages})
    return Cell(cell.name, cell.values, recipe.model_copy(update={"select": None, "training": kept}))


def concerned(settings: dict[str, Any], recipe: Recipe, stages: Sequence[str]) -> dict[str, Any]:
    """Those of the settings that a model trained in these stages depends on."""
    return {key: value for key, value in settings.items() if overlaps(key, of_training(recipe, stages))}


def combinations(select: Select, recipe: Recipe, stages: Sequence[str]) -> tuple[list[dict[str, Any]], int]:
    """(the combinations of settings that an arm of these stages tries, how many there are in all)."""
    from sklearn.model_selection import ParameterGrid, ParameterSampler

    grid = {key: list(values) for key, values in concerned(dict(select.settings), recipe, stages).items()}
    every = list(ParameterGrid(grid))
    drawn = list(ParameterSampler(grid, select.budget, random_state=select.seed)) if len(every) > select.budget else []
    chosen = [one for one in every if one in drawn] if drawn else every  # in the order of the grid
    return [{key: one[key] for key in grid} for one in chosen], len(every)


def cells(cell: Cell, select: Select, arm: str) -> tuple[list[Cell], int]:
    """(a cell for each combination that the arm tries, how many there are in all).

    `cell` comes from `base_cell`. Raises ProblemsError if a combination makes no recipe.
    """
    tried, number = combinations(select, cell.recipe, cell.recipe.stages_of(arm))
    made, problems = [], []
    for settings in tried:
        try:
            made.append(cell.with_values(settings))
        except ValidationError as error:
            problems += [f"select.settings ({settings}): {explained(one)}" for one in error.errors()]
    names = [one.name for one in made]
    problems += [f"select.settings: several values would be named {n}" for n in {*names} if names.count(n) > 1]
    if problems:
        raise ProblemsError(cell.recipe.run, list(dict.fromkeys(problems)))
    return made, number


def steps(recipe: Recipe, stages: Sequence[str], checkpoint: int | None = None) -> int:
    """The optimizer steps of a model that was trained in these stages, up to a checkpoint of the last one."""
    of_stages = [int(training.stage_settings(recipe.training, stage).merged["max_steps"]) for stage in stages]
    return sum(of_stages[:-1]) + (checkpoint or of_stages[-1])


@dataclass(frozen=True)
class Candidate:
    """A candidate, the recipe with its settings, and its models: for each seed one, or with folds several."""

    planned: PlannedCandidate
    recipe: Recipe
    models: list[Checkpoint]
