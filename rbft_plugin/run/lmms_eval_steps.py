"""The steps of a run that lmms-eval does: writing the base model's rationales, and scoring models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rbft_plugin.check import model_fit
from rbft_plugin.data.prepared import DataFolder, read_split
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.run import layout
from rbft_plugin.run.steps import Plan, Step, models_folder
from rbft_plugin.run.sweep import WRITING, Cell, Round, in_cell, of_training
from rbft_plugin.spec.dataset_sources import Split
from rbft_plugin.spec.names import TASK_KINDS, fold_name, task_name
from rbft_plugin.spec.recipe import EvaluationSettings


def write_rationales(plan: Plan, cell: Cell, hinted: bool, round_: Round | None = None) -> Path:
    """The folder of the logged rationales of the cell's base model, or of the writer of a further round.

    Cells and arms with the same model and settings share it.
    Its answers so far are in a cache beside its output, so that a killed generation continues where it stopped.
    """
    given = cell.recipe.evaluation
    writer = round_.writer if round_ else Checkpoint(cell.recipe.base_model, (), plan.dataset.name)

    def make() -> tuple[Step, Path]:
        part = round_.place.cell if round_ else cell.part(WRITING)
        output = layout.rationales_folder(plan.folder / part, hinted)
        if round_:
            output = layout.round_rationales_folder(models_folder(plan, round_.place), round_.stage)
        cache = layout.answers_cache(output)
        settings = given.model_copy(update={"args": {"use_cache": cache.as_posix(), **given.args}})
        name, task = ("hinted rationales", "rationale_hinted") if hinted else ("rationales", "rationale")
        name = f"write {round_ or in_cell(part, name)}"
        step = _step(plan, cell, name, "rationales", writer, output, [task], settings, "train")
        arm, seed = (round_.place.arm, round_.place.seed) if round_ else (None, None)
        return replace(step, cache=cache, cell=part, arm=arm, seed=seed), output

    settings = (given.batch_size, given.model_args, given.args)
    return plan.once(("write", hinted, writer, str(settings)), make)


def score(
    plan: Plan,
    cell: Cell,
    arm: str,
    seed: int,
    stages: Sequence[str],
    model: Checkpoint,
    split: Split = "test",
    kinds: Sequence[str] = (),
    of: str = "",
    fit: Path | None = None,
    fold: int | None = None,
) -> Path:
    """The folder of the model's logged answers to a split, or to one fold of the test.

    `kinds` of tasks are those of the recipe unless given.
    `of` names the model where it is not the last one of the arm: a checkpoint, or an earlier stage. `fit` is the file
    of its training rows, if it is only asked about samples in it, at most `evaluation.fit`.
    """
    settings = cell.recipe.evaluation
    if fit:
        settings = settings.model_copy(update={"args": settings.args | {"limit": settings.fit}})
    asked = tuple(kinds) or settings.tasks
    place = cell.place((*of_training(cell.recipe, stages), "evaluation"), arm, seed)

    def make() -> tuple[Step, Path]:
        output = layout.evaluation_folder(models_folder(plan, place), split, of, fold)
        on = "" if split == "test" else f"on {split}"
        on = "on its training samples" if fit else on if fold is None else f"on fold {fold}"
        name = " ".join(filter(None, ["score", str(place), of, on]))
        step = _step(plan, cell, name, "score", model, output, asked, settings, split, fit, fold)
        return replace(step, arm=arm, seed=seed, cell=place.cell), output

    return plan.once(("score", model, split, fold, asked, str(settings), fit), make)


def _step(
    plan: Plan,
    cell: Cell,
    name: str,
    kind: Literal["rationales", "score"],
    model: Checkpoint,
    output: Path,
    kinds: Sequence[str],
    settings: EvaluationSettings,
    split: Split,
    fit: Path | None = None,
    fold: int | None = None,
) -> Step:
    """One start for tasks that run on one split or fold; `fit` is as in `score`."""
    tasks = [task_name(plan.dataset.name, task, split, fold) for task in kinds]
    file = split if fold is None else fold_name(fold)

    def problems_beside() -> list[str]:
        given = read_split(plan.dataset.name, file)
        return model_fit.split_problems(cell.recipe, plan.dataset.clips, given)

    def problems_after(log: str) -> list[str]:
        given = read_split(plan.dataset.name, file)
        labelled = kind == "score" or any(TASK_KINDS[task].hinted for task in kinds)
        ids = [sample.id for sample in given if sample.label is not None or not labelled]
        if fit:
            ids = evaluation.chosen_samples(ids, fit)[: settings.fit]
        found = {task: evaluation.output_problems(output, task, ids) for task in tasks}
        return [f"{task}: {problem}" if len(tasks) > 1 else problem for task in tasks for problem in found[task]]

    included = [task_name(plan.dataset.name, task) for task in kinds]  # by those of another split than the first
    configs = [f"{task}.yaml" for task in dict.fromkeys([*tasks, *included])]
    configs += dict.fromkeys(base for task in kinds for base in TASK_KINDS[task].bases)
    argv = evaluation.argv(model, ",".join(tasks), output, settings, plan.recipe.launch.processes)
    read = [DataFolder(plan.dataset.name).samples(file), *(Path("task_configs") / config for config in configs)]
    return Step(
        name,
        kind,
        plan.with_env(argv, {evaluation.SAMPLES: fit.as_posix()} if fit else None),
        output=output,
        split=split,
        fold=fold,
        most=settings.fit if fit else None,
        files=(*read, *([fit] if fit else [])),
        model=model,
        problems_beside=problems_beside,
        problems_after=problems_after,
    )
