"""Recipe -> the ordered steps of a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rbft_plugin.data.prepared import DataFolder, splits_with_labels
from rbft_plugin.errors import ProblemsError
from rbft_plugin.llamafactory import training
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.run import candidates, choose, layout
from rbft_plugin.run.llamafactory_steps import export, train
from rbft_plugin.run.lmms_eval_steps import score
from rbft_plugin.run.records import PlannedCandidate, PlannedEvaluation, PlannedFit
from rbft_plugin.run.row_steps import collect_rationales, stage_rows
from rbft_plugin.run.steps import Plan, Step, commands
from rbft_plugin.run.sweep import Cell, cells, of_training
from rbft_plugin.spec.dataset import Dataset, path_of
from rbft_plugin.spec.recipe import Recipe
from rbft_plugin.spec.row_kinds import ROW_KINDS
from rbft_plugin.spec.selection import Select


def make(recipe: Recipe, dataset: Dataset, path: Path | None = None) -> Plan:
    """All steps of a run; with `select`, those up to the choice, which reads the recipe's file at `path`.

    Raises RbftError for a recipe that cannot be run.
    """
    if recipe.select and "val" not in splits_with_labels(dataset):
        problem = "there is no split val with labels to choose on; see `splits` in its YAML"
        raise ProblemsError(path_of(dataset.name), [problem])
    plan = Plan(recipe, dataset, [Step(f"prepare {dataset.name}", "prepare", ["rbft", "prepare", dataset.name])])
    for cell in cells(recipe):
        if recipe.select:
            _candidates(plan, candidates.base_cell(cell), recipe.select)
        else:
            _arms(plan, cell)
    plan.steps.append(_choose(plan, path or Path("RECIPE")) if recipe.select else _report(plan))
    return plan


def add_chosen(plan: Plan, chosen: dict[str, Recipe]) -> list[Step]:
    """Add the steps of the recipes that were chosen, {cell of the sweep: recipe}, and of the report; returns them.

    What the candidates have trained or scored already is taken from there.
    """
    before = len(plan.steps)
    for cell in cells(plan.recipe):
        _arms(plan, Cell(cell.name, cell.values, chosen[cell.name]))
    plan.steps.append(_report(plan))
    return plan.steps[before:]


def open_commands(plan: Plan, path: Path) -> str:
    """The commands that come after the choice, with <chosen> for what only the choice can tell."""
    recipes = {}
    for cell in cells(plan.recipe):
        first: dict[str, candidates.Candidate] = {}
        for candidate in plan.candidates:
            planned = candidate.planned
            if planned.cell == cell.name and not (planned.left_out or planned.checkpoint):
                first.setdefault(planned.arm, candidate)
        recipes[cell.name] = Recipe.model_validate(choose.chosen_recipe(path, cell, first))
    steps = [replace(step, argv=_open(plan, step)) for step in add_chosen(plan, recipes)]
    files = layout.chosen_file(plan.folder / ("CELL" if len(recipes) > 1 else "")).as_posix()
    head = f"# The rest is the plan of {files}, which `rbft choose` writes. <chosen> stands for what it chooses;\n"
    return (
        f"{head}# a model may also be a checkpoint of its last stage, or that of the stage before.\n{commands(steps)}"
    )


def _open(plan: Plan, step: Step) -> list[str]:
    """A command with <chosen> for the values that are tried, and for models of candidates."""
    argv = step.argv
    for key in plan.recipe.select.settings if plan.recipe.select else ():
        _, kind, *rest = key.split(".")
        if step.kind == "train" and (kind == "overrides" or step.stage == f"{step.arm}_{rest[0]}"):
            argv = [f"{rest[-1]}=<chosen>" if word.startswith(f"{rest[-1]}=") else word for word in argv]
    for model in (model for candidate in plan.candidates for model in candidate.models.values()):
        folder = model.adapters[-1] if model.adapters else model.base
        argv = [re.sub(rf"{re.escape(folder)}(?=$|[,:])", "<chosen>", word) for word in argv]
    return argv


def _arms(plan: Plan, cell: Cell) -> None:
    _all_rationales(plan, cell)
    for arm, stages in cell.recipe.arms.items():
        for seed in cell.recipe.seeds if stages else cell.recipe.seeds[:1]:
            for fold in range(plan.dataset.folds) if stages and plan.dataset.folds else [None]:
                own = cell if fold is None else replace(cell, without=(fold,))
                _arm(plan, own, arm, seed, stages, fold)


def _all_rationales(plan: Plan, cell: Cell) -> None:
    """Write and collect the rationales of all arms before all else: what is wrong with the data shows there."""
    kinds = [cell.recipe.training.stages[stage].rows for stages in cell.recipe.arms.values() for stage in stages]
    used = {ROW_KINDS[kind].rationales for kind in kinds}
    for hinted in (False, True):
        if ("hinted" if hinted else "plain") in used:
            collect_rationales(plan, cell, hinted)


def _arm(plan: Plan, cell: Cell, arm: str, seed: int, stages: tuple[str, ...], fold: int | None) -> None:
    """Train the stages of an arm one after another, and score the last model on the test, or on one fold of it."""
    own = cell.recipe.training
    model = _train(plan, cell, arm, seed, stages)[-1]
    if own.export and model.adapters:
        place = cell.place(of_training(cell.recipe, stages), arm, seed)
        output = layout.merged_folder(layout.models_folder(plan.folder / place.cell, arm, seed, cell.without))
        export(plan, place, None, model, training.stage_settings(own, stages[-1]).merged, output)
    output = score(plan, cell, arm, seed, stages, model, fold=fold)
    fit = _fit(plan, cell, arm, seed, stages, model)
    scored = PlannedEvaluation(
        cell=cell.name, values=cell.values, arm=arm, seed=seed, output=output, fit=fit, fold=fold
    )
    plan.scored.append(scored)


def _fit(plan: Plan, cell: Cell, arm: str, seed: int, stages: tuple[str, ...], model: Checkpoint) -> PlannedFit | None:
    """Score a model on labelled samples of its last stage that has labels; None where no stage has them."""
    of = {name: cell.recipe.training.stages[name] for name in stages}
    labelled = [stage for stage in of.values() if ROW_KINDS[stage.rows].label]
    if not (cell.recipe.evaluation.fit and labelled):
        return None
    rows, _ = stage_rows(plan, cell, labelled[-1], seed)
    output = score(plan, cell, arm, seed, stages, model, "train", ("label",), fit=rows)
    last, merged = of[stages[-1]], training.stage_settings(cell.recipe.training, stages[-1]).merged
    if ROW_KINDS[last.rows].made_by != "prepare" or any(merged.get(key) for key in training.OTHER_LOSSES):
        return PlannedFit(output=output)
    trained = Path(model.adapters[-1] if model.adapters else model.base)
    folder = trained.parent if last.checkpoint else trained
    return PlannedFit(output=output, losses=folder / layout.LOSSES, checkpoint=last.checkpoint)


def _train(
    plan: Plan, cell: Cell, arm: str, seed: int, stages: tuple[str, ...], checkpoints: Sequence[int] = ()
) -> list[Checkpoint]:
    """The base model, and the model after each stage. `checkpoints` of the last stage are needed too."""
    models = [Checkpoint(cell.recipe.base_model, (), plan.dataset.name)]
    for number, name in enumerate(stages, 1):
        stage = cell.recipe.training.stages[name]
        saved = checkpoints if number == len(stages) else ()
        needed = [stage.checkpoint] if stage.checkpoint else saved
        rows = stage_rows(plan, cell, stage, seed)
        model = train(plan, cell, arm, seed, stages[:number], models[-1], rows, needed)
        models.append(training.at_step(model, stage.checkpoint))
    return models


def _candidates(plan: Plan, base: Cell, select: Select) -> None:
    """Train what each arm tries, and score it on the validation split."""
    _all_rationales(plan, base)
    for arm, stages in base.recipe.arms.items():
        for cell in candidates.cells(base, select, arm)[0] if stages else ():
            last = training.stage_settings(cell.recipe.training, stages[-1]).merged
            saved = training.saved_steps(last) if select.checkpoints else []
            for seed in select.seeds:
                models = _train(plan, cell, arm, seed, stages, saved)
                if select.skip_last and len(stages) > 1:
                    _candidate(plan, base, cell, arm, seed, stages[:-1], models[-2], of=stages[-2])
                for step in saved:
                    model = training.at_step(models[-1], step)
                    _candidate(plan, base, cell, arm, seed, stages, model, step, of=f"checkpoint-{step}")
                _candidate(plan, base, cell, arm, seed, stages, models[-1])


def _candidate(
    plan: Plan,
    base: Cell,
    cell: Cell,
    arm: str,
    seed: int,
    stages: tuple[str, ...],
    model: Checkpoint,
    checkpoint: int | None = None,
    of: str = "",
) -> None:
    """Score a model on the validation split. It joins the candidate that has the same settings and another seed."""
    output = score(plan, cell, arm, seed, stages, model, "val", ("label", "ll"), of)
    own = {key: value for key, value in cell.values.items() if key not in base.values}
    settings = candidates.concerned(own, cell.recipe, stages)
    planned = PlannedCandidate(
        cell=base.name,
        values=base.values,
        arm=arm,
        stages=stages,
        settings=settings,
        left_out=None if stages == cell.recipe.arms[arm] else cell.recipe.arms[arm][-1],
        checkpoint=checkpoint,
        steps=candidates.steps(cell.recipe, stages, checkpoint),
        outputs={},
    )
    same = next((c for c in plan.candidates if c.planned.model_copy(update={"outputs": {}}) == planned), None)
    if same is None:
        plan.candidates.append(same := candidates.Candidate(planned, cell.recipe, {}))
    same.planned.outputs[seed] = output
    same.models[seed] = model


def _choose(plan: Plan, path: Path) -> Step:
    """Choose among the candidates. Weights of the others are removed when that is recorded, if `select` says so."""
    parts = [plan.folder / cell.name for cell in cells(plan.recipe)]
    outputs = [output for candidate in plan.candidates for output in candidate.planned.outputs.values()]
    return Step(
        "choose",
        "choose",
        ["rbft", "choose", path.as_posix()],
        leaves=(layout.choices_file(plan.folder), *map(layout.chosen_file, parts)),
        files=(path, DataFolder(plan.dataset.name).samples("val"), *dict.fromkeys(outputs)),
        finish=lambda: choose.remove_others(plan),
    )


def _report(plan: Plan) -> Step:
    return Step(
        "report",
        "report",
        ["rbft", "report", plan.folder.as_posix()],
        leaves=(layout.report_folder(plan.folder) / "report.json",),
        files=(
            *dict.fromkeys(s.output for s in plan.scored),
            *dict.fromkeys(s.fit.output for s in plan.scored if s.fit),
            DataFolder(plan.dataset.name).samples("test"),
            *([layout.choices_file(plan.folder)] if plan.candidates else []),
        ),
    )
