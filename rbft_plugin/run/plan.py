"""Recipe -> the ordered steps of a run."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from rbft_plugin.data.prepared import DataFolder, splits_with_labels
from rbft_plugin.errors import ProblemsError
from rbft_plugin.run import candidates, choose, layout
from rbft_plugin.run.arm_steps import arm_steps
from rbft_plugin.run.select_steps import candidate_steps, choice_step
from rbft_plugin.run.steps import Plan, Step, commands
from rbft_plugin.run.sweep import Cell, cells
from rbft_plugin.spec.dataset import Dataset, path_of
from rbft_plugin.spec.names import stage_name
from rbft_plugin.spec.recipe import Recipe


def make(recipe: Recipe, dataset: Dataset, path: Path | None = None) -> Plan:
    """All steps of a run; with `select`, those up to the choice, which reads the recipe's file at `path`.

    Raises RbftError for a recipe that cannot be run.
    """
    if problems := _problems(recipe, dataset):
        raise ProblemsError(path_of(dataset.name), problems)
    plan = Plan(recipe, dataset, [Step(f"prepare {dataset.name}", "prepare", ["rbft", "prepare", dataset.name])])
    for cell in cells(recipe):
        if recipe.select:
            candidate_steps(plan, candidates.base_cell(cell), recipe.select)
        else:
            arm_steps(plan, cell)
    plan.steps.append(choice_step(plan, path or Path("RECIPE")) if recipe.select else _report(plan))
    return plan


def add_chosen(plan: Plan, chosen: dict[tuple[str, int | None], Recipe]) -> list[Step]:
    """Add the steps of the recipes that were chosen, by cell of the sweep and fold, and of the report; returns them.

    What the candidates have trained or scored already is taken from there.
    """
    before = len(plan.steps)
    for (name, _), recipe in chosen.items():
        arm_steps(plan, Cell(name, next(cell.values for cell in cells(plan.recipe) if cell.name == name), recipe))
    plan.steps.append(_report(plan))
    return plan.steps[before:]


def _problems(recipe: Recipe, dataset: Dataset) -> list[str]:
    """What the recipe asks of the dataset's splits that these do not have."""
    if recipe.select and recipe.select.on == "val" and "val" not in splits_with_labels(dataset):
        folds = "; or choose with `select: {on: folds}`" if dataset.folds else ""
        return [f"there is no split val with labels to choose on; see `splits` in its YAML{folds}"]
    if recipe.select and recipe.select.on == "folds" and dataset.folds < 3:
        return [f"`select: {{on: folds}}` needs at least 3 folds, to train without two of them; it has {dataset.folds}"]
    if unknown := [fold for fold in recipe.folds or () if fold >= dataset.folds]:
        return [f"there is no fold {unknown[0]}, which the recipe's `folds` names; it has {dataset.folds}"]
    return []


def open_commands(plan: Plan, path: Path) -> str:
    """The commands that come after the choice, with <chosen> for what only the choice can tell."""
    recipes = {}
    for cell, fold in choose.choices_of(plan):
        first: dict[str, candidates.Candidate] = {}
        for candidate in plan.candidates:
            planned = candidate.planned
            if (planned.cell, planned.fold) == (cell.name, fold) and not (planned.left_out or planned.checkpoint):
                first.setdefault(planned.arm, candidate)
        recipes[cell.name, fold] = Recipe.model_validate(choose.chosen_recipe(path, cell, fold, first))
    steps = [replace(step, argv=_open(plan, step)) for step in add_chosen(plan, recipes)]
    files = [layout.chosen_file(plan.folder / cell, fold).as_posix() for cell, fold in recipes]
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    head = f"# The rest is the plan of {files[0]}{more}, which `rbft choose` writes. <chosen> stands for its choice;\n"
    return (
        f"{head}# a model may also be a checkpoint of its last stage, or that of the stage before.\n{commands(steps)}"
    )


def _open(plan: Plan, step: Step) -> list[str]:
    """A command with <chosen> for the values that are tried, and for models of candidates."""
    argv = step.argv
    for key in plan.recipe.select.settings if plan.recipe.select else ():
        _, kind, *rest = key.split(".")
        rounds = 1 if kind == "overrides" else plan.recipe.arms[step.arm].count(rest[0]) if step.arm else 0
        named = [stage_name([f"{step.arm}_{rest[0]}"] * number) for number in range(1, rounds + 1)]
        if step.kind == "train" and (kind == "overrides" or step.stage in named):
            argv = [f"{rest[-1]}=<chosen>" if word.startswith(f"{rest[-1]}=") else word for word in argv]
    for model in (model for candidate in plan.candidates for model in candidate.models):
        folder = model.adapters[-1] if model.adapters else model.base
        argv = [re.sub(rf"{re.escape(folder)}(?=$|[,:])", "<chosen>", word) for word in argv]
    return argv


def _report(plan: Plan) -> Step:
    some_folds = plan.recipe.folds and set(plan.recipe.folds) < set(range(plan.dataset.folds))
    return Step(
        "report",
        "report",
        ["rbft", "report", plan.folder.as_posix(), *(["--intersect"] if some_folds else [])],
        leaves=(layout.report_folder(plan.folder) / "report.json",),
        files=(
            *dict.fromkeys(s.output for s in plan.scored),
            *dict.fromkeys(s.fit.output for s in plan.scored if s.fit),
            DataFolder(plan.dataset.name).samples("test"),
            *([layout.choices_file(plan.folder)] if plan.candidates else []),
        ),
    )
