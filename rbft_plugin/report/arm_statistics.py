"""The statistics of one arm: over its seeds, by class, and of its probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from rbft_plugin.report import fit
from rbft_plugin.report.evaluations import Evaluation
from rbft_plugin.report.figure_model import Figure, Interval, MeanFigure, Readings
from rbft_plugin.report.view_model import (
    ArmStatistics,
    ClassStatistics,
    ProbabilityStatistics,
    Reliability,
    ReliabilityBin,
)
from rbft_plugin.scoring.answers import RULES
from rbft_plugin.scoring.bootstrap import over_seeds, resampled
from rbft_plugin.scoring.counts import confusion, correct, per_class
from rbft_plugin.scoring.metrics import metrics_of, wilson_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rbft_plugin.scoring.counts import Array

RARE = 5  # samples; a share of fewer, or of all but fewer, is not near normal
BINS = 10  # of the reliability diagram
Resampled = dict[str, list["Array"]]  # metric -> each seed's values on the resamples


def figures(evaluation: Evaluation) -> dict[str, float]:
    """Each metric of predictions of one evaluation."""
    columns = (evaluation.targets, evaluation.predictions, evaluation.labels)
    return {name: metric.of(*columns) for name, metric in metrics_of("predictions").items()}


def resample(evaluations: Sequence[Evaluation], weights: Array) -> Resampled:
    """Each seed's metrics on the resamples `weights`, of shape (resamples, n); see bootstrap.weights."""
    by_seed = [resampled(weights, one.targets, one.predictions, one.labels) for one in evaluations]
    values = {name: [metrics[name] for metrics in by_seed] for name in by_seed[0]}
    if right := _right_without_video(evaluations):
        values["without_video"] = [weights @ each / weights.shape[1] for each in right]
    return values


def arm_statistics(evaluations: Sequence[Evaluation], values: Resampled) -> ArmStatistics:
    """The statistics of an arm. `evaluations` are by seed, `values` are what `resample` makes of them."""
    first, n = evaluations[0], len(evaluations[0].ids)
    by_seed = [figures(one) for one in evaluations]
    without_video = [float(right.mean()) for right in _right_without_video(evaluations)]
    matrices = [confusion(first.targets, one.predictions, first.labels) for one in evaluations]
    return ArmStatistics(
        seeds=[one.seed for one in evaluations],
        metrics={
            name: figure([metrics[name] for metrics in by_seed], values[name], n if metric.share else None)
            for name, metric in metrics_of("predictions").items()
        },
        fit=fit.statistics(evaluations),
        without_video=figure(without_video, values["without_video"], n) if without_video else None,
        per_class=_per_class(evaluations, values["f1"]),
        confusion=np.sum(matrices, axis=0).tolist(),
        probabilities=_probabilities(evaluations),
        readings=_readings(evaluations),
    )


def _readings(evaluations: Sequence[Evaluation]) -> Readings | None:
    """By which rules the answers were read; None unless every seed knows it."""
    rules = [one.rules for one in evaluations if one.rules is not None]
    if len(rules) < len(evaluations):
        return None
    right = [correct(one.targets, one.predictions) for one in evaluations]
    by_rule = np.asarray(rules)
    return Readings(
        shares={rule: float((by_rule == rule).mean()) for rule in (*RULES, 0)},
        accuracy_rule_1=float(((by_rule == 1) & np.asarray(right)).mean()),
    )


def _right_without_video(evaluations: Sequence[Evaluation]) -> list[NDArray[np.bool_]]:
    """For each seed, whether its predictions without the video are right, shape (n,); [] unless every seed has them."""
    right = [correct(one.targets, one.without_video) for one in evaluations if one.without_video is not None]
    return right if len(right) == len(evaluations) else []


def figure(by_seed: list[float], values: list[Array], n: int | None) -> Figure:
    """A metric over seeds; `n` samples where it is a share of them.

    A t interval of a share may reach beyond 0 or 1, is too narrow near them, and empty where every seed has the same
    share of each class: there it is at least Wilson's of the mean.
    """
    estimate = over_seeds(by_seed, values)
    low, high = max(0.0, estimate.low), min(1.0, estimate.high)
    if n is not None:
        hits = estimate.mean * n
        least, most = wilson_interval(round(hits), n)
        if len(by_seed) == 1:
            low, high = least, most
        elif estimate.low == estimate.high or min(hits, n - hits) < RARE:
            low, high = min(low, least), max(high, most)
    return Figure(mean=estimate.mean, sd=estimate.sd, ci95=(low, high), per_seed=by_seed)


def _per_class(evaluations: Sequence[Evaluation], f1: list[Array]) -> dict[str, ClassStatistics]:
    first = evaluations[0]
    tables = [per_class(first.targets, one.predictions, first.labels) for one in evaluations]
    return {
        label: ClassStatistics(
            precision=fmean(table[label].precision for table in tables),
            recall=fmean(table[label].recall for table in tables),
            f1=fmean(table[label].f1 for table in tables),
            f1_ci95=_class_interval([one[:, code] for one in f1]),
            support=tables[0][label].support,
        )
        for code, label in enumerate(first.labels)
    }


def _class_interval(values: list[Array]) -> Interval:
    """Of the mean over seeds, for the choice of samples alone: one class has too few samples to tell seeds apart."""
    low, high = np.quantile(np.mean(values, axis=0), [0.025, 0.975])
    return float(low), float(high)


def _probabilities(evaluations: Sequence[Evaluation]) -> ProbabilityStatistics | None:
    """Ranking and calibration, where every seed has probabilities."""
    if any(one.probabilities is None for one in evaluations):
        return None
    metrics = {}
    for name, metric in metrics_of("probabilities").items():
        assert metric.of_probabilities
        of_seeds = [metric.of_probabilities(one.targets, one.probabilities or (), one.labels) for one in evaluations]
        defined = [None if math.isnan(value) else value for value in of_seeds]
        metrics[name] = MeanFigure(mean=None if None in defined else fmean(of_seeds), per_seed=defined)
    return ProbabilityStatistics(metrics=metrics, reliability=reliability(evaluations[0]))


def reliability(evaluation: Evaluation) -> Reliability:
    """Bins of the most probable label's probability, ((m - 1) / 10, m / 10]. Bins without a sample are left out."""
    rows = np.asarray(evaluation.probabilities)
    confidence = rows.max(axis=1)
    predicted = [evaluation.labels[code] for code in rows.argmax(axis=1)]
    right = correct(evaluation.targets, predicted)
    bin_of = np.digitize(confidence, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    bins = []
    for number in np.unique(bin_of):
        inside = bin_of == number
        n, hits = int(inside.sum()), int(right[inside].sum())
        bins.append(
            ReliabilityBin(
                low=float(number) / BINS,
                high=float(number + 1) / BINS,
                n=n,
                confidence=float(confidence[inside].mean()),
                accuracy=hits / n,
                ci95=wilson_interval(hits, n),
            )
        )
    return Reliability(seed=evaluation.seed, bins=bins)
