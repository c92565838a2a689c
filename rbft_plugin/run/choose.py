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
from rbft_plugin.errors import RbftError
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.model import checkpoint
from rbft_plugin.run import candidates, layout, records
from rbft_plugin.run.candidates import Candidate
from rbft_plugin.run.records import Choice, ChoiceRecord, ScoredCandidate
from rbft_plugin.run.steps import Plan
from rbft_plugin.run.sweep import Cell, cells, with_value
from rbft_plugin.scoring.metrics import METRICS
from rbft_plugin.spec.names import task_name
from rbft_plugin.spec.recipe import Recipe, load
from rbft_plugin.spec.yaml_models import read_yaml

LEAST = 1e-12  # the least probability of a label: its logarithm stays finite


def choose(plan: Plan) -> ChoiceRecord:
    """The best candidate of each arm. Raises RbftError if a candidate was not scored on the whole split."""
    select = plan.recipe.select
    assert select
    samples = [sample for sample in read_split(plan.dataset.name, "val") if sample.label is not None]
    if not samples:
        raise RbftError(f"{plan.dataset.name}: there is no validation sample with a label, so nothing can be chosen")
    choices = []
    for group in grouped(plan.candidates).values():
        scored = [_scored(candidate, select.metric, plan.dataset.name, samples) for candidate in group]
        first = group[0].planned
        base = candidates.base_cell(next(cell for cell in cells(plan.recipe) if cell.name == first.cell))
        tried, possible = candidates.combinations(select, base.recipe, base.recipe.arms[first.arm])
        choices.append(
            Choice(
                cell=first.cell,
                arm=first.arm,
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


def grouped(all_candidates: Sequence[Candidate]) -> dict[tuple[str, str], list[Candidate]]:
    """{(cell, arm): its candidates}."""
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in all_candidates:
        groups.setdefault((candidate.planned.cell, candidate.planned.arm), []).append(candidate)
    return groups


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
    figures = {seed: _figures(output, metric, dataset, samples) for seed, output in candidate.planned.outputs.items()}
    return ScoredCandidate(
        **dict(candidate.planned),
        per_seed={seed: figure for seed, (figure, _) in figures.items()},
        metric=fmean(figure for figure, _ in figures.values()),
        log_likelihood=fmean(likelihood for _, likelihood in figures.values()),
    )


def _figures(output: Path, metric: str, dataset: str, samples: Sequence[PreparedSample]) -> tuple[float, float]:
    """(the metric of a model's answers to the samples, the mean log-probability of their labels among all labels)."""
    labels = samples[0].labels
    targets = [sample.label or "" for sample in samples]
    answers, likelihoods = (
        {row.sample_id: row for row in evaluation.read_log(_log(output, task_name(dataset, kind, "val")))}
        for kind in ("label", "ll")
    )
    lost = [
        s.id for s in samples if s.id not in answers or not (likelihoods.get(s.id) and likelihoods[s.id].probabilities)
    ]
    if lost or len(answers) != len(samples):
        raise RbftError(
            f"{output}: it has {len(answers)} answers, not those of the {len(samples)} validation samples with a "
            "label; score the model again"
        )
    probabilities = [likelihoods[sample.id].probabilities or {} for sample in samples]
    of_targets = [max(LEAST, one[target]) for one, target in zip(probabilities, targets, strict=True)]
    of = METRICS[metric]
    if of.of_probabilities:
        value = of.of_probabilities(targets, [[one[label] for label in labels] for one in probabilities], labels)
    else:
        value = of.of(targets, [answers[sample.id].prediction for sample in samples], labels)
    return float(value), fmean(math.log(probability) for probability in of_targets)


def _log(output: Path, task: str) -> Path:
    logs = sorted(output.rglob(f"*_samples_{task}.jsonl"))
    if len(logs) != 1:
        raise RbftError(f"{output}: needs one log of {task}, but has {len(logs)}; score the candidate again")
    return logs[0]


def write(plan: Plan, path: Path, record: ChoiceRecord) -> list[Path]:
    """Write the recipe of what was chosen, for each cell of a sweep, and then the record. Returns the recipes."""
    written = []
    for cell in cells(plan.recipe):
        chosen = {
            choice.arm: plan.candidates[_place(plan, choice)] for choice in record.choices if choice.cell == cell.name
        }
        target = layout.chosen_file(plan.folder / cell.name)
        head = f"# Made by `rbft choose {path.as_posix()}`: change that recipe, not this one.\n"
        head += f"# Each arm has the settings with the best {METRICS[record.metric].title} on the validation split.\n"
        text = yaml.safe_dump(chosen_recipe(path, cell, chosen), sort_keys=False, allow_unicode=True, width=110)
        files.write_text(target, head + text)
        written.append(target)
    records.write(layout.choices_file(plan.folder), record)
    return written


def _place(plan: Plan, choice: Choice) -> int:
    """Where the chosen candidate stands among all candidates of the plan."""
    chosen = choice.candidates[choice.chosen]
    return next(place for place, one in enumerate(plan.candidates) if one.planned.outputs == chosen.outputs)


def chosen_recipe(path: Path, cell: Cell, chosen: Mapping[str, Candidate]) -> dict[str, Any]:
    """The recipe at `path` without `select` and `sweep`, in which each arm has stages of its own."""
    content = {key: value for key, value in read_yaml(path).items() if key not in ("select", "sweep")}
    for key, value in cell.values.items():
        content = with_value(content, key.split("."), value)
    content["run"] = "_".join(filter(None, [cell.recipe.run, "chosen", cell.name]))
    stages: dict[str, Any] = {}
    arms: dict[str, list[str]] = {}
    for arm in cell.recipe.arms:
        arms[arm] = []
        for stage in chosen[arm].planned.stages if arm in chosen else ():
            name = f"{arm}_{stage}"
            while name in stages:
                name += "_"
            stages[name] = _stage(chosen[arm], stage)
            arms[arm].append(name)
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


def read_chosen(plan: Plan) -> dict[str, Recipe]:
    """{cell of the sweep: the recipe that was chosen for it}."""
    return {cell.name: load(layout.chosen_file(plan.folder / cell.name)) for cell in cells(plan.recipe)}


def remove_others(plan: Plan) -> None:
    """Delete the weights of the candidates that were not chosen, unless a training starts from them."""
    record = records.read_choices(plan.folder)
    assert record and plan.recipe.select
    if plan.recipe.select.keep == "all":
        return
    kept = {model for step in plan.steps if step.kind in ("train", "export") for model in step.models}
    for choice in record.choices:
        kept |= {_folder(model) for model in plan.candidates[_place(plan, choice)].models.values()}
    for candidate in plan.candidates:
        for model in candidate.models.values():
            if _folder(model) not in kept and not checkpoint.removed(_folder(model)):
                checkpoint.remove_weights(Path(_folder(model)))


def _folder(model: checkpoint.Checkpoint) -> str:
    """The folder of the last training of a model."""
    return model.adapters[-1] if model.adapters else model.base
