"""The bootstrap over test clips, and intervals that also cover the choice of seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rbft_plugin.scoring.counts import count
from rbft_plugin.scoring.metrics import METRICS

if TYPE_CHECKING:
    from rbft_plugin.scoring.counts import Array

RESAMPLES = 2000


@dataclass(frozen=True)
class MeanOverSeeds:
    """A mean over seeds and its 95 % interval. With one seed, it is the bootstrap's; sd, df and p are None."""

    mean: float
    low: float
    high: float
    sd: float | None = None  # of the seeds
    df: float | None = None
    p: float | None = None  # two-sided, of the hypothesis that the mean is 0

    def as_json(self) -> dict[str, object]:
        return {"mean": self.mean, "sd": self.sd, "ci95": [self.low, self.high]}


def weights(targets: Sequence[str], resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """How often each clip counts in each resample, shape (resamples, n). Each class keeps its number of clips.

    From a class of n clips, n - 1 are drawn with replacement, and each counts n / (n - 1) times (Rao and Wu 1988,
    "Resampling inference with complex survey data", JASA 83). If n were drawn, the variance would be too small by the
    factor (n - 1) / n, which matters in classes of few clips. The spread of a class of one clip cannot be estimated:
    that clip always counts once. The same targets and seed give the same resamples, so that arms are paired.
    """
    position = {label: number for number, label in enumerate(dict.fromkeys(targets))}
    of_class = np.array([position[target] for target in targets], dtype=np.intp)
    rng = np.random.default_rng(seed)
    drawn = np.ones((resamples, len(targets)))
    for number in range(len(position)):
        members = np.flatnonzero(of_class == number)
        if (n := len(members)) > 1:
            drawn[:, members] = rng.multinomial(n - 1, np.full(n, 1 / n), size=resamples) * (n / (n - 1))
    return drawn


def resampled(
    drawn: Array, targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str]
) -> dict[str, Array]:
    """Each metric of predictions on each resample, shape (resamples,), and "f1" of shape (resamples, labels).

    `drawn` comes from `weights`. Raises ValueError as `counts.codes` does.
    """
    counts = count(targets, predictions, labels, drawn)
    figures = {name: metric.of_counts(counts) for name, metric in METRICS.items() if metric.of_counts}
    return figures | {"f1": counts.f1}


def over_seeds(values: Sequence[float], drawn: Sequence[Array]) -> MeanOverSeeds:
    """The mean of k figures, one for each seed, and its 95 % interval. The figures may be differences of figures.

    `drawn` holds each seed's figure on the same resamples: k arrays of shape (resamples,). With one seed, the interval
    is the percentile bootstrap (Efron 1979), which covers only the choice of test clips. With several, it is a t
    interval, which covers the choice of seeds and of clips. Every seed sees every clip, as every reader sees every case
    in reader studies of radiology, and the method is theirs. The variance of the mean is the variance of the seeds / k,
    plus the mean covariance of two seeds, which comes from the shared clips, if it is positive (Obuchowski and Rockette
    1995, Commun. Stat. Simul. Comput. 24). The degrees of freedom are those of Hillis (2007, Stat. Med. 26). The
    covariance is taken from the bootstrap. The variance is never taken to be below that of the clips alone, because
    seeds that happen to agree are no further evidence. If nothing varies at all, p is None.
    """
    from scipy.stats import t

    mean, k = float(np.mean(values)), len(values)
    if k == 1:
        low, high = np.quantile(drawn[0], [0.025, 0.975])
        return MeanOverSeeds(mean, float(low), float(high))
    between = float(np.var(values, ddof=1)) / k
    covariance = np.cov(np.asarray(drawn))
    shared = max(0.0, float(covariance[~np.eye(k, dtype=bool)].mean()))
    variance = max(between + shared, float(np.var(np.mean(drawn, axis=0), ddof=1)))
    sd = float(np.std(values, ddof=1))
    if variance <= 1e-18:  # equal numbers leave as much after rounding
        return MeanOverSeeds(mean, mean, mean, sd, float("inf"))
    df = (k - 1) * (variance / between) ** 2 if between > 1e-18 else float("inf")
    half = float(t.ppf(0.975, df)) * variance**0.5
    p = 2 * float(t.sf(abs(mean) / variance**0.5, df))
    return MeanOverSeeds(mean, mean - half, mean + half, sd, df, p)
