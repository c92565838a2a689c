"""METRICS, the one list of metrics: task YAMLs, lmms-eval's aggregation, bootstrap, report and page follow from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from rbft_plugin.scoring import calibration
from rbft_plugin.scoring.counts import Counts, correct, count

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from rbft_plugin.scoring.counts import Array


@dataclass(frozen=True)
class Metric:
    """A metric of predictions or of probabilities, which has one of the two functions.

    `title` stands in tables. `of_counts` takes Counts and returns shape (...,). `of_probabilities` takes targets,
    probabilities of shape (n, k) and the k labels, and returns a number, or nan if it is undefined. `share` means that
    the metric is a share of samples: then it has Wilson's interval, and lmms-eval gives the standard error of its mean.
    """

    title: str
    higher_is_better: bool
    of_counts: Callable[[Counts], Array] | None = None
    of_probabilities: Callable[[Sequence[str], ArrayLike, Sequence[str]], float] | None = None
    share: bool = False

    @property
    def needs(self) -> Literal["predictions", "probabilities"]:
        return "predictions" if self.of_counts else "probabilities"

    def of(self, targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str]) -> float:
        """The metric of one evaluation's predictions. Raises ValueError as `counts.codes` does."""
        assert self.of_counts
        return float(self.of_counts(count(targets, predictions, labels)))


# This is also the order in tables. F1 and recall are defined as in scikit-learn. No answer is a false negative of its
# target, and a false positive of no label. Labels without a target have no F1 and recall; to predict one is wrong.
METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", True, lambda counts: counts.right / counts.n, share=True),
    "macro_f1": Metric("macro-F1", True, lambda counts: counts.f1[..., counts.present].mean(axis=-1)),
    "balanced_accuracy": Metric("balanced accuracy", True, lambda counts: _recall(counts).mean(axis=-1)),
    "weighted_f1": Metric("weighted F1", True, lambda counts: counts.f1 @ counts.support / counts.n),
    "no_answer": Metric("no answer", False, lambda counts: counts.unanswered / counts.n, share=True),
    "auroc": Metric("AUROC", True, of_probabilities=calibration.auroc),
    "average_precision": Metric("average precision", True, of_probabilities=calibration.average_precision),
    "brier": Metric("Brier score", False, of_probabilities=calibration.brier),
    "calibration_error": Metric("calibration error", False, of_probabilities=calibration.calibration_error),
}


def _recall(counts: Counts) -> Array:
    return counts.hits[..., counts.present] / counts.support[counts.present]


def metrics_of(needs: Literal["predictions", "probabilities"]) -> dict[str, Metric]:
    """The metrics that need only predictions, or those that need probabilities."""
    return {name: metric for name, metric in METRICS.items() if metric.needs == needs}


def wilson_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval (low, high) of a proportion (Wilson 1927). Unlike Wald's, it is not empty at 0 and n.

    Raises ValueError if n is 0, or if successes are not within 0..n.
    """
    from scipy.stats import binomtest

    if n < 1:
        raise ValueError("no samples")
    interval = binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


class McNemar(NamedTuple):
    """`fixed` is the number of samples that the new arm has right and the other one wrong, `broken` the reverse.

    `p` is the probability of a split at least as uneven if both are equally likely, 1.0 if no sample differs.
    """

    fixed: int
    broken: int
    p: float


def mcnemar(targets: Sequence[str], a: Sequence[str | None], b: Sequence[str | None]) -> McNemar:
    """The exact two-sided (binomial) McNemar test (1947) of predictions `a`, of the new arm, against `b`.

    All are of the same samples. Raises ValueError as `counts.correct` does.
    """
    from scipy.stats import binomtest

    right_a, right_b = correct(targets, a), correct(targets, b)
    fixed, broken = int((right_a & ~right_b).sum()), int((~right_a & right_b).sum())
    changed = fixed + broken
    p = float(binomtest(min(fixed, broken), changed, 0.5).pvalue) if changed else 1.0
    return McNemar(fixed, broken, p)
