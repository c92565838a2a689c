"""Metrics of targets and the probability of each label.

AUROC and average precision tell how well the probabilities rank samples. Brier score and calibration error tell how
far they can be believed. `probabilities` has shape (n, len(labels)), in label order, and each row is a distribution.
All functions raise ValueError if there are no samples, if the shape is another one, if a row is no distribution, or if
a target is not among the labels. A figure that is undefined for these samples is nan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rbft_plugin.scoring.counts import codes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from rbft_plugin.scoring.counts import Array, Codes


def auroc(targets: Sequence[str], probabilities: ArrayLike, labels: Sequence[str]) -> float:
    """The area under the ROC curve of each label against the rest, 0 to 1; 0.5 is chance.

    It is the mean over the labels that are the target of some samples but not of all; nan if there is none. The area is
    the probability that a sample of the label is given a higher probability of it than another sample is; a tie counts
    half (Hanley and McNeil 1982).
    """
    from sklearn.metrics import roc_auc_score

    return _one_against_rest(roc_auc_score, targets, probabilities, labels)


def average_precision(targets: Sequence[str], probabilities: ArrayLike, labels: Sequence[str]) -> float:
    """The average precision of each label against the rest, 0 to 1; chance is the label's share of the samples.

    It is the mean over the same labels as in `auroc`. It is not interpolated: it is the sum of the precisions at each
    threshold, weighted by how much recall grows there, as scikit-learn defines it.
    """
    from sklearn.metrics import average_precision_score

    return _one_against_rest(average_precision_score, targets, probabilities, labels)


def brier(targets: Sequence[str], probabilities: ArrayLike, labels: Sequence[str]) -> float:
    """The mean squared distance of the probabilities from 1 for the target and 0 for other labels: 0 (best) to 2.

    This is the definition of Brier (1950), a sum over labels. With two labels it is twice the usual two-class figure.
    """
    import numpy as np

    y_true, rows = _checked(targets, probabilities, labels)
    return float(np.mean(np.sum((rows - np.eye(len(labels))[y_true]) ** 2, axis=1)))


def calibration_error(targets: Sequence[str], probabilities: ArrayLike, labels: Sequence[str], bins: int = 15) -> float:
    """The mean gap between the probability of the most probable label and how often it is right, 0 (best) to 1.

    Samples are put into bins of that probability, ((m - 1) / bins, m / bins]. The gap between mean probability and
    accuracy in each bin is weighted by its number of samples (Guo et al. 2017, On Calibration of Modern Neural
    Networks, equation 3, with their 15 bins). If several labels are most probable, the first of them is taken.
    """
    import numpy as np

    y_true, rows = _checked(targets, probabilities, labels)
    sure = rows.max(axis=1)
    right = rows.argmax(axis=1) == y_true
    bin_of = np.digitize(sure, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    gaps = np.bincount(bin_of, weights=right - sure, minlength=bins)  # the gap of each bin, times its number of samples
    return float(np.abs(gaps).sum() / len(sure))


def _one_against_rest(
    figure: Callable[..., Any], targets: Sequence[str], probabilities: ArrayLike, labels: Sequence[str]
) -> float:
    import numpy as np

    y_true, rows = _checked(targets, probabilities, labels)
    split = [(y_true == code, rows[:, code]) for code in range(len(labels))]
    figures = [float(figure(of_label, scores)) for of_label, scores in split if 0 < of_label.sum() < len(of_label)]
    return float(np.mean(figures)) if figures else float("nan")


def _checked(targets: Sequence[str], probabilities: ArrayLike, labels: Sequence[str]) -> tuple[Codes, Array]:
    """The positions of the targets in `labels`, shape (n,), and the probabilities as an array."""
    import numpy as np

    y_true, _ = codes(targets, targets, labels)
    rows = np.asarray(probabilities, dtype=np.float64)
    if rows.shape != (len(targets), len(labels)):
        raise ValueError(f"probabilities have shape {rows.shape}, not {(len(targets), len(labels))}")
    wrong = ~((rows >= 0).all(axis=1) & (np.abs(rows.sum(axis=1) - 1) <= 1e-3))  # also nan
    if wrong.any():
        first = int(np.argmax(wrong))
        raise ValueError(f"probabilities of {int(wrong.sum())} samples are no distribution, first {rows[first]}")
    return y_true, rows
