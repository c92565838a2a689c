"""metrics: hand-computed values, and scikit-learn's wherever it has the figure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from rbft_plugin.scoring import counts, metrics

LABELS = ("sit", "stand", "wave")
TARGETS = ("sit", "sit", "sit", "stand", "stand", "wave")
MISSING: Any = [None]
PREDICTIONS = ("sit", "stand", None, "stand", "stand", None)


def figure(
    name: str, targets: Sequence[str], predictions: Sequence[str | None], labels: Sequence[str] = LABELS
) -> float:
    return metrics.METRICS[name].of(targets, predictions, labels)


cases = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, None])), min_size=1, max_size=30)


def columns(case: list[tuple[str, str | None]]) -> tuple[list[str], list[str | None]]:
    return [target for target, _ in case], [prediction for _, prediction in case]


def test_hand_computed_figures() -> None:
    assert figure("accuracy", TARGETS, PREDICTIONS) == 3 / 6
    assert figure("no_answer", TARGETS, PREDICTIONS) == 2 / 6
    assert counts.majority_accuracy(TARGETS) == 3 / 6
    assert {label: one._asdict() for label, one in counts.per_class(TARGETS, PREDICTIONS, LABELS).items()} == {
        "sit": {"precision": 1.0, "recall": pytest.approx(1 / 3), "f1": 0.5, "support": 3},
        "stand": {"precision": pytest.approx(2 / 3), "recall": 1.0, "f1": pytest.approx(0.8), "support": 2},
        "wave": {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1},
    }
    assert figure("macro_f1", TARGETS, PREDICTIONS, LABELS) == pytest.approx((0.5 + 0.8 + 0) / 3)
    assert figure("weighted_f1", TARGETS, PREDICTIONS, LABELS) == pytest.approx((3 * 0.5 + 2 * 0.8 + 1 * 0) / 6)
    assert figure("balanced_accuracy", TARGETS, PREDICTIONS, LABELS) == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert counts.confusion(TARGETS, PREDICTIONS, LABELS) == [[1, 1, 0, 1], [0, 2, 0, 0], [0, 0, 0, 1]]


def test_macro_f1_leaves_out_labels_without_a_target_but_counts_their_predictions_as_wrong() -> None:
    # sit: 1 hit of 2 targets, predicted once: F1 2/3; nobody is "wave", though it was answered
    assert figure("macro_f1", ["sit", "sit"], ["sit", "wave"], LABELS) == pytest.approx(2 / 3)
    assert figure("weighted_f1", ["sit", "sit"], ["sit", "wave"], LABELS) == pytest.approx(2 / 3)


@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")  # which is of what another test left
@pytest.mark.parametrize(
    ("targets", "predictions", "balanced"),
    [
        (["sit", "stand", "stand"], ["sit", "wave", "stand"], (1 + 1 / 2) / 2),  # nobody is "wave": it has no recall
        (["sit", "sit"], ["sit", None], 1 / 2),  # one label: the accuracy
        (["sit", "stand", "wave"], [None, None, None], 0),
        (["sit", "stand", "wave"], ["wave", "wave", "wave"], 1 / 3),
    ],
)
def test_balanced_accuracy_is_the_mean_recall_of_labels_that_occur(
    targets: list[str], predictions: list[str | None], balanced: float
) -> None:
    assert figure("balanced_accuracy", targets, predictions, LABELS) == pytest.approx(balanced)
    assert 0 <= figure("weighted_f1", targets, predictions, LABELS) <= 1


@given(cases)
@settings(max_examples=60, deadline=None)
def test_equals_scikit_learn(case: list[tuple[str, str | None]]) -> None:
    targets, predictions = columns(case)
    words = [prediction or "(nothing)" for prediction in predictions]
    present = sorted(set(targets))
    expected = f1_score(targets, words, labels=present, average="macro", zero_division=0)
    assert figure("macro_f1", targets, predictions, LABELS) == pytest.approx(expected, abs=1e-12)
    weighted = f1_score(targets, words, labels=present, average="weighted", zero_division=0)
    assert figure("weighted_f1", targets, predictions, LABELS) == pytest.approx(weighted, abs=1e-12)
    assert figure("accuracy", targets, predictions) == pytest.approx(accuracy_score(targets, words))
    of_class = counts.per_class(targets, predictions, LABELS)
    each = f1_score(targets, words, labels=list(LABELS), average=None, zero_division=0)
    assert [of_class[label].f1 for label in LABELS] == pytest.approx(list(each))


@given(cases)
@settings(max_examples=40, deadline=None)
def test_confusion_holds_every_sample_once(case: list[tuple[str, str | None]]) -> None:
    targets, predictions = columns(case)
    table = np.array(counts.confusion(targets, predictions, LABELS))
    assert table.shape == (3, 4)
    assert table.sum(axis=1).tolist() == [targets.count(label) for label in LABELS]
    assert table.sum(axis=0).tolist() == [predictions.count(label) for label in (*LABELS, None)]


@pytest.mark.parametrize(("successes", "n"), [(0, 6), (3, 6), (5, 6), (6, 6), (197, 240)])
def test_wilson_interval_is_the_formula(successes: int, n: int) -> None:
    z, p = 1.959963984540054, successes / n
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = [(centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)]
    assert metrics.wilson_interval(successes, n) == pytest.approx(expected, abs=1e-9)


def test_wilson_interval_narrows_with_the_level() -> None:
    low, high = metrics.wilson_interval(5, 10, level=0.5)
    assert 0.236 < low < 0.5 < high < 0.764  # within the 95 % interval
    with pytest.raises(ValueError, match=r"^no samples$"):
        metrics.wilson_interval(0, 0)


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (1, 0), (5, 0), (2, 7), (7, 2), (4, 4), (12, 3)])
def test_mcnemar_is_the_binomial_sum(fixed: int, broken: int) -> None:
    n = fixed + broken
    targets = ["sit"] * (n + 4)
    a = ["sit"] * fixed + ["stand"] * broken + ["sit", "sit", "stand", None]
    b = [None] * fixed + ["sit"] * broken + ["sit", "sit", "wave", None]
    tail = sum(math.comb(n, k) for k in range(min(fixed, broken) + 1)) / 2**n
    expected = {"fixed": fixed, "broken": broken, "p": pytest.approx(min(1, 2 * tail), abs=1e-12)}
    assert metrics.mcnemar(targets, a, b)._asdict() == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: figure("accuracy", [], []), "no samples"),
        (lambda: figure("no_answer", [], []), "no samples"),
        (lambda: counts.majority_accuracy([]), "no samples"),
        (lambda: figure("accuracy", ["sit"], ["sit", "sit"]), "lengths differ: 1, 2"),
        (lambda: metrics.mcnemar(["sit"], ["sit"], ["sit", "sit"]), "lengths differ: 1, 2"),
        (lambda: figure("macro_f1", ["sit"], ["run"], LABELS), "1 names are not among the labels: 'run'"),
        (
            lambda: counts.confusion(["go", "run"], [None, "d"], LABELS),
            "3 names are not among the labels: 'd', 'go', 'run'",
        ),
        (
            lambda: counts.per_class(MISSING, ["sit"], LABELS),
            "a target is missing: only a prediction can be no answer",
        ),
        (lambda: figure("macro_f1", ["sit"], ["sit"], ["sit", "sit"]), "a label is listed twice"),
    ],
)
def test_what_cannot_be_computed_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError) as error:
        call()
    assert str(error.value) == message
