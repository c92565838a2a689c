"""Recipe -> the ordered steps of a run: command lines of the two harnesses, what they need, how to judge them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rbft_plugin.check import model_fit as fit
from rbft_plugin.data.prepared import DataFolder, TrainingRow, read_jsonl, read_manifest, read_split, read_training_rows
from rbft_plugin.llamafactory import rows, training
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.model import checkpoint
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.run.steps import Plan, Scored, Step
from rbft_plugin.run.sweep import COLLECTING, PART, WRITING, Cell, cells, of_training
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.names import TASK_KINDS, llamafactory_name, task_name
from rbft_plugin.spec.recipe import Evaluation, Recipe, Stage


def make(recipe: Recipe, dataset: Dataset) -> Plan:
    """All steps of a run; raises RbftError for a recipe that cannot be run."""
    plan = Plan(recipe, dataset, [_prepare(dataset)])
    for cell in cells(recipe):
        used = {cell.recipe.training.stages[stage].rows for stages in recipe.arms.values() for stage in stages}
        for hinted in (False, True):  # before all else: what is wrong with the data shows there
            if used & ({"rationale_hinted"} if hinted else {"rationale", "rationale_shuffled", "rationale_label"}):
                _rationales(plan, cell, hinted)
        for arm, stages in recipe.arms.items():
            for seed in recipe.seeds if stages else recipe.seeds[:1]:
                model = Checkpoint(cell.recipe.base_model, (), dataset.name)
                for last in range(1, len(stages) + 1):
                    model = _train(plan, cell, arm, seed, stages[:last], model)
                named, folder = _place(cell, of_training(cell.recipe, stages), arm, seed)
                if cell.recipe.training.export and model.adapters:
                    merged = training.settings(cell.recipe.training, stages[-1])[2]
                    _export(plan, named, model, merged, folder / "merged")
                plan.scored.append(Scored(cell, arm, seed, _score(plan, cell, arm, seed, stages, model), model))
    plan.steps.append(_report(plan))
    return plan


def _named(cell: Cell, keys: Sequence[str], what: str) -> str:
    """What a step that depends on these keys makes, in its name."""
    return "/".join(filter(None, (cell.shared(keys), what)))


def _place(cell: Cell, keys: Sequence[str], arm: str, seed: int) -> tuple[str, Path]:
    """(name, folder) of what is made for an arm and seed and depends on these keys."""
    return _named(cell, keys, f"{arm} seed {seed}"), cell.folder(keys) / arm / f"seed-{seed}"


def _with_env(recipe: Recipe, argv: list[str], more: dict[str, str | int] | None = None) -> list[str]:
    env = recipe.env | (more or {})
    return ["env", *(f"{k}={v}" for k, v in env.items()), *argv] if env else argv


def _prepare(dataset: Dataset) -> Step:
    return Step(f"prepare {dataset.name}", ["rbft", "prepare", dataset.name], always=True)


def _rationales(plan: Plan, cell: Cell, hinted: bool) -> Path:
    """The file of collected rationales of the cell's base model; cells with the same model and settings share it."""
    suffix, word = ("_hinted", "hinted ") if hinted else ("", "")
    own = cell.recipe.evaluation
    key = (hinted, cell.recipe.base_model, str((own.batch_size, own.model_args, own.args)))

    def generate() -> tuple[Step, Path]:
        """Its answers so far lie in a cache beside its output, so that a killed generation goes on where it stopped."""
        output = cell.folder(WRITING) / f"rationales{suffix}"
        base, cache = Checkpoint(cell.recipe.base_model, (), plan.dataset.name), output.with_suffix(".cache")
        settings = own.model_copy(update={"args": {"use_cache": cache.as_posix(), **own.args}})
        name = f"write {_named(cell, WRITING, f'{word}rationales')}"
        step = _lmms_eval(plan, cell, name, base, output, [f"rationale{suffix}"], settings)
        return replace(step, cache=cache), output

    source: Path = plan.once(("write", *key), generate)

    def collect() -> tuple[Step, Path]:
        target = cell.folder(COLLECTING) / f"rows{suffix}" / "rationale.jsonl"
        argv = ["rbft", "collect", source.as_posix(), "--rows", target.parent.as_posix(), "--overwrite"]
        for option, value in cell.recipe.filters.model_dump(exclude_defaults=True).items():
            for one in value if isinstance(value, tuple) else [value]:
                argv += [f"--{option.replace('_', '-')}", str(one)]
        read = (source, DataFolder(plan.dataset.name).samples("train"))
        name = f"collect {_named(cell, COLLECTING, f'{word}rationales')}"
        return Step(name, argv, leaves=(target,), files=read), target

    collected: Path = plan.once(("collect", *key, str(cell.recipe.filters)), collect)
    return collected


def _rows(plan: Plan, cell: Cell, stage: Stage, seed: int) -> tuple[Path, Path]:
    """(file of rows, folder whose dataset_info.json knows it) of a stage."""
    recipe, kind = cell.recipe, stage.rows
    part = [f"--shots={recipe.shots}"] if recipe.shots else []
    part += [f"--fraction={recipe.train_fraction}"] if recipe.train_fraction else []
    labelled = stage.samples == "labelled" and kind in rows.RATIONALES
    drawn = bool(part) or kind == "rationale_shuffled"  # by the seed
    source = _rationales(plan, cell, kind == "rationale_hinted") if kind in rows.OF_RATIONALES else None
    if kind == "label" and not part:
        return DataFolder(plan.dataset.name).rows("label"), Path("dataset_info")
    if source and kind in ("rationale", "rationale_hinted") and not (part or labelled):
        return source, source.parent
    name = kind + ("_labelled" if labelled else "") + (f"_seed-{seed}" if drawn else "")

    def derive() -> tuple[Step, Path]:
        keys = PART + (COLLECTING if source else ())
        target = cell.folder(keys) / "rows" / f"{name}.jsonl"
        argv = ["rbft", "rows", plan.dataset.name, kind, "--output", target.as_posix(), *part]
        argv += [f"--seed={seed}"] if drawn else []
        argv += ["--labelled"] if labelled else []
        argv += ["--rationales", source.as_posix()] if source else []
        read = (DataFolder(plan.dataset.name).samples("train"), *([source] if source else []))
        return Step(f"rows {_named(cell, keys, name)}", argv, leaves=(target,), files=read), target

    made: Path = plan.once(("rows", name, source, *part), derive)
    return made, made.parent


def _train(plan: Plan, cell: Cell, arm: str, seed: int, stages: Sequence[str], start: Checkpoint) -> Checkpoint:
    """The model that the last of these stages makes of the model of those before it."""
    own, stage = cell.recipe.training, stages[-1]
    named, folder = _place(cell, of_training(cell.recipe, stages), arm, seed)
    recipe, overrides, merged = training.settings(own, stage)
    file, registered = _rows(plan, cell, own.stages[stage], seed)
    if training.must_merge(start, merged, own.adapters):
        last = Path(start.adapters[-1])
        target = last.with_name(f"{last.name}_merged")
        before = _place(cell, of_training(cell.recipe, stages[:-1]), arm, seed)[0]
        start = _export(plan, f"{before} {last.name}", start, merged, target)
    output = folder / stage
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
    launch = cell.recipe.launch

    def problems_before() -> list[str]:
        read_manifest(plan.dataset.name)  # raises if there is none
        if not file.is_file():
            return [f"{file} is missing"]
        given = read_jsonl(file)
        rows = map(TrainingRow.of, given)
        return training.row_problems(given) or fit.run_problems(cell.recipe, plan.dataset.clips, merged, stage, [*rows])

    def problems_after(log: str) -> list[str]:
        given = read_training_rows(file)
        tokens = fit.run_tokens(cell.recipe.base_model, given)
        return training.output_problems(output, log, len(given), merged, launch, tokens)

    def finish() -> None:
        training.remove_checkpoints(output)
        if merged["finetuning_type"] == "full":
            checkpoint.keep_files(output, start.base)
        checkpoint.write_note(output, result)

    def train() -> tuple[Step, Checkpoint]:
        argv = training.argv(recipe, keys | overrides)
        step = Step(
            f"train {named} {stage}",
            _with_env(plan.recipe, argv, training.environment(launch, merged)),
            output=output,
            files=(recipe, file),
            models=(start.base, *start.adapters),
            resumable=training.resumable(merged),
            problems_before=problems_before,
            problems_after=problems_after,
            finish=finish,
        )
        return step, result

    settings = (str(recipe), repr(overrides), own.adapters if start.adapters else None)
    trained: Checkpoint = plan.once(("train", seed, start, file, *settings), train)
    return trained


def _export(plan: Plan, name: str, model: Checkpoint, merged: dict[str, Any], output: Path) -> Checkpoint:
    """The model with its adapters merged into one checkpoint."""

    def export() -> tuple[Step, Checkpoint]:
        step = Step(
            f"export {name}",
            _with_env(plan.recipe, training.export_argv(model, output, merged)),
            output=output,
            models=(model.base, *model.adapters),
            problems_after=lambda log: training.export_problems(output),
            finish=lambda: checkpoint.keep_files(output, model.base),
        )
        return step, replace(model, base=output.as_posix(), adapters=())

    exported: Checkpoint = plan.once(("export", model), export)
    return exported


def _score(plan: Plan, cell: Cell, arm: str, seed: int, stages: Sequence[str], model: Checkpoint) -> Path:
    settings = cell.recipe.evaluation
    named, folder = _place(cell, (*of_training(cell.recipe, stages), "evaluation"), arm, seed)

    def score() -> tuple[Step, Path]:
        output = folder / "eval"
        return _lmms_eval(plan, cell, f"score {named}", model, output, settings.tasks, settings), output

    scored: Path = plan.once(("score", model, str(settings)), score)
    return scored


def _lmms_eval(
    plan: Plan, cell: Cell, name: str, model: Checkpoint, output: Path, kinds: Sequence[str], settings: Evaluation
) -> Step:
    """One start for tasks that run on one split."""
    tasks = [task_name(plan.dataset.name, kind) for kind in kinds]
    split = TASK_KINDS[kinds[0]].split

    def problems_beside() -> list[str]:
        given = read_split(plan.dataset.name, split)
        return fit.split_problems(cell.recipe, plan.dataset.clips, given)

    def problems_after(log: str) -> list[str]:
        given = read_split(plan.dataset.name, split)
        ids = [sample.id for sample in given if "rationale_hinted" not in kinds or sample.hinted_prompt]
        found = {task: evaluation.output_problems(output, task, ids) for task in tasks}
        return [f"{task}: {problem}" if len(tasks) > 1 else problem for task in tasks for problem in found[task]]

    configs = [*(f"{task}.yaml" for task in tasks), *dict.fromkeys(b for kind in kinds for b in TASK_KINDS[kind].bases)]
    return Step(
        name,
        _with_env(plan.recipe, evaluation.argv(model, ",".join(tasks), output, settings, plan.recipe.launch.processes)),
        output=output,
        files=(DataFolder(plan.dataset.name).samples(split), *(Path("task_configs") / config for config in configs)),
        models=(model.base, *model.adapters),
        problems_beside=problems_beside,
        problems_after=problems_after,
    )


def _report(plan: Plan) -> Step:
    output = plan.folder / "report"
    return Step(
        "report",
        ["rbft", "report", plan.folder.as_posix()],
        leaves=(output / "report.json",),
        files=(*dict.fromkeys(s.output for s in plan.scored), DataFolder(plan.dataset.name).samples("test")),
        soft=True,
    )
