"""The steps of a run that LLaMA-Factory does: training a stage, and merging a model's adapters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rbft_plugin.check import model_fit
from rbft_plugin.data.prepared import DataFolder, TrainingRow, read_jsonl, read_manifest, read_training_rows
from rbft_plugin.llamafactory import checks, registry, training
from rbft_plugin.model import checkpoint
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.run import layout
from rbft_plugin.run.steps import Plan, Step, models_folder
from rbft_plugin.run.sweep import Cell, Place, of_training
from rbft_plugin.spec.names import VALIDATION_ROWS, llamafactory_name, stage_name


def train(
    plan: Plan,
    cell: Cell,
    arm: str,
    seed: int,
    stages: Sequence[str],
    start: Checkpoint,
    rows: tuple[Path, Path],
    checkpoints: Sequence[int] = (),
) -> Checkpoint:
    """The model that the last of these stages makes of the model of those before it, `start`.

    `rows` are the file of its rows, and the folder whose dataset_info.json has them. `checkpoints` are the optimizer
    steps whose models are needed too; `training.at_step` says where they are.
    """
    own, stage = cell.recipe.training, stages[-1]
    place = cell.place(of_training(cell.recipe, stages), arm, seed)
    settings = training.stage_settings(own, stage)
    recipe, overrides, merged = settings.recipe, settings.overrides, settings.merged
    file, registered = rows
    if training.must_merge(start, merged, own.adapters):
        last = Path(start.adapters[-1])
        before = cell.place(of_training(cell.recipe, stages[:-1]), arm, seed)
        start = export(plan, before, last.name, start, merged, layout.merged_stage_folder(last))
    output = models_folder(plan, place) / stage_name(stages)
    result = training.result(start, output, merged["finetuning_type"], own.adapters)
    keys = {
        "dataset": llamafactory_name(plan.dataset.name, file.stem),
        "dataset_dir": registered.as_posix(),
        "media_dir": ".",
        **training.start_from(start, own.adapters),
        "output_dir": output.as_posix(),
        "seed": seed,
        "include_effective_tokens_per_second": True,
    }
    launch, validation = cell.recipe.launch, training.validation_sets(merged)
    validates = llamafactory_name(plan.dataset.name, VALIDATION_ROWS) in validation

    def row_problems(path: Path) -> list[str]:
        if not path.is_file():
            return [f"{path} is missing"]
        given = read_jsonl(path)
        problems = checks.row_problems(given)
        parsed = [] if problems else [TrainingRow.from_json(row) for row in given]
        return problems or model_fit.run_problems(cell.recipe, plan.dataset.clips, merged, stage, parsed)

    def problems_before() -> list[str]:
        read_manifest(plan.dataset.name)  # raises if there is none
        problems = row_problems(file)
        for name in validation:
            path = registry.registered_file(registered, name)
            of_set = row_problems(path) if path else [f"{registered}/dataset_info.json names no file for it"]
            problems += [f"eval_dataset {name}: {problem}" for problem in of_set]
        return problems

    def problems_after(log: str) -> list[str]:
        given = read_training_rows(file)
        tokens = model_fit.run_tokens(cell.recipe.base_model, given)
        return checks.output_problems(output, log, len(given), merged, launch, tokens, checkpoints)

    def finish() -> None:
        checks.remove_checkpoints(output, checkpoints)
        for step in (*checkpoints, None):
            model = training.at_step(result, step)
            folder = Path(model.adapters[-1] if model.adapters else model.base)
            if merged["finetuning_type"] == "full":
                checkpoint.keep_files(folder, start.base)
            checkpoint.write_note(folder, model)

    def make() -> tuple[Step, Checkpoint]:
        env = training.environment(launch, merged)
        made, whole = 1 + len(checkpoints), merged["finetuning_type"] == "full"
        step = Step(
            f"train {place} {stage_name(stages)}",
            "train",
            plan.with_env(training.argv(recipe, keys | overrides), env),
            arm=arm,
            seed=seed,
            stage=stage_name(stages),
            cell=place.cell,
            output=output,
            files=(recipe, file, *([DataFolder(plan.dataset.name).rows(VALIDATION_ROWS)] if validates else [])),
            model=start,
            models_made=made if whole else 0,
            adapters_made=0 if whole else made,
            resumable=training.resumable(merged),
            torchrun=bool(env),
            problems_before=problems_before,
            problems_after=problems_after,
            finish=finish,
        )
        return step, result

    key = (
        "train",
        seed,
        start,
        file,
        str(recipe),
        repr(sorted(overrides.items())),
        own.adapters if start.adapters else None,
    )
    return plan.once(key, make)


def export(
    plan: Plan, place: Place, stage: str | None, model: Checkpoint, merged: dict[str, Any], output: Path
) -> Checkpoint:
    """The model with its adapters merged into one checkpoint."""

    def make() -> tuple[Step, Checkpoint]:
        step = Step(
            f"export {place} {stage or ''}".rstrip(),
            "export",
            plan.with_env(training.export_argv(model, output, merged)),
            arm=place.arm,
            seed=place.seed,
            stage=stage,
            cell=place.cell,
            output=output,
            model=model,
            models_made=1,
            problems_after=lambda log: checks.export_problems(output),
            finish=lambda: checkpoint.keep_files(output, model.base),
        )
        return step, replace(model, base=output.as_posix(), adapters=())

    return plan.once(("export", model), make)
