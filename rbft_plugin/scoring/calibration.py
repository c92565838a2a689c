"""Pure functions from targets and the probability of each label to figures: ranking (AUROC, average precision),
and how far the probabilities can be believed (Brier score, calibration error).

`probabilities` has shape (n, len(labels)), in label order, each row a distribution. All raise ValueError without
samples, on another shape, on rows that are no distribution, and on targets that are not among the labels. A figure
that the samples leave undefined is nan, never a number that looks measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rbft_plugin.scoring.counts import codes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from rbft_plugin.scoring.counts import Array, Codes


def auroc(targets: Sequence[str], probabilities: ArrayLike, labels: Sequence[str]) -> float:
    """Area under the ROC curve, each label against the rest, 0 to 1; 0.5 is chance.

    The mean over labels that occur as targets and are not the target of every sample; nan if there is none. It is the
    chance that a sample of the label gets a higher probability for it than another sample; a tie is half (Hanley and
    McNeil 1982).
    """
    from sklearn.metrics import roc_auc_score

    return _one_against_rest(roc_auc_score, targets, probabilities, labels)


def average_precision(targets: Sequence[str], probabilities: ArrayLike, labels: Sequence[str]) -> float:
    """Average precision, each label against the rest, 0 to 1; chance is the label's share of the samples.

    The mean over the same labels as in `auroc`; nan if there is none. Not interpolated: the sum of the precisions at
    each threshold, weighted by how much recall grows there, as scikit-learn defines it.
    """
    from sklearn.metrics import average_precision_score

    return _one_against_rest(average_precision_score, targets, probabilities, labels)


def brier(targets: Sequence[str], probabilities: ArrayLike, labels: Sequence[str]) -> float:
    """Squared distance of the probabilities from certainty in the target, summed over labels: 0 (best) to 2.

    The definition of Brier (1950). Of two labels it is twice the figure in use for "the" probability of an event.
    """
    import numpy as np

    y_true, rows = _checked(targets, probabilities, labels)
    return float(np.mean(np.sum((rows - np.eye(len(labels))[y_true]) ** 2, axis=1)))


def calibration_error(targets: Sequence[str], probabilities: ArrayLike, labels: Sequence[str], bins: int = 15) -> float:
    """Mean gap between how sure the most probable label was and how often it was right, 0 (best) to 1.

    Samples are put by that probability into bins of equal width, ((m - 1) / bins, m / bins]; the gap of mean
    probability and accuracy in each bin counts by its samples (Guo et al. 2017, On Calibration of Modern Neural
    Networks, equation 3, and their 15 bins). Of several most probable labels the first listed is taken.
    """
    import numpy as np

    y_true, rows = _checked(targets, probabilities, labels)
    sure = rows.max(axis=1)
    right = rows.argmax(axis=1) == y_true
    bin_of = np.digitize(sure, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    gaps = np.bincount(bin_of, weights=right - sure, minlength=bins)  # of each bin, times its samples
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
    """Positions of the targets in `labels`, shape (n,), and the probabilities as an array."""
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
