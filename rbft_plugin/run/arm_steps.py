"""The steps of an arm: its trainings, one stage after another, and the scoring of its last model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rbft_plugin.llamafactory import training
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.run import layout
from rbft_plugin.run.llamafactory_steps import export, train
from rbft_plugin.run.lmms_eval_steps import score
from rbft_plugin.run.records import PlannedEvaluation, PlannedFit
from rbft_plugin.run.row_steps import collect_rationales, stage_rows
from rbft_plugin.run.steps import Plan, models_folder
from rbft_plugin.run.sweep import Cell, Round, in_cell, of_training
from rbft_plugin.spec.names import stage_name
from rbft_plugin.spec.row_kinds import ROW_KINDS


def arm_steps(plan: Plan, cell: Cell) -> None:
    """Train and score every arm, for every seed and fold."""
    write_all_rationales(plan, cell)
    for arm in cell.recipe.arms:
        stages = cell.recipe.stages_of(arm)
        for seed in cell.recipe.seeds if stages else cell.recipe.seeds[:1]:
            folds = cell.recipe.folds or range(plan.dataset.folds)
            for fold in folds if stages and folds else [None]:
                own = cell if fold is None else replace(cell, without=(fold,))
                _arm(plan, own, arm, seed, stages, fold)


def write_all_rationales(plan: Plan, cell: Cell) -> None:
    """Write and collect the rationales of all arms before all else: what is wrong with the data shows there."""
    kinds = [
        cell.recipe.training.stages[stage].rows for arm in cell.recipe.arms for stage in cell.recipe.stages_of(arm)
    ]
    used = {ROW_KINDS[kind].rationales for kind in kinds}
    for hinted in (False, True):
        if ("hinted" if hinted else "plain") in used:
            collect_rationales(plan, cell, hinted)


def _arm(plan: Plan, cell: Cell, arm: str, seed: int, stages: tuple[str, ...], fold: int | None) -> None:
    """Train the stages of an arm one after another, and score the last model on the test, or on one fold of it."""
    own = cell.recipe.training
    model = train_stages(plan, cell, arm, seed, stages)[-1]
    if own.export and model.adapters:
        place = cell.place(of_training(cell.recipe, stages), arm, seed)
        output = layout.merged_folder(models_folder(plan, place))
        export(plan, place, None, model, training.stage_settings(own, stages[-1]).merged, output)
    # The base is scored as an arm that has no stage anyway, so that `shots: 0` moves nothing of a sweep.
    base = next((name for name, written in cell.recipe.arms.items() if not written), arm)
    output = score(plan, cell, arm if stages else base, seed, stages, model, fold=fold)
    fit = _fit(plan, cell, arm, seed, stages, model)
    left_out = tuple(stage for stage in cell.recipe.arms[arm] if stage not in stages)
    keys = (*of_training(cell.recipe, stages), "evaluation", *(["shots"] if left_out else []))
    scored = PlannedEvaluation(
        cell=cell.name,
        values=cell.values,
        arm=arm,
        seed=seed,
        output=output,
        fit=fit,
        fold=fold,
        name=in_cell(cell.part(keys), arm),
        left_out=left_out,
    )
    if scored not in plan.scored:
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


def train_stages(
    plan: Plan, cell: Cell, arm: str, seed: int, stages: tuple[str, ...], checkpoints: Sequence[int] = ()
) -> list[Checkpoint]:
    """The base model, and the model after each stage. `checkpoints` of the last stage are needed too.

    A further round of a stage starts from the model that its first round started from, and learns rationales that the
    model of the round before has written.
    """
    models = [Checkpoint(cell.recipe.base_model, (), plan.dataset.name)]
    for number, name in enumerate(stages, 1):
        stage = cell.recipe.training.stages[name]
        saved = checkpoints if number == len(stages) else ()
        needed = [stage.checkpoint] if stage.checkpoint else saved
        first, round_ = stages.index(name), None
        if first < number - 1:
            place = cell.place(of_training(cell.recipe, stages[: number - 1]), arm, seed)
            round_ = Round(models[-1], place, stage_name(stages[:number]))
        rows = stage_rows(plan, cell, stage, seed, round_)
        model = train(plan, cell, arm, seed, stages[:number], models[first], rows, needed)
        models.append(training.at_step(model, stage.checkpoint))
    return models
