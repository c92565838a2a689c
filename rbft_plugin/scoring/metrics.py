"""Pure functions from targets and predictions to figures, intervals and tests.

A prediction is a label name, or NO_ANSWER where the model's text named no label. No answer is always wrong; its rate
is given beside accuracy, since "answers wrongly" and "does not answer" want different remedies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rbft_plugin.scoring.answers import NO_ANSWER

Codes = NDArray[np.intp]


def accuracy(targets: Sequence[str], predictions: Sequence[str | None]) -> float:
    """Share of predictions that equal their target, 0 to 1. ValueError without samples or with unequal lengths."""
    return float(np.mean(correct(targets, predictions)))


def correct(targets: Sequence[str], predictions: Sequence[str | None]) -> NDArray[np.bool_]:
    """Shape (n,): whether each prediction equals its target. ValueError as in `accuracy`."""
    _check_lengths(targets, predictions)
    return np.array([target == prediction for target, prediction in zip(targets, predictions, strict=True)])


def no_answer_rate(predictions: Sequence[str | None]) -> float:
    """Share of predictions that are NO_ANSWER, 0 to 1. ValueError without samples."""
    _check_lengths(predictions)
    return sum(prediction is NO_ANSWER for prediction in predictions) / len(predictions)


def majority_accuracy(targets: Sequence[str]) -> float:
    """Accuracy of always answering the most frequent target, 0 to 1. ValueError without samples."""
    _check_lengths(targets)
    return Counter(targets).most_common(1)[0][1] / len(targets)


def macro_f1(targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str]) -> float:
    """Mean F1 (0 to 1) over the labels with at least one target.

    Equals scikit-learn's f1_score(labels=<those labels>, average="macro", zero_division=0), where no answer is a false
    negative of its target and a false positive of nothing. ValueError on names outside `labels`, no samples, or
    unequal lengths.
    """
    y_true, y_pred = codes(targets, predictions, labels)
    hits = np.bincount(y_true[y_true == y_pred], minlength=len(labels))
    support = np.bincount(y_true, minlength=len(labels))
    predicted = np.bincount(y_pred, minlength=len(labels) + 1)[: len(labels)]
    present = support > 0
    return float(np.mean(2 * hits[present] / (support[present] + predicted[present])))


def balanced_accuracy(targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str]) -> float:
    """Mean recall (0 to 1) over the labels with at least one target; ValueError as in `codes`.

    With one such label it is the accuracy. Answering one label always gives 1 / (labels that occur).
    """
    from sklearn.metrics import recall_score

    y_true, y_pred = codes(targets, predictions, labels)
    return float(recall_score(y_true, y_pred, labels=np.unique(y_true), average="macro", zero_division=0))


def weighted_f1(targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str]) -> float:
    """Mean F1 (0 to 1) over the labels, each weighted by its number of targets; ValueError as in `codes`."""
    from sklearn.metrics import f1_score

    y_true, y_pred = codes(targets, predictions, labels)
    return float(f1_score(y_true, y_pred, labels=range(len(labels)), average="weighted", zero_division=0))


def codes(targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str]) -> tuple[Codes, Codes]:
    """Positions in `labels` of targets and predictions, each of shape (n,); no answer is len(labels).

    ValueError on a repeated label, a name outside `labels`, no samples, or unequal lengths.
    """
    _check_lengths(targets, predictions)
    position: dict[str | None, int] = {label: number for number, label in enumerate(labels)}
    if len(position) != len(labels):
        raise ValueError("a label is listed twice")
    unknown = sorted({name for name in (*targets, *predictions) if name is not NO_ANSWER} - set(labels))
    if unknown:
        raise ValueError(f"{len(unknown)} names are not among the labels: {', '.join(map(repr, unknown[:3]))}")
    if NO_ANSWER in targets:
        raise ValueError("a target is missing: only a prediction can be no answer")
    position[NO_ANSWER] = len(labels)
    return (
        np.array([position[target] for target in targets], dtype=np.intp),
        np.array([position[prediction] for prediction in predictions], dtype=np.intp),
    )


def per_class(
    targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """{label: {"precision", "recall", "f1" (0 to 1; 0 where undefined), "support" (targets, int)}}, in label order.

    ValueError as in `codes`.
    """
    from sklearn.metrics import precision_recall_fscore_support

    y_true, y_pred = codes(targets, predictions, labels)
    columns = precision_recall_fscore_support(y_true, y_pred, labels=range(len(labels)), zero_division=0)
    return {
        label: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
        for label, precision, recall, f1, support in zip(labels, *columns, strict=True)
    }


def confusion(targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str]) -> list[list[int]]:
    """Counts of shape (len(labels), len(labels) + 1): row = target, column = prediction, the last one no answer.

    ValueError as in `codes`.
    """
    from sklearn.metrics import confusion_matrix

    y_true, y_pred = codes(targets, predictions, labels)
    counts = confusion_matrix(y_true, y_pred, labels=range(len(labels) + 1))
    return [[int(count) for count in row] for row in counts[:-1]]  # no target is "no answer": its row is empty


def wilson_interval(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval (low, high) of a proportion (Wilson 1927); unlike Wald's it is not empty at 0 and at n.

    ValueError if n is 0 or successes are not within 0..n.
    """
    from scipy.stats import binomtest

    if n < 1:
        raise ValueError("no samples")
    interval = binomtest(successes, n).proportion_ci(confidence_level=level, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(targets: Sequence[str], a: Sequence[str | None], b: Sequence[str | None]) -> dict[str, Any]:
    """Exact two-sided McNemar test of predictions `a` (the new arm) against `b`, on the same samples.

    {"fixed": samples a has right and b wrong, "broken": the reverse, "p": of a split at least as uneven when both are
    equally likely (binomial; McNemar 1947); 1.0 when nothing changed}. ValueError as in `accuracy`.
    """
    from scipy.stats import binomtest

    right_a, right_b = correct(targets, a), correct(targets, b)
    fixed, broken = int(np.sum(right_a & ~right_b)), int(np.sum(~right_a & right_b))
    changed = fixed + broken
    p = float(binomtest(min(fixed, broken), changed, 0.5).pvalue) if changed else 1.0
    return {"fixed": fixed, "broken": broken, "p": p}


def _check_lengths(*columns: Sized) -> None:
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"lengths differ: {', '.join(str(len(column)) for column in columns)}")
    if not len(columns[0]):
        raise ValueError("no samples")
