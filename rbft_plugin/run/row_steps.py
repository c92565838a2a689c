"""The steps of a run that make its training rows: collecting rationales, and making rows of another kind or part."""

from __future__ import annotations

import hashlib
from pathlib import Path

from rbft_plugin.data.prepared import DataFolder
from rbft_plugin.run import layout
from rbft_plugin.run.lmms_eval_steps import write_rationales
from rbft_plugin.run.steps import Plan, Step, models_folder
from rbft_plugin.run.sweep import COLLECTING, PART, Cell, Round, in_cell
from rbft_plugin.spec.recipe import Stage
from rbft_plugin.spec.row_kinds import ROW_KINDS


def collect_rationales(plan: Plan, cell: Cell, hinted: bool, round_: Round | None = None) -> Path:
    """The file of collected rationales of the cell's base model, or of a further round."""
    source = write_rationales(plan, cell, hinted, round_)

    def collect() -> tuple[Step, Path]:
        part = round_.place.cell if round_ else cell.part(COLLECTING)
        folder = _round_rows(plan, round_) if round_ else layout.rows_folder(plan.folder / part, hinted)
        target = folder / layout.COLLECTED
        argv = ["rbft", "collect", source.as_posix(), "--rows", target.parent.as_posix(), "--overwrite"]
        for option, value in cell.recipe.filters.model_dump(exclude_defaults=True).items():
            for one in value if isinstance(value, tuple) else [value]:
                argv += [f"--{option.replace('_', '-')}", *([] if one is True else [str(one)])]
        read = (source, DataFolder(plan.dataset.name).samples("train"))
        name = str(round_ or in_cell(part, "hinted rationales" if hinted else "rationales"))
        return Step(f"collect {name}", "collect", argv, cell=part, leaves=(target,), files=read), target

    return plan.once(("collect", source, str(cell.recipe.filters)), collect)


def _round_rows(plan: Plan, round_: Round) -> Path:
    return layout.round_rows_folder(models_folder(plan, round_.place), round_.stage)


def stage_rows(plan: Plan, cell: Cell, stage: Stage, seed: int, round_: Round | None = None) -> tuple[Path, Path]:
    """(file of rows, folder whose dataset_info.json knows it) of a stage, or of a further round of it."""
    recipe, kind = cell.recipe, ROW_KINDS[stage.rows]
    part = [f"--shots={recipe.shots}"] if recipe.shots else []  # with 0, all samples stay; none has its label used
    part += [f"--fraction={recipe.train_fraction}"] if recipe.train_fraction else []
    part += [f"--fold={fold}" for fold in cell.without]
    labelled = stage.samples == "labelled" and not kind.label
    drawn = bool(recipe.shots or recipe.train_fraction or kind.shuffled)  # by the seed
    source = collect_rationales(plan, cell, kind.rationales == "hinted", round_) if kind.by_model else stage.file
    if kind.made_by == "prepare" and not part:
        return DataFolder(plan.dataset.name).rows("label"), Path("dataset_info")
    if source and kind.made_by == "collect" and not (part or labelled):
        return source, source.parent
    # Files in several folders may share a name.
    of_file = f"-{hashlib.sha256(stage.file.as_posix().encode()).hexdigest()[:8]}" if stage.file else ""
    name = stage.rows + of_file + ("_labelled" if labelled else "") + (f"_seed-{seed}" if drawn else "")
    name += f"_without-{'-'.join(map(str, cell.without))}" if cell.without else ""

    def derive() -> tuple[Step, Path]:
        of_cell = round_.place.cell if round_ else cell.part(PART + (COLLECTING if kind.by_model else ()))
        folder = _round_rows(plan, round_) if round_ else layout.rows_folder(plan.folder / of_cell)
        target = folder / f"{name}.jsonl"
        argv = ["rbft", "rows", plan.dataset.name, stage.rows, "--output", target.as_posix(), *part]
        argv += [f"--seed={seed}"] if drawn else []
        argv += ["--labelled"] if labelled else []
        argv += ["--rationales", source.as_posix()] if source else []
        read = (DataFolder(plan.dataset.name).samples("train"), *([source] if source else []))
        step = Step(
            f"rows {round_ or in_cell(of_cell, name)}", "rows", argv, cell=of_cell, leaves=(target,), files=read
        )
        return step, target

    made = plan.once(("rows", name, source, *part), derive)
    return made, made.parent
