"""Finds the logs of a report: those of runs, with their arms, seeds and cells, and those named by hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rbft_plugin.errors import RbftError
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.report.view_model import LearningCurves
from rbft_plugin.run import layout, records
from rbft_plugin.run.records import PlannedFit, PlanRecord
from rbft_plugin.run.sweep import short_names
from rbft_plugin.spec.dataset_sources import Split
from rbft_plugin.spec.names import TASK_KINDS, parse_task

# What a learning curve is drawn against, in words; of a sweep without these, its first key with numbers.
AMOUNTS = {"shots": "labelled training clips of each class", "train_fraction": "share of the labelled training clips"}


@dataclass(frozen=True)
class Output:
    """The folder or the log of an evaluation. `cells` are its cells of a sweep, with their values."""

    arm: str
    seed: int
    path: Path
    plain: str = ""  # the arm's name in the recipe
    cells: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()
    fit: PlannedFit | None = None
    left_out: tuple[str, ...] = ()  # stages that need labels, where there are none

    def logs(self, dataset: str | None) -> list[Path]:
        """Its log of answers: of a task of rbft, or else of any task; of folds, a log each.

        Raises RbftError if there are others.
        """
        if self.path.is_file() and "_samples_" in self.path.name:
            return [self.path]
        ours = evaluation.sample_logs(self.path)
        of_dataset = [p for p in ours if dataset_of(p) == dataset]
        others = [p for p in sorted(self.path.rglob("*_samples_*.jsonl")) if p not in ours]
        others = [p for p in others if TASK_KINDS[parse_task(evaluation.task_of(p)).kind].scores]
        for chosen in (of_dataset, ours or others):
            folds = {fold_of(log): log for log in chosen}
            one_dataset = len({dataset_of(log) for log in chosen}) == 1
            if len(chosen) == 1 or (len(folds) == len(chosen) and None not in folds and one_dataset):
                return [folds[fold] for fold in sorted(folds, key=lambda fold: fold or 0)]
        return [evaluation.only_log(self.path)]


def split_of(log: Path) -> Split | None:
    """The split of a log, None where the task is not one of rbft."""
    task = evaluation.task_of(log)
    return parse_task(task).split if task.startswith("rbft_") else None


def fold_of(log: Path) -> int | None:
    """The fold of a log, None where it is of a whole split."""
    task = evaluation.task_of(log)
    return parse_task(task).fold if task.startswith("rbft_") else None


def dataset_of(log: Path) -> str | None:
    """The dataset of a log, None where the task is not one of rbft."""
    task = evaluation.task_of(log)
    return parse_task(task).dataset if task.startswith("rbft_") else None


def find(given: Sequence[str]) -> tuple[list[Output], list[str]]:
    """(the outputs of what `load.gather` takes, notes on what a run has not scored)."""
    runs = {item: _of_run(Path(item)) for item in given if "=" not in item}
    shared = Counter(arm for outputs, _ in runs.values() for arm in {one.arm for one in outputs})
    all_outputs: list[Output] = []
    seen = Counter[str]()
    for item in given:
        arm, sign, path = item.partition("=")
        if sign and not (arm and path):
            raise RbftError(f"'{item}': give a run's folder, or ARM=OUTPUT, such as rbft=runs/demo/rbft/seed-0/eval")
        if sign:
            seed = layout.seed_in(path)
            all_outputs.append(Output(arm, seen[arm] if seed is None else seed, Path(path)))
            seen[arm] += 1
            continue
        alike = sum(Path(other).resolve().name == Path(item).resolve().name for other in runs) > 1
        prefix = item.strip("/") if alike else Path(item).resolve().name
        all_outputs += [
            replace(one, arm=f"{prefix}/{one.arm}") if shared[one.arm] > 1 else one for one in runs[item][0]
        ]
    return all_outputs, [note for _, notes in runs.values() for note in notes]


def _of_run(folder: Path) -> tuple[list[Output], list[str]]:
    planned = records.read_plan(folder)
    outputs = _planned(folder, planned) if planned else _scored(folder)
    existing = [one for one in outputs if one.path.is_dir()]
    if not existing:
        raise RbftError(f"{folder}: no evaluations (ARM/seed-N/eval) below it; give a run's folder, or ARM=OUTPUT")
    lost = list(dict.fromkeys(f"{one.arm}, seed {one.seed}" for one in outputs if one not in existing))
    notes = [f"Not scored in {folder}, so not in this report: {'; '.join(lost)}."] if lost else []
    return existing, notes + _same_models(existing)


def _same_models(outputs: Sequence[Output]) -> list[str]:
    """Notes on arms that are one model, and on the stages that fell away from arms for want of labels."""
    left_out = {one.arm: f"{one.arm} without {', '.join(one.left_out)}" for one in outputs if one.left_out}
    arms_of: dict[Path, list[str]] = defaultdict(list)
    for one in outputs:
        arms_of[one.path].append(one.arm)
    same = dict.fromkeys(", ".join(arms) for arms in arms_of.values() if len(arms) > 1)
    notes = [f"`shots: 0` uses no label, so stages that need labels are left out: {'; '.join(left_out.values())}."]
    return [
        *(notes if left_out else []),
        *(f"These arms have the same model, trained and scored once, and so the same figures: {one}." for one in same),
    ]


def _planned(folder: Path, plan: PlanRecord) -> list[Output]:
    """What the run scores. An arm's evaluation that several cells share is listed once; if all do, as the arm."""
    cells = list(dict.fromkeys(one.cell for one in plan.scored))
    sharing = defaultdict(list)
    for one in plan.scored:
        sharing[one.output, one.arm].append(one)
    planned = []
    for (output, arm), ones in sharing.items():
        first, below = ones[0], layout.below_run(output)
        everywhere = {one.cell for one in ones} == set(cells)
        planned.append(
            Output(
                arm if everywhere else first.name or layout.arm_in_cell(output),
                first.seed,
                folder / below,
                arm,
                tuple((one.cell, tuple(one.values.items())) for one in ones) if cells != [""] else (),
                _fit(folder, first.fit),
                first.left_out,
            )
        )
    return planned


def _fit(folder: Path, planned: PlannedFit | None) -> PlannedFit | None:
    """The paths of a fit where the run's folder is now."""
    if planned is None:
        return None
    losses = planned.losses and folder / layout.below_run(planned.losses)
    return planned.model_copy(update={"output": folder / layout.below_run(planned.output), "losses": losses})


def _scored(folder: Path) -> list[Output]:
    """The evaluations of a run without a plan. Arms are in the order in which the run scored them."""
    arms = dict.fromkeys(record.arm for record in records.records(folder) if record.kind == "score")
    order = {arm: place for place, arm in enumerate(arms)}
    outputs = [Output(arm, seed, path) for arm, seed, path in layout.evaluations(folder)]
    return sorted(outputs, key=lambda one: order.get(one.arm, len(order)))


def cells(outputs: Sequence[Output]) -> dict[str, list[str]]:
    """{arm: the cells of the sweep that it belongs to}. Arms are compared only within a cell. {} without a sweep."""
    return {one.arm: [cell for cell, _ in one.cells] for one in outputs if one.cells}


def curves(outputs: Sequence[Output]) -> LearningCurves | None:
    """Learning curves of a sweep; None where no swept value is a number."""
    values = [dict(of_cell) for one in outputs for _, of_cell in one.cells]
    keys = [key for key in dict.fromkeys(key for one in values for key in one) if _numbers(key, values)]
    if not keys:
        return None
    x = next((key for key in AMOUNTS if key in keys), keys[0])
    lines: dict[str, dict[str, str]] = defaultdict(dict)
    for one in outputs:
        for _, of_cell in one.cells:
            same = {key for key, value in of_cell if any(dict(other)[key] != value for _, other in one.cells)}
            others = [f"{key.rsplit('.', 1)[-1]} {value}" for key, value in of_cell if key not in (x, *same)]
            lines[one.plain + (f" ({', '.join(others)})" if others else "")][str(dict(of_cell)[x])] = one.arm
    return LearningCurves(x=AMOUNTS.get(x, x), lines=dict(lines))


def compared_settings(outputs: Sequence[Output]) -> list[str]:
    """A note on the settings that a sweep compares. Amounts of training data are no settings."""
    keys = dict.fromkeys(key for one in outputs for _, values in one.cells for key, _ in values if key not in AMOUNTS)
    if not keys:
        return []
    return [
        f"The settings of this sweep ({', '.join(short_names(keys).values())}) are compared on the clips that this "
        "report is of. If you take the best one by these figures, its figure here is too high, and no clips are left "
        "to tell how good it is. `select` in a recipe chooses settings on the validation clips instead."
    ]


def _numbers(key: str, values: Sequence[dict[str, Any]]) -> bool:
    numbers = {value[key] for value in values if key in value and not isinstance(value[key], list | dict)}
    return len(numbers) > 1 and all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers)
