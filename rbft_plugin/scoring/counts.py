"""How often each label is the target, is predicted, and is right. All metrics of predictions are computed from this.

A prediction is a label's name, or NO_ANSWER if the model's text names no label. No answer is always wrong. It is also
counted by itself, because a wrong answer and no answer have different remedies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from rbft_plugin.scoring.answers import NO_ANSWER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Codes: TypeAlias = NDArray[np.intp]
    Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Counts of n samples with k labels. The axes `...` are none for one evaluation, and (resamples,) for resamples.

    right, unanswered: how many samples have the right answer, and how many have none, shape (...,). hits, predicted:
    how often each label is predicted rightly, and at all, shape (..., k). support: how often it is the target, shape
    (k,).
    """

    n: int
    right: Array
    unanswered: Array
    hits: Array
    predicted: Array
    support: Array

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which labels have a target, shape (k,)."""
        return self.support > 0

    @property
    def f1(self) -> Array:
        """The F1 of each label, shape (..., k); 0 for a label that is neither target nor prediction."""
        import numpy as np

        return 2 * self.hits / np.maximum(self.support + self.predicted, 1e-12)


def count(
    targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str], weights: Array | None = None
) -> Counts:
    """The counts of one evaluation, or of resamples, if `weights` of shape (resamples, n) are given.

    Each resample must keep the number of samples of each label. Raises ValueError as `codes` does.
    """
    import numpy as np

    y_true, y_pred = codes(targets, predictions, labels)
    k, n = len(labels), len(y_true)
    drawn = np.ones(n) if weights is None else weights
    right = (y_true == y_pred).astype(float)
    return Counts(
        n=n,
        right=drawn @ right,
        unanswered=drawn @ (y_pred == k).astype(float),
        hits=drawn @ (np.eye(k)[y_true] * right[:, None]),
        predicted=(drawn @ np.eye(k + 1)[y_pred])[..., :k],
        support=np.bincount(y_true, minlength=k).astype(float),
    )


def codes(targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str]) -> tuple[Codes, Codes]:
    """The positions of targets and predictions in `labels`, each of shape (n,). No answer is len(labels).

    Raises ValueError for a repeated label, a name that is no label, no samples, or unequal lengths.
    """
    import numpy as np

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


def correct(targets: Sequence[str], predictions: Sequence[str | None]) -> NDArray[np.bool_]:
    """Whether each prediction equals its target, shape (n,). Raises ValueError for no samples or unequal lengths."""
    import numpy as np

    _check_lengths(targets, predictions)
    return np.array([target == prediction for target, prediction in zip(targets, predictions, strict=True)])


def majority_accuracy(targets: Sequence[str]) -> float:
    """The accuracy of always answering the most frequent target, 0 to 1. Raises ValueError for no samples."""
    _check_lengths(targets)
    return Counter(targets).most_common(1)[0][1] / len(targets)


class ClassFigures(NamedTuple):
    """A label's precision, recall and F1, from 0 to 1 and 0 where undefined, and its number of targets."""

    precision: float
    recall: float
    f1: float
    support: int


def per_class(
    targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str]
) -> dict[str, ClassFigures]:
    """The figures of each label, in label order. Raises ValueError as `codes` does."""
    from sklearn.metrics import precision_recall_fscore_support

    y_true, y_pred = codes(targets, predictions, labels)
    columns = precision_recall_fscore_support(y_true, y_pred, labels=range(len(labels)), zero_division=0)
    return {
        label: ClassFigures(float(precision), float(recall), float(f1), int(support))
        for label, precision, recall, f1, support in zip(labels, *columns, strict=True)
    }


def confusion(targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str]) -> list[list[int]]:
    """How often each target (row) has each prediction (column; the last is no answer), shape (k, k + 1).

    Raises ValueError as `codes` does.
    """
    from sklearn.metrics import confusion_matrix

    y_true, y_pred = codes(targets, predictions, labels)
    counts = confusion_matrix(y_true, y_pred, labels=range(len(labels) + 1))
    return [[int(number) for number in row] for row in counts[:-1]]  # no target is "no answer": that row is empty


def _check_lengths(*columns: Sized) -> None:
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"lengths differ: {', '.join(str(len(column)) for column in columns)}")
    if not len(columns[0]):
        raise ValueError("no samples")
