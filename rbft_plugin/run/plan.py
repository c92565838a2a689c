"""Recipe -> the ordered steps of a run: which of them there are, and those of rbft's own commands."""

from __future__ import annotations

from pathlib import Path

from rbft_plugin.data.prepared import DataFolder
from rbft_plugin.llamafactory import training
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.run import layout
from rbft_plugin.run.llamafactory_steps import export, train
from rbft_plugin.run.lmms_eval_steps import score, write_rationales
from rbft_plugin.run.records import PlannedEvaluation
from rbft_plugin.run.steps import Plan, Step
from rbft_plugin.run.sweep import COLLECTING, PART, Cell, Place, cells, in_cell, of_training
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.recipe import Recipe, Stage
from rbft_plugin.spec.row_kinds import ROW_KINDS


def make(recipe: Recipe, dataset: Dataset) -> Plan:
    """All steps of a run; raises RbftError for a recipe that cannot be run."""
    plan = Plan(recipe, dataset, [Step(f"prepare {dataset.name}", "prepare", ["rbft", "prepare", dataset.name])])
    for cell in cells(recipe):
        kinds = [cell.recipe.training.stages[stage].rows for stages in recipe.arms.values() for stage in stages]
        used = {ROW_KINDS[kind].rationales for kind in kinds}
        for hinted in (False, True):  # before all else: what is wrong with the data shows there
            if ("hinted" if hinted else "plain") in used:
                _rationales(plan, cell, hinted)
        for arm, stages in recipe.arms.items():
            for seed in recipe.seeds if stages else recipe.seeds[:1]:
                _arm(plan, cell, arm, seed, stages)
    plan.steps.append(_report(plan))
    return plan


def _arm(plan: Plan, cell: Cell, arm: str, seed: int, stages: tuple[str, ...]) -> None:
    """Train the stages of an arm one after another, and score the last model."""
    own = cell.recipe.training
    model = Checkpoint(cell.recipe.base_model, (), plan.dataset.name)
    for number, stage in enumerate(stages, 1):
        stage_rows = _rows(plan, cell, own.stages[stage], seed)
        model = train(plan, cell, arm, seed, stages[:number], model, stage_rows)
    if own.export and model.adapters:
        place = Place(cell.part(of_training(cell.recipe, stages)), arm, seed)
        output = layout.merged_folder(plan.folder / place.cell, arm, seed)
        export(plan, place, None, model, training.stage_settings(own, stages[-1]).merged, output)
    output = score(plan, cell, arm, seed, stages, model)
    plan.scored.append(PlannedEvaluation(cell=cell.name, values=cell.values, arm=arm, seed=seed, output=output))


def _rationales(plan: Plan, cell: Cell, hinted: bool) -> Path:
    """The file of collected rationales of the cell's base model."""
    source = write_rationales(plan, cell, hinted)

    def collect() -> tuple[Step, Path]:
        part = cell.part(COLLECTING)
        target = layout.collected_file(plan.folder / part, hinted)
        argv = ["rbft", "collect", source.as_posix(), "--rows", target.parent.as_posix(), "--overwrite"]
        for option, value in cell.recipe.filters.model_dump(exclude_defaults=True).items():
            for one in value if isinstance(value, tuple) else [value]:
                argv += [f"--{option.replace('_', '-')}", str(one)]
        read = (source, DataFolder(plan.dataset.name).samples("train"))
        name = f"collect {in_cell(part, 'hinted rationales' if hinted else 'rationales')}"
        return Step(name, "collect", argv, cell=part, leaves=(target,), files=read), target

    return plan.once(("collect", source, str(cell.recipe.filters)), collect)


def _rows(plan: Plan, cell: Cell, stage: Stage, seed: int) -> tuple[Path, Path]:
    """(file of rows, folder whose dataset_info.json knows it) of a stage."""
    recipe, kind = cell.recipe, ROW_KINDS[stage.rows]
    part = [f"--shots={recipe.shots}"] if recipe.shots else []
    part += [f"--fraction={recipe.train_fraction}"] if recipe.train_fraction else []
    labelled = stage.samples == "labelled" and not kind.label
    drawn = bool(part) or kind.shuffled  # by the seed
    source = _rationales(plan, cell, kind.rationales == "hinted") if kind.rationales else None
    if kind.made_by == "prepare" and not part:
        return DataFolder(plan.dataset.name).rows("label"), Path("dataset_info")
    if source and kind.made_by == "collect" and not (part or labelled):
        return source, source.parent
    name = stage.rows + ("_labelled" if labelled else "") + (f"_seed-{seed}" if drawn else "")

    def derive() -> tuple[Step, Path]:
        of_cell = cell.part(PART + (COLLECTING if source else ()))
        target = layout.rows_folder(plan.folder / of_cell) / f"{name}.jsonl"
        argv = ["rbft", "rows", plan.dataset.name, stage.rows, "--output", target.as_posix(), *part]
        argv += [f"--seed={seed}"] if drawn else []
        argv += ["--labelled"] if labelled else []
        argv += ["--rationales", source.as_posix()] if source else []
        read = (DataFolder(plan.dataset.name).samples("train"), *([source] if source else []))
        step = Step(f"rows {in_cell(of_cell, name)}", "rows", argv, cell=of_cell, leaves=(target,), files=read)
        return step, target

    made = plan.once(("rows", name, source, *part), derive)
    return made, made.parent


def _report(plan: Plan) -> Step:
    return Step(
        "report",
        "report",
        ["rbft", "report", plan.folder.as_posix()],
        leaves=(layout.report_folder(plan.folder) / "report.json",),
        files=(*dict.fromkeys(s.output for s in plan.scored), DataFolder(plan.dataset.name).samples("test")),
    )
