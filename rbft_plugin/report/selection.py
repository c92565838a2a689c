"""What `select` tried and chose in a run, with the intervals of the validation figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rbft_plugin.data.prepared import PreparedSample
from rbft_plugin.errors import RbftError
from rbft_plugin.report import prose
from rbft_plugin.report.arm_statistics import Resampled, figure, figures, resample
from rbft_plugin.report.evaluations import Evaluation, pooled
from rbft_plugin.report.figure_model import Figure, MeanFigure
from rbft_plugin.report.read_evaluation import read
from rbft_plugin.report.selection_model import ArmChoice, CandidateFigures, Selection
from rbft_plugin.report.selection_prose import FEW
from rbft_plugin.run import layout, records
from rbft_plugin.run.choose import log_of, validation_samples
from rbft_plugin.run.records import Choice, ChoiceRecord, ScoredCandidate
from rbft_plugin.run.sweep import in_cell, short_names
from rbft_plugin.scoring.bootstrap import over_seeds, weights
from rbft_plugin.scoring.metrics import METRICS
from rbft_plugin.spec.dataset_sources import Split


def of_run(run: Path, dataset: str) -> Selection | None:
    """What the recipe's `select` chose in a run; None if it had none, or has not chosen yet."""
    record = records.read_choices(run)
    if record is None:
        return None
    samples = {choice.fold: validation_samples(dataset, choice.fold) for choice in record.choices}
    sizes = {fold: Counter(sample.label for sample in of_fold) for fold, of_fold in samples.items()}
    labels = next(iter(samples.values()))[0].labels
    few = [label for label in labels if min(support[label] for support in sizes.values()) < FEW]
    return Selection(
        metric=record.metric,
        seeds=list(record.seeds),
        budget=record.budget,
        n=min(map(len, samples.values())),
        choices=[_choice(run, dataset, record, choice, samples[choice.fold]) for choice in record.choices],
        few=few,
    )


def _choice(
    run: Path, dataset: str, record: ChoiceRecord, choice: Choice, samples: Sequence[PreparedSample]
) -> ArmChoice:
    order = sorted(range(len(choice.candidates)), key=lambda place: _rank(choice, record.metric, place))
    ranked = [choice.candidates[place] for place in order]
    evaluations = [_evaluations(run, dataset, one, samples) for one in ranked]
    drawn = weights([sample.label or "" for sample in samples])
    metric = METRICS[record.metric]
    resampled = [resample(of_seeds, drawn) for of_seeds in evaluations] if metric.of_counts else []
    return ArmChoice(
        arm=in_cell(choice.cell, choice.arm),
        fold=choice.fold,
        candidates=[
            CandidateFigures(
                name=prose.candidate_name(one, record.settings),
                settings=one.settings,
                left_out=one.left_out,
                checkpoint=one.checkpoint,
                steps=one.steps,
                metric=_figure(one, evaluations[place], resampled[place] if resampled else None, record.metric),
                log_likelihood=one.log_likelihood,
            )
            for place, one in enumerate(ranked)
        ],
        tried=choice.tried,
        possible=choice.possible,
        lead=_lead(evaluations, resampled, record.metric) if len(ranked) > 1 and resampled else None,
        optimism=_optimism(ranked, resampled, record.metric) if resampled else None,
        edges=edges(ranked[0], _tried(ranked), record.settings),
    )


def _rank(choice: Choice, metric: str, place: int) -> tuple[bool, float]:
    """The chosen candidate first, then by the metric."""
    value = choice.candidates[place].metric
    return place != choice.chosen, -value if METRICS[metric].higher_is_better else value


def _evaluations(
    run: Path, dataset: str, candidate: ScoredCandidate, samples: Sequence[PreparedSample]
) -> list[Evaluation]:
    """The candidate's evaluations on the validation samples by seed, in the order of these samples."""
    ids = [sample.id for sample in samples]
    split: Split = "val" if candidate.fold is None else "test"
    found = []
    for seed, outputs in candidate.outputs.items():
        logs = [log_of(run / layout.below_run(output), dataset, "label") for output in outputs]
        parts = [read(log, candidate.arm, seed, dataset, split, list(samples)) for log in logs]
        whole = parts[0] if candidate.fold is None else pooled(parts)
        if sorted(whole.ids) != sorted(ids):
            what = "not of the present validation samples; `rbft run` scores the candidates again"
            raise RbftError(f"{', '.join(map(str, logs))}: {what}")
        found.append(whole.of(ids))
    return found


def _figure(
    candidate: ScoredCandidate, evaluations: Sequence[Evaluation], values: Resampled | None, metric: str
) -> Figure | MeanFigure:
    if values is None:
        return MeanFigure(mean=candidate.metric, per_seed=list(candidate.per_seed.values()))
    n = len(evaluations[0].ids) if METRICS[metric].share else None
    return figure([figures(one)[metric] for one in evaluations], values[metric], n)


def _lead(evaluations: Sequence[Sequence[Evaluation]], resampled: Sequence[Resampled], metric: str) -> Figure:
    """How much better the chosen candidate is than the next one, on the same clips."""
    sign = 1 if METRICS[metric].higher_is_better else -1
    first, second = ([figures(one)[metric] for one in of_seeds] for of_seeds in evaluations[:2])
    by_seed = [sign * (a - b) for a, b in zip(first, second, strict=True)]
    drawn = [sign * (a - b) for a, b in zip(resampled[0][metric], resampled[1][metric], strict=True)]
    estimate = over_seeds(by_seed, drawn)
    return Figure(mean=estimate.mean, sd=estimate.sd, ci95=(estimate.low, estimate.high), per_seed=by_seed)


def _optimism(ranked: Sequence[ScoredCandidate], resampled: Sequence[Resampled], metric: str) -> float:
    """How much too good the best candidate's figure is expected to be, only because it was chosen by it.

    On each resample of the clips, the best candidate is chosen anew; what its figure there exceeds its figure on all
    clips by is averaged. This is the bootstrap's estimate of optimism (Efron 1983, JASA 78) for a choice.
    """
    sign = 1 if METRICS[metric].higher_is_better else -1
    drawn = sign * np.array([np.mean(values[metric], axis=0) for values in resampled])
    whole = sign * np.array([one.metric for one in ranked])
    best = drawn.argmax(axis=0)
    return max(0.0, float(np.mean(drawn[best, np.arange(drawn.shape[1])] - whole[best])))


def _tried(candidates: Sequence[ScoredCandidate]) -> dict[str, list[Any]]:
    """The values of each setting that were trained."""
    return {
        key: list(dict.fromkeys(one.settings[key] for one in candidates if key in one.settings))
        for key in dict.fromkeys(key for one in candidates for key in one.settings)
        if all(isinstance(one.settings.get(key), int | float | None) for one in candidates)
    }


def edges(chosen: ScoredCandidate, tried: Mapping[str, Sequence[Any]], settings: Iterable[str]) -> list[str]:
    """The chosen numbers that are the lowest or highest of those tried, such as "max_steps 120, the highest".

    `settings` are the keys that any arm tried. Where a checkpoint was chosen, the steps of its stage are no edge.
    """
    names = short_names(settings)
    steps = f"training.stages.{chosen.stages[-1]}.overrides.max_steps" if chosen.checkpoint else None
    found = []
    for key, values in tried.items():
        numbers = [value for value in values if not isinstance(value, bool)]
        value = chosen.settings.get(key)
        if key != steps and len(numbers) > 1 and value in (min(numbers), max(numbers)):
            found.append(f"{names[key]} {value}, the {'lowest' if value == min(numbers) else 'highest'}")
    return found
