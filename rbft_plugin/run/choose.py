"""`rbft choose`: compares the candidates of a recipe on the validation split, and writes the recipe of the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from rbft_plugin import files
from rbft_plugin.data.prepared import PreparedSample, read_split
from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.model import checkpoint
from rbft_plugin.run import candidates, layout, records
from rbft_plugin.run.candidates import Candidate
from rbft_plugin.run.records import Choice, ChoiceRecord, ScoredCandidate
from rbft_plugin.run.steps import Plan
from rbft_plugin.run.sweep import Cell, cells, with_value
from rbft_plugin.scoring.metrics import METRICS
from rbft_plugin.spec.names import parse_task, task_name
from rbft_plugin.spec.recipe import Recipe, load
from rbft_plugin.spec.yaml_models import read_yaml

LEAST = 1e-12  # the least probability of a label: its logarithm stays finite


def choose(plan: Plan) -> ChoiceRecord:
    """The best candidate of each arm. Raises RbftError if a candidate was not scored on the whole split."""
    select = plan.recipe.select
    assert select
    outputs = [output for one in plan.candidates for of_seed in one.planned.outputs.values() for output in of_seed]
    if unscored := [f"{output}: not scored" for output in dict.fromkeys(outputs) if not output.is_dir()]:
        hint = "`rbft run` scores the candidates of a recipe, and then chooses."
        raise ProblemsError(f"{plan.recipe.run}: candidates", unscored, hint)
    choices = []
    for group in grouped(plan.candidates).values():
        first = group[0].planned
        samples = validation_samples(plan.dataset.name, first.fold)
        scored = [_scored(candidate, select.metric, plan.dataset.name, samples) for candidate in group]
        base = candidates.base_cell(next(cell for cell in cells(plan.recipe) if cell.name == first.cell))
        tried, possible = candidates.combinations(select, base.recipe, base.recipe.stages_of(first.arm))
        choices.append(
            Choice(
                cell=first.cell,
                arm=first.arm,
                fold=first.fold,
                candidates=tuple(scored),
                chosen=best(scored, select.metric),
                tried=len(tried),
                possible=possible,
            )
        )
    return ChoiceRecord(
        metric=select.metric,
        budget=select.budget,
        seeds=select.seeds,
        settings=select.settings,
        choices=tuple(choices),
    )


def validation_samples(dataset: str, fold: int | None) -> list[PreparedSample]:
    """The labelled samples on which candidates are compared: of the split val, or of all folds but one.

    Raises RbftError if there are none.
    """
    given = read_split(dataset, "val" if fold is None else "test")
    samples = [sample for sample in given if sample.label is not None and (fold is None or sample.fold != fold)]
    if not samples:
        raise RbftError(f"{dataset}: there is no validation sample with a label, so nothing can be chosen")
    return samples


def grouped(all_candidates: Sequence[Candidate]) -> dict[tuple[str, str, int | None], list[Candidate]]:
    """{(cell, arm, fold): its candidates}."""
    groups: dict[tuple[str, str, int | None], list[Candidate]] = {}
    for one in all_candidates:
        groups.setdefault((one.planned.cell, one.planned.arm, one.planned.fold), []).append(one)
    return groups


def choices_of(plan: Plan) -> list[tuple[Cell, int | None]]:
    """The cells of the sweep, and the folds, for which something is chosen."""
    select = plan.recipe.select
    folds = range(plan.dataset.folds) if select and select.on == "folds" else [None]
    return [(cell, fold) for cell in cells(plan.recipe) for fold in folds]


def best(scored: Sequence[ScoredCandidate], metric: str) -> int:
    """The place of the candidate with the best metric; of equal ones see `Select.metric`, then the first.

    A metric that is undefined (nan) is the worst.
    """
    sign = 1 if METRICS[metric].higher_is_better else -1

    def key(place: int) -> tuple[float, float, int, int]:
        one = scored[place]
        value = -math.inf if math.isnan(one.metric) else sign * one.metric
        return -value, -one.log_likelihood, one.steps, place

    return min(range(len(scored)), key=key)


def _scored(candidate: Candidate, metric: str, dataset: str, samples: Sequence[PreparedSample]) -> ScoredCandidate:
    figures = {seed: _figures(outputs, metric, dataset, samples) for seed, outputs in candidate.planned.outputs.items()}
    return ScoredCandidate(
        **dict(candidate.planned),
        per_seed={seed: figure for seed, (figure, _) in figures.items()},
        metric=fmean(figure for figure, _ in figures.values()),
        log_likelihood=fmean(likelihood for _, likelihood in figures.values()),
    )


def _figures(
    outputs: Sequence[Path], metric: str, dataset: str, samples: Sequence[PreparedSample]
) -> tuple[float, float]:
    """(the metric of the answers to the samples, the mean log-probability of their labels among all labels)."""
    labels = samples[0].labels
    targets = [sample.label or "" for sample in samples]
    answers, likelihoods = (
        {row.sample_id: row for output in outputs for row in evaluation.read_log(log_of(output, dataset, kind))}
        for kind in ("label", "ll")
    )
    lost = [
        s.id for s in samples if s.id not in answers or not (likelihoods.get(s.id) and likelihoods[s.id].probabilities)
    ]
    if lost or len(answers) != len(samples):
        raise RbftError(
            f"{', '.join(map(str, outputs))}: it has {len(answers)} answers, not those of the {len(samples)} "
            "validation samples with a label; score the model again"
        )
    probabilities = [likelihoods[sample.id].probabilities or {} for sample in samples]
    of_targets = [max(LEAST, one[target]) for one, target in zip(probabilities, targets, strict=True)]
    of = METRICS[metric]
    if of.of_probabilities:
        value = of.of_probabilities(targets, [[one[label] for label in labels] for one in probabilities], labels)
    else:
        value = of.of(targets, [answers[sample.id].prediction for sample in samples], labels)
    return float(value), fmean(math.log(probability) for probability in of_targets)


def log_of(output: Path, dataset: str, kind: str) -> Path:
    """The log of the dataset's task of a kind. Raises RbftError if there is not exactly one."""
    logs = sorted(output.rglob("*_samples_rbft_*.jsonl"))
    logs = [log for log in logs if parse_task(evaluation.task_of(log))[:2] == (dataset, kind)]
    if len(logs) != 1:
        task = task_name(dataset, kind)
        raise RbftError(f"{output}: needs one log of a task {task}, but has {len(logs)}; score the candidate again")
    return logs[0]


def write(plan: Plan, path: Path, record: ChoiceRecord) -> list[Path]:
    """Write the recipe of what was chosen, for each cell and fold, and then the record. Returns the recipes."""
    written = []
    for cell, fold in choices_of(plan):
        chosen = {
            choice.arm: plan.candidates[_place(plan, choice)]
            for choice in record.choices
            if (choice.cell, choice.fold) == (cell.name, fold)
        }
        target = layout.chosen_file(plan.folder / cell.name, fold)
        on = "the validation split" if fold is None else "the other folds"
        head = f"# Made by `rbft choose {path.as_posix()}`: change that recipe, not this one.\n"
        head += f"# Each arm has the settings with the best {METRICS[record.metric].title} on {on}.\n"
        text = yaml.safe_dump(chosen_recipe(path, cell, fold, chosen), sort_keys=False, allow_unicode=True, width=110)
        files.write_text(target, head + text)
        written.append(target)
    records.write(layout.choices_file(plan.folder), record)
    return written


def _place(plan: Plan, choice: Choice) -> int:
    """Where the chosen candidate stands among all candidates of the plan."""
    chosen = choice.candidates[choice.chosen]
    where = (chosen.fold, chosen.outputs)
    return next(place for place, one in enumerate(plan.candidates) if (one.planned.fold, one.planned.outputs) == where)


def chosen_recipe(path: Path, cell: Cell, fold: int | None, chosen: Mapping[str, Candidate]) -> dict[str, Any]:
    """The recipe at `path` without `select` and `sweep`, in which each arm has stages of its own; of a fold alone."""
    content = {key: value for key, value in read_yaml(path).items() if key not in ("select", "sweep")}
    for key, value in cell.values.items():
        content = with_value(content, key.split("."), value)
    content["run"] = "_".join(filter(None, [cell.recipe.run, "chosen", cell.name]))
    if fold is not None:
        content |= {"run": f"{content['run']}_fold-{fold}", "folds": [fold]}
    stages: dict[str, Any] = {}
    arms: dict[str, list[str]] = {}
    for arm, written in cell.recipe.arms.items():
        own = {stage: _stage(chosen[arm], stage) for stage in chosen[arm].planned.stages} if arm in chosen else {}
        for stage in (stage for stage in written if stage not in cell.recipe.stages_of(arm)):  # falls away there too
            own[stage] = cell.recipe.training.stages[stage].model_dump(mode="json", exclude_defaults=True)
        names = {}
        for stage, content_of_stage in own.items():
            names[stage] = f"{arm}_{stage}"
            while names[stage] in stages:
                names[stage] += "_"
            stages[names[stage]] = content_of_stage
        kept = chosen[arm].planned.stages if arm in chosen else ()
        arms[arm] = [names[stage] for stage in (*kept, *(stage for stage in own if stage not in kept))]
    return content | {"arms": arms, "training": content["training"] | {"stages": stages}}


def _stage(candidate: Candidate, name: str) -> dict[str, Any]:
    """A stage with the settings that were chosen for it and for all stages."""
    training, planned = candidate.recipe.training, candidate.planned
    prefix = "training.overrides."
    shared = {key.removeprefix(prefix): value for key, value in planned.settings.items() if key.startswith(prefix)}
    stage = training.stages[name].model_dump(mode="json", exclude_defaults=True)
    if planned.checkpoint and name == planned.stages[-1]:
        stage["checkpoint"] = planned.checkpoint
    overrides = shared | stage.pop("overrides", {})
    return stage | ({"overrides": overrides} if overrides else {})


def read_chosen(plan: Plan) -> dict[tuple[str, int | None], Recipe]:
    """{(cell of the sweep, fold): the recipe that was chosen for it}."""
    return {
        (cell.name, fold): load(layout.chosen_file(plan.folder / cell.name, fold)) for cell, fold in choices_of(plan)
    }


def remove_others(plan: Plan) -> None:
    """Delete the weights of the candidates that were not chosen, unless a training starts from them."""
    record = records.read_choices(plan.folder)
    assert record and plan.recipe.select
    if plan.recipe.select.keep == "all":
        return
    kept = {model for step in plan.steps if step.kind in ("train", "export") for model in step.models}
    for choice in record.choices if plan.recipe.select.on == "val" else ():  # of folds, no candidate is the final model
        kept |= {_folder(model) for model in plan.candidates[_place(plan, choice)].models}
    for candidate in plan.candidates:
        for model in candidate.models:
            if _folder(model) not in kept and not checkpoint.removed(_folder(model)):
                checkpoint.remove_weights(Path(_folder(model)))


def _folder(model: checkpoint.Checkpoint) -> str:
    """The folder of the last training of a model."""
    return model.adapters[-1] if model.adapters else model.base
