"""One arm's figures: over its seeds, by class, and of its probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from rbft_plugin.report.evaluations import Scored
from rbft_plugin.scoring.bootstrap import MeanOverSeeds, over_seeds, resampled
from rbft_plugin.scoring.counts import confusion, correct, per_class
from rbft_plugin.scoring.metrics import metrics_of, wilson_interval

RARE = 5  # clips; a share of fewer, or of all but fewer, is not near normal
BINS = 10  # of the reliability diagram
Draws = dict[str, list[Any]]  # figure -> each seed's values on the resamples


def figures(run: Scored) -> dict[str, float]:
    """Each metric of predictions of one evaluation."""
    given = (run.targets, run.predictions, run.labels)
    return {name: metric.of(*given) for name, metric in metrics_of("predictions").items()}


def draws_of(runs: Sequence[Scored], drawn: Any) -> Draws:
    """Each seed's figures on the resamples `drawn` (see resampling.weights)."""
    each = [resampled(drawn, run.targets, run.predictions, run.labels) for run in runs]
    found = {figure: [one[figure] for one in each] for figure in each[0]}
    if blind := _without_video(runs):
        found["without_video"] = [drawn @ right / drawn.shape[1] for right in blind]
    return found


def _without_video(runs: Sequence[Scored]) -> list[Any]:
    """For each seed, whether its predictions without the video are right, shape (n,); [] unless every seed has them."""
    pairs = [(run.targets, run.without_video) for run in runs if run.without_video is not None]
    return [correct(*pair) for pair in pairs] if len(pairs) == len(runs) else []


def arm(runs: Sequence[Scored], drawn: Draws) -> dict[str, Any]:
    """The arm's entry in report.json; `runs` are its evaluations by seed, `drawn` what `draws_of` makes of them."""
    targets, labels, n = runs[0].targets, runs[0].labels, len(runs[0].ids)
    found = [figures(run) for run in runs]
    entry: dict[str, Any] = {"seeds": [run.seed for run in runs]}
    for figure, metric in metrics_of("predictions").items():
        entry[figure] = _figure([one[figure] for one in found], drawn[figure], n if metric.share else None)
    blind = [float(right.mean()) for right in _without_video(runs)]
    entry["without_video"] = _figure(blind, drawn["without_video"], n) if blind else None
    tables = [per_class(targets, run.predictions, labels) for run in runs]
    entry["per_class"] = {
        label: {key: fmean(table[label][key] for table in tables) for key in ("precision", "recall", "f1")}
        | {
            "f1_ci95": _class_interval([one[:, code] for one in drawn["f1"]]),
            "support": tables[0][label]["support"],
        }
        for code, label in enumerate(labels)
    }
    matrices = [confusion(targets, run.predictions, labels) for run in runs]
    entry["confusion"] = np.sum(matrices, axis=0).tolist()
    entry["probabilities"] = _of_probabilities(runs)
    return entry


def _figure(values: list[float], drawn: list[Any], n: int | None) -> dict[str, Any]:
    """A figure over seeds; `n` clips where it is a share of them.

    A t interval of a share may reach beyond 0 or 1, is too narrow near them, and empty where every seed has the same
    share of each class: there it is at least Wilson's of the mean.
    """
    estimate = over_seeds(values, drawn)
    low, high = max(0.0, estimate.low), min(1.0, estimate.high)
    if n is not None:
        hits = estimate.mean * n
        least, most = wilson_interval(round(hits), n)
        if len(values) == 1:
            low, high = least, most
        elif estimate.low == estimate.high or min(hits, n - hits) < RARE:
            low, high = min(low, least), max(high, most)
    return MeanOverSeeds(estimate.mean, low, high, estimate.sd).as_json() | {"per_seed": values}


def _class_interval(drawn: list[Any]) -> list[float]:
    """Of the mean over seeds, for the choice of clips alone: one class has too few clips to tell seeds apart."""
    low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
    return [float(low), float(high)]


def _of_probabilities(runs: Sequence[Scored]) -> dict[str, Any] | None:
    """Ranking and calibration, where every seed has probabilities; a figure that is undefined is None."""
    if any(run.probabilities is None for run in runs):
        return None
    entry: dict[str, Any] = {}
    for name, metric in metrics_of("probabilities").items():
        assert metric.of_probabilities
        values = [metric.of_probabilities(run.targets, run.probabilities or (), run.labels) for run in runs]
        defined = [None if math.isnan(value) else value for value in values]
        entry[name] = {"mean": None if None in defined else fmean(values), "per_seed": defined}
    return entry | {"reliability": {"seed": runs[0].seed, "bins": reliability(runs[0])}}


def reliability(run: Scored) -> list[dict[str, Any]]:
    """Bins of the most probable label's probability, ((m - 1) / 10, m / 10]; those without a clip are left out."""
    rows = np.asarray(run.probabilities)
    sure = rows.max(axis=1)
    right = np.array(
        [run.labels[code] == target for code, target in zip(rows.argmax(axis=1), run.targets, strict=True)]
    )
    bin_of = np.digitize(sure, np.linspace(0, 1, BINS + 1)[1:-1], right=True)
    bins = []
    for number in np.unique(bin_of):
        inside = bin_of == number
        n, hits = int(inside.sum()), int(right[inside].sum())
        bins.append(
            {
                "low": float(number) / BINS,
                "high": float(number + 1) / BINS,
                "n": n,
                "confidence": float(sure[inside].mean()),
                "accuracy": hits / n,
                "ci95": list(wilson_interval(hits, n)),
            }
        )
    return bins
