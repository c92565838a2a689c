"""How often each label was the target, was predicted, and was right: all that a metric of predictions needs.

A prediction is a label name, or NO_ANSWER where the model's text named no label. No answer is always wrong. Its share
is given beside accuracy, since a wrong answer and no answer have different remedies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from rbft_plugin.scoring.answers import NO_ANSWER

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Codes: TypeAlias = NDArray[np.intp]
    Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """Counts of n samples with k labels. Leading axes `...` are none for one evaluation, (resamples,) for resamples.

    right, unanswered: samples with the right answer and without an answer, shape (...,). hits, predicted: of each
    label, its right predictions and all its predictions, shape (..., k). support: its targets, shape (k,).
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
        """F1 of each label, shape (..., k); 0 for a label that is neither target nor prediction."""
        import numpy as np

        return 2 * self.hits / np.maximum(self.support + self.predicted, 1e-12)


def count(
    targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str], weights: Array | None = None
) -> Counts:
    """Counts of one evaluation, or with `weights` of shape (resamples, n) of resamples. Errors as in `codes`.

    Each resample must keep the number of samples of each label.
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
    """Positions in `labels` of targets and predictions, each of shape (n,); no answer is len(labels).

    Raises ValueError for a repeated label, a name outside `labels`, no samples, or unequal lengths.
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
    """Accuracy of always answering the most frequent target, 0 to 1. Raises ValueError for no samples."""
    _check_lengths(targets)
    return Counter(targets).most_common(1)[0][1] / len(targets)


def per_class(
    targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """{label: {"precision", "recall", "f1" (0 to 1; 0 where undefined), "support" (targets, int)}}, in label order.

    Errors as in `codes`.
    """
    from sklearn.metrics import precision_recall_fscore_support

    y_true, y_pred = codes(targets, predictions, labels)
    columns = precision_recall_fscore_support(y_true, y_pred, labels=range(len(labels)), zero_division=0)
    return {
        label: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "support": int(support)}
        for label, precision, recall, f1, support in zip(labels, *columns, strict=True)
    }


def confusion(targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str]) -> list[list[int]]:
    """Counts of shape (k, k + 1): a row is a target, a column a prediction, the last column no answer.

    Errors as in `codes`.
    """
    from sklearn.metrics import confusion_matrix

    y_true, y_pred = codes(targets, predictions, labels)
    counts = confusion_matrix(y_true, y_pred, labels=range(len(labels) + 1))
    return [[int(number) for number in row] for row in counts[:-1]]  # no target is "no answer": its row is empty


def _check_lengths(*columns: Sized) -> None:
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"lengths differ: {', '.join(str(len(column)) for column in columns)}")
    if not len(columns[0]):
        raise ValueError("no samples")
