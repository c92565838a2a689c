"""resampling: the bootstrap within classes by enumeration, and intervals over seeds against an analysis of variance."""

from __future__ import annotations

from collections import Counter
from itertools import product
from statistics import variance
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from rbft_plugin.scoring import counts
from rbft_plugin.scoring.bootstrap import over_seeds, resampled, weights
from rbft_plugin.scoring.metrics import METRICS


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_every_resample_keeps_the_size_of_every_class(targets: list[str], seed: int) -> None:
    drawn = weights(targets, 20, seed)
    assert drawn.shape == (20, len(targets))
    assert (drawn >= 0).all()
    for label, size in Counter(targets).items():
        columns = [place for place, target in enumerate(targets) if target == label]
        assert drawn[:, columns].sum(axis=1) == pytest.approx(np.full(20, size))
    np.testing.assert_array_equal(drawn, weights(targets, 20, seed))


def test_of_n_clips_n_minus_1_are_drawn_each_as_likely_as_any_other() -> None:
    drawn = weights(["a", "a", "a", "b"], 18_000)
    patterns = Counter(tuple(row) for row in drawn[:, :3].round(6).tolist())
    expected = Counter(tuple(1.5 * np.bincount(pair, minlength=3)) for pair in product(range(3), repeat=2))
    assert set(patterns) == set(expected)
    for pattern, ways in expected.items():
        assert patterns[pattern] / 18_000 == pytest.approx(ways / 9, abs=0.012)  # 4 standard errors at 2/9
    assert (drawn[:, 3] == 1).all()  # a class of one clip has no spread


def test_the_spread_of_a_mean_is_the_sample_variance_over_n_also_with_few_clips() -> None:
    values = np.array([0.0, 1.0, 1.0])  # variance 1/3; drawing 3 of 3 would give two thirds of it
    means = weights(["a"] * 3, 40_000) @ values / 3
    assert means.var() == pytest.approx(variance(values) / 3, rel=0.03)
    assert means.mean() == pytest.approx(2 / 3, abs=0.01)


def test_figures_of_resamples_are_those_of_the_repeated_clips() -> None:
    labels, targets = ("a", "b", "c", "d"), ("a", "a", "a", "b", "b", "c")
    predictions = ("a", "b", None, "b", "d", "a")
    repeats = np.array([[1, 1, 1, 1, 1, 1], [2, 0, 1, 0, 2, 1], [0, 3, 0, 1, 1, 1]], dtype=float)
    found = resampled(repeats, targets, predictions, labels)
    for row, times in enumerate(repeats.astype(int)):
        chosen = np.repeat(np.arange(6), times)
        y_true, y_pred = [targets[i] for i in chosen], [predictions[i] for i in chosen]
        assert found["accuracy"][row] == pytest.approx(METRICS["accuracy"].of(y_true, y_pred, labels))
        assert found["macro_f1"][row] == pytest.approx(METRICS["macro_f1"].of(y_true, y_pred, labels))
        assert found["balanced_accuracy"][row] == pytest.approx(METRICS["balanced_accuracy"].of(y_true, y_pred, labels))
        assert found["weighted_f1"][row] == pytest.approx(METRICS["weighted_f1"].of(y_true, y_pred, labels))
        assert found["no_answer"][row] == pytest.approx(METRICS["no_answer"].of(y_true, y_pred, labels))
        by_class = counts.per_class(y_true, y_pred, labels)
        assert found["f1"][row] == pytest.approx([by_class[label].f1 for label in labels])


def test_one_seed_has_the_quantiles_of_its_resamples() -> None:
    drawn = np.arange(1001) / 1000
    found = over_seeds([0.4], [drawn])
    assert (found.mean, found.low, found.high) == (0.4, pytest.approx(0.025), pytest.approx(0.975))
    assert (found.sd, found.df, found.p) == (None, None, None)


def test_two_seeds_by_hand() -> None:
    # Seeds 0.1 and 0.3: their variance 0.02, of the mean 0.01. Resamples +-0.1, the same for both: covariance 0.01 *
    # 4 / 3 of the four. Variance of the mean 0.01 + 0.04 / 3, degrees of freedom (7 / 3) ** 2.
    drawn = np.array([-0.1, 0.1, -0.1, 0.1])
    found = over_seeds([0.1, 0.3], [drawn, drawn])
    total = 0.01 + 0.04 / 3
    assert found.mean == pytest.approx(0.2)
    assert found.sd == pytest.approx(0.02**0.5)
    assert found.df == pytest.approx((total / 0.01) ** 2)
    half = t.ppf(0.975, found.df) * total**0.5
    assert (found.low, found.high) == (pytest.approx(0.2 - half), pytest.approx(0.2 + half))
    assert found.p == pytest.approx(2 * t.sf(0.2 / total**0.5, found.df))


def test_seeds_that_agree_are_no_evidence_beyond_the_clips() -> None:
    one = np.random.default_rng(0).normal(0.5, 0.03, size=2000)
    for k in (2, 5):
        found = over_seeds([0.5] * k, [one] * k)
        assert found.high - found.low == pytest.approx(2 * 1.96 * one.std(ddof=1), rel=0.001)
    other = np.random.default_rng(1).normal(0.5, 0.03, size=2000)  # resamples that do not vary together
    found = over_seeds([0.5, 0.5], [one, other])
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.mean([one, other], axis=0).std(ddof=1), rel=0.001)


def test_where_nothing_varies_there_is_no_test() -> None:
    found = over_seeds([1.0, 1.0], [np.ones(10), np.ones(10)])
    assert (found.mean, found.low, found.high, found.p) == (1.0, 1.0, 1.0, None)


def test_over_seeds_is_the_analysis_of_variance_of_readers_and_cases() -> None:
    """The variance of Dorfman, Berbaum and Metz from mean squares that statsmodels computes, and Hillis' df."""
    import statsmodels.formula.api as smf
    from statsmodels.stats.anova import anova_lm

    rng = np.random.default_rng(3)
    n, k = 200, 3
    clip, seed = rng.normal(0, 0.5, size=n), np.array([-0.1, 0.0, 0.25])
    table = clip + seed[:, None] + rng.normal(0, 0.4, size=(k, n)) + 0.1
    rows: Any = pd.DataFrame({"y": table.ravel(), "seed": np.repeat(np.arange(k), n), "clip": np.tile(np.arange(n), k)})
    squares = anova_lm(smf.ols("y ~ C(seed) + C(clip)", rows).fit())["mean_sq"]
    of_seeds, of_clips, rest = squares["C(seed)"], squares["C(clip)"], squares["Residual"]
    total = (of_seeds + max(of_clips - rest, 0)) / (n * k)
    df = (of_seeds + max(of_clips - rest, 0)) ** 2 / (of_seeds**2 / (k - 1))

    drawn = weights(["a"] * n, 20_000)
    found = over_seeds(table.mean(axis=1).tolist(), [drawn @ row / n for row in table])
    assert found.df == pytest.approx(df, rel=0.05)
    half = t.ppf(0.975, df) * total**0.5
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.03)
    assert found.p == pytest.approx(2 * t.sf(abs(table.mean()) / total**0.5, df), rel=0.05)
