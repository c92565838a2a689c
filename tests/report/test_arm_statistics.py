"""summary: one arm's figures over seeds and of its probabilities."""

from __future__ import annotations

from typing import Any

import pytest
from builders import random_scored, scored
from scipy.stats import t

from rbft_plugin.report import arm_statistics
from rbft_plugin.report.evaluations import Evaluation
from rbft_plugin.scoring import bootstrap as resampling

ROWS = ((0.9, 0.1), (0.9, 0.1), (0.4, 0.6), (0.2, 0.8), (0.3, 0.7), (0.55, 0.45))


def arm(runs: list[Evaluation]) -> dict[str, Any]:
    values = arm_statistics.resample(runs, resampling.weights(runs[0].targets))
    return arm_statistics.arm_statistics(runs, values).model_dump(mode="json")


def test_several_seeds_have_mean_spread_and_an_interval_that_covers_seeds() -> None:
    runs = random_scored(("a", "b", "c"), 90, {"rbft": (1, 2, 3)})
    found = arm(runs)["accuracy"]
    values = found["per_seed"]
    mean = sum(values) / 3
    assert found["mean"] == pytest.approx(mean)
    assert found["sd"] == pytest.approx((sum((v - mean) ** 2 for v in values) / 2) ** 0.5)
    low, high = found["ci95"]
    assert (low + high) / 2 == pytest.approx(mean)
    of_seeds = t.ppf(0.975, 2) * found["sd"] / 3**0.5
    of_clips = 1.96 * (mean * (1 - mean) / 90 / 3) ** 0.5
    assert 0.9 * of_clips < (high - low) / 2 < of_seeds + of_clips


def test_no_interval_leaves_0_to_1_or_is_empty_where_all_are_right() -> None:
    right = scored("rbft", ("a", "a", "a", "b", "b", "b"))
    found = arm([right, scored("rbft", right.predictions, seed=1)])
    assert found["accuracy"]["ci95"] == pytest.approx([0.609666, 1.0], abs=1e-6)  # Wilson: 6 / (6 + 1.96 ** 2)
    assert found["no_answer"]["ci95"] == pytest.approx([0.0, 0.390334], abs=1e-6)
    wild = arm([scored("rbft", ("a", "a", "a", "b", "b", "b")), scored("rbft", ("b", "b", "b", "a", "a", "a"), seed=1)])
    assert wild["accuracy"]["ci95"] == [0.0, 1.0]
    assert wild["macro_f1"]["ci95"] == [0.0, 1.0]


def test_a_rare_share_of_several_seeds_is_at_least_as_uncertain_as_none_at_all() -> None:
    right = tuple("aaabbb")
    never = arm([scored("rbft", right, seed=seed) for seed in range(9)])["no_answer"]
    once = [scored("rbft", (None, *right[1:]), seed=9), *(scored("rbft", right, seed=seed) for seed in range(9))]
    few = arm(once)["no_answer"]
    assert (few["mean"], few["ci95"]) == (pytest.approx(1 / 60), never["ci95"])


def test_accuracy_without_the_video_by_hand() -> None:
    right = tuple("aaabbb")
    one = scored("rbft", right, without_video=("a", "a", "a", "a", None, "b"))
    found = arm([one])["without_video"]
    assert (found["mean"], found["sd"], found["per_seed"]) == (pytest.approx(4 / 6), None, [pytest.approx(4 / 6)])
    assert found["ci95"] == pytest.approx([0.299993, 0.903229], abs=1e-6)  # Wilson of 4 of 6
    other = scored("rbft", right, seed=1, without_video=tuple("aaaaaa"))
    assert arm([one, other])["without_video"]["per_seed"] == pytest.approx([4 / 6, 3 / 6])
    assert arm([one, scored("rbft", right, seed=1)])["without_video"] is None
    constant = [scored("rbft", right, seed=seed, without_video=tuple("aaaaaa")) for seed in (0, 1)]
    assert arm(constant)["without_video"]["ci95"] == pytest.approx([0.187616, 0.812384], abs=1e-6)  # Wilson of 3 of 6


def test_probabilities_by_hand() -> None:
    found = arm([scored("rbft", ("a", "a", "b", "b", "b", "a"), probabilities=ROWS)])["probabilities"]
    # of 9 pairs of an "a" and a "b", p(a) is higher in 8: clip2 (0.4) is below clip5 (0.55)
    assert found["auroc"] == {"mean": pytest.approx(8 / 9), "per_seed": [pytest.approx(8 / 9)]}
    squares = [0.1, 0.1, 0.6, 0.2, 0.3, 0.55]
    assert found["brier"]["mean"] == pytest.approx(sum(2 * s * s for s in squares) / 6)
    bins = found["reliability"]["bins"]
    assert found["reliability"]["seed"] == 0
    assert [(b["low"], b["high"], b["n"], b["accuracy"]) for b in bins] == [
        (0.5, 0.6, 2, 0.0),
        (0.6, 0.7, 1, 1.0),
        (0.7, 0.8, 1, 1.0),
        (0.8, 0.9, 2, 1.0),
    ]
    assert [b["confidence"] for b in bins] == pytest.approx([0.575, 0.7, 0.8, 0.9])
    assert bins[0]["ci95"] == pytest.approx([0.0, 0.657620], abs=1e-6)  # Wilson of 0 of 2


def test_an_undefined_figure_is_none_and_without_probabilities_of_every_seed_there_are_none() -> None:
    only_a = scored("rbft", ("a", "a", "b"), probabilities=ROWS[:3])
    assert arm([only_a])["probabilities"]["auroc"] == {"mean": None, "per_seed": [None]}
    assert arm([only_a, scored("rbft", ("a", "a", "b"), seed=1)])["probabilities"] is None


def test_readings_are_shares_of_rules_over_all_seeds() -> None:
    """Two seeds of six clips: rule 1 reads 5 and 3 of them, of which 5 and 1 are right."""
    one = scored("rbft", ("a", "a", "a", "b", "b", None), rules=(1, 1, 1, 1, 1, 0))
    two = scored("rbft", ("b", "b", "a", "b", "b", "b"), seed=1, rules=(1, 1, 1, 2, 4, 2))
    found = arm([one, two])["readings"]
    assert {int(rule): share for rule, share in found["shares"].items()} == pytest.approx(
        {1: 8 / 12, 2: 2 / 12, 3: 0.0, 4: 1 / 12, 0: 1 / 12}
    )
    assert found["accuracy_rule_1"] == pytest.approx(6 / 12)
    assert arm([one, scored("rbft", two.predictions, seed=1)])["readings"] is None
