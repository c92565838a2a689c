"""probabilities: values computed by hand or by the definition, and what is undefined."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbft_plugin.scoring.calibration import auroc, average_precision, brier, calibration_error

# scikit-learn warns of what is undefined; files that are not closed are another test's.
pytestmark = pytest.mark.filterwarnings("error", "ignore::ResourceWarning")
LABELS = ("sit", "stand", "wave")
RANKING = (auroc, average_precision)
FIGURES = (*RANKING, brier, calibration_error)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], list[list[float]]]:
    targets = draw(st.lists(st.sampled_from(LABELS), min_size=1, max_size=12))
    weights = st.lists(st.integers(1, 4), min_size=3, max_size=3)  # few values: ties are common
    rows = [draw(weights) for _ in targets]
    return targets, [[w / sum(row) for w in row] for row in rows]


def pairs_won(targets: Sequence[str], scores: Sequence[float], label: str) -> float:
    """AUROC of one label by its definition: the share of (of label, of the rest) pairs in the right order."""
    own = [s for t, s in zip(targets, scores, strict=True) if t == label]
    rest = [s for t, s in zip(targets, scores, strict=True) if t != label]
    return float(np.mean([(a > b) + (a == b) / 2 for a in own for b in rest]))


def test_hand_computed_figures() -> None:
    targets = ["sit", "stand", "sit", "stand"]
    rows = [[0.9, 0.1, 0], [0.4, 0.6, 0], [0.3, 0.7, 0], [0.8, 0.2, 0]]
    # sit: of the four pairs, 0.9 wins both and 0.3 loses both; stand is its mirror; wave does not occur
    assert auroc(targets, rows, LABELS) == pytest.approx(0.5)
    # sit, by falling probability: right, wrong, wrong, right; stand: wrong (0.7), right, right, wrong
    of_sit, of_stand = 1 / 2 * 1 + 1 / 2 * 2 / 4, 1 / 2 * 1 / 2 + 1 / 2 * 2 / 3
    assert average_precision(targets, rows, LABELS) == pytest.approx((of_sit + of_stand) / 2)
    assert brier(targets, rows, LABELS) == pytest.approx(2 * (0.01 + 0.16 + 0.49 + 0.64) / 4)
    # each in a bin of its own: 0.9 and 0.6 right, 0.7 and 0.8 wrong
    assert calibration_error(targets, rows, LABELS) == pytest.approx((0.1 + 0.4 + 0.7 + 0.8) / 4)


def test_samples_of_one_bin_are_compared_with_their_accuracy_together() -> None:
    rows = [[0.95, 0.05, 0], [0.95, 0.05, 0], [0.96, 0.04, 0], [0.98, 0.02, 0]]  # all in (14/15, 1]
    assert calibration_error(["sit", "sit", "sit", "wave"], rows, LABELS) == pytest.approx(0.96 - 3 / 4)
    # one bin of all samples: the gap of mean probability (0.75) and accuracy (1/2), whatever the parts
    halves = [[1, 0, 0], [0.5, 0.3, 0.2]]
    assert calibration_error(["stand", "sit"], halves, LABELS, bins=1) == pytest.approx(0.25)
    assert calibration_error(["stand", "sit"], halves, LABELS) == pytest.approx((1 + 0.5) / 2)


def test_a_bin_holds_its_upper_edge() -> None:
    rows = [[0.5, 0.5], [0.51, 0.49]]  # of two bins, (0, 1/2] and (1/2, 1]
    assert calibration_error(["sit", "stand"], rows, LABELS[:2], bins=2) == pytest.approx((0.5 + 0.51) / 2)


def test_of_equally_probable_labels_the_first_is_the_answer() -> None:
    assert calibration_error(["sit"], [[0.5, 0.5, 0]], LABELS) == pytest.approx(0.5)
    assert calibration_error(["stand"], [[0.4, 0.4, 0.2]], LABELS) == pytest.approx(0.4)


@given(cases())
@settings(max_examples=60, deadline=None)
def test_auroc_is_the_share_of_pairs_in_order(case: tuple[list[str], list[list[float]]]) -> None:
    targets, rows = case
    counted = [k for k, label in enumerate(LABELS) if 0 < targets.count(label) < len(targets)]
    each = [pairs_won(targets, [row[k] for row in rows], LABELS[k]) for k in counted]
    got = auroc(targets, rows, LABELS)
    assert math.isnan(got) if not counted else got == pytest.approx(np.mean(each))


@given(cases())
@settings(max_examples=60, deadline=None)
def test_figures_stay_in_their_ranges(case: tuple[list[str], list[list[float]]]) -> None:
    targets, rows = case
    assert 0 <= brier(targets, rows, LABELS) <= 2
    assert 0 <= calibration_error(targets, rows, LABELS) <= 1
    for figure in RANKING:
        value = figure(targets, rows, LABELS)
        assert math.isnan(value) == (len(set(targets)) == 1)
        assert math.isnan(value) or 0 <= value <= 1


@pytest.mark.parametrize(("figure", "best", "worst"), [(auroc, 1, 0), (brier, 0, 2)])
def test_sure_and_right_is_best_and_sure_and_wrong_is_worst(
    figure: Callable[..., float], best: float, worst: float
) -> None:
    rows = [[1, 0], [0, 1]]
    assert figure(["sit", "stand"], rows, LABELS[:2]) == best
    assert figure(["stand", "sit"], rows, LABELS[:2]) == worst


def test_one_class_has_no_ranking_but_a_calibration() -> None:
    rows = [[0.7, 0.2, 0.1], [0.5, 0.4, 0.1]]
    assert math.isnan(auroc(["sit", "sit"], rows, LABELS))
    assert math.isnan(average_precision(["sit", "sit"], rows, LABELS))
    assert brier(["sit", "sit"], rows, LABELS) == pytest.approx((0.09 + 0.04 + 0.01 + 0.25 + 0.16 + 0.01) / 2)
    assert calibration_error(["sit", "sit"], rows, LABELS) == pytest.approx((0.3 + 0.5) / 2)


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize(
    ("targets", "rows", "message"),
    [
        ([], [], "no samples"),
        (["run"], [[1, 0, 0]], "1 names are not among the labels: 'run'"),
        ([None], [[1, 0, 0]], "a target is missing: only a prediction can be no answer"),
        (["sit"], [[1, 0]], "probabilities have shape (1, 2), not (1, 3)"),
        (["sit"], [1, 0, 0], "probabilities have shape (3,), not (1, 3)"),
        (["sit", "sit"], [[1, 0, 0]], "probabilities have shape (1, 3), not (2, 3)"),
        (
            ["sit"] * 3,
            [[1, 0, 0], [0.5, 0.25, 0], [1.5, -0.5, 0]],
            "probabilities of 2 samples are no distribution, first [0.5  0.25 0.  ]",
        ),
        (["sit"], [[math.nan, 0.5, 0.5]], "probabilities of 1 samples are no distribution, first [nan 0.5 0.5]"),
        (["sit"], [[-1.5, -0.1, -3]], "probabilities of 1 samples are no distribution, first [-1.5 -0.1 -3. ]"),
    ],
)
def test_what_cannot_be_computed_is_refused(
    figure: Callable[..., float], targets: Any, rows: Any, message: str
) -> None:
    with pytest.raises(ValueError) as error:
        figure(targets, rows, LABELS)
    assert str(error.value) == message
