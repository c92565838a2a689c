"""pairing: one arm against another, by hand and against statsmodels."""

from __future__ import annotations

import argparse
import shlex
from typing import Any

import numpy as np
import pytest
from builders import random_scored, scored

from rbft_plugin.report import arm_statistics, paired_comparison
from rbft_plugin.report.evaluations import Evaluation
from rbft_plugin.scoring import bootstrap as resampling
from rbft_plugin.scoring import counts

ZERO_SHOT = ("a", "b", None, "b", "b", "a")
RBFT = ("a", "a", None, "b", "b", "b")


def compare(new: list[Evaluation], old: list[Evaluation]) -> dict[str, Any]:
    drawn = resampling.weights(new[0].targets)
    values = arm_statistics.resample(new, drawn), arm_statistics.resample(old, drawn)
    return paired_comparison.compare(new, old, values).model_dump(mode="json")


@pytest.mark.parametrize(
    ("new", "old", "paired"),
    [
        ([0], [0], [(0, 0)]),
        ([3], [0], [(0, 0)]),
        ([0, 1, 2], [0], [(0, 0), (1, 0), (2, 0)]),
        ([7], [1, 2], [(0, 0), (0, 1)]),
        ([1, 2, 3], [3, 1], [(0, 1), (2, 0)]),
        ([1, 2], [2, 3, 4], [(1, 0)]),
        ([1, 2], [3, 4, 5], [(0, 0), (1, 1)]),
    ],
)
def test_seeds_are_paired(new: list[int], old: list[int], paired: list[tuple[int, int]]) -> None:
    assert paired_comparison.pairs(new, old) == paired


def test_each_pair_of_seeds_has_its_own_test() -> None:
    second = ("a", "b", "b", "b", "b", "b")  # 4 of 6 right
    found = compare([scored("rbft", RBFT, seed=1), scored("rbft", second, seed=2)], [scored("zero_shot", ZERO_SHOT)])
    f1 = [(0.8 + 1) / 2, (1 / 2 + 3 / 4) / 2]
    assert found["per_seed"] == [
        {
            "seed": seed,
            "against_seed": 0,
            "accuracy_diff": pytest.approx(fixed / 6),
            "macro_f1_diff": pytest.approx(of_seed - 8 / 15),
            "fixed": fixed,
            "broken": 0,
            "mcnemar_p": p,
        }
        for seed, fixed, p, of_seed in [(1, 2, 0.5, f1[0]), (2, 1, 1.0, f1[1])]
    ]
    assert found["accuracy_diff"] == pytest.approx(1.5 / 6)
    assert found["sd"] == pytest.approx((1 / 6) / 2**0.5)
    assert found["test"] == "t over clips and seeds" and found["covers"] == ["test clips", "seeds"]
    assert found["sentence"].startswith(
        "rbft (mean of 2 seeds) is 25.0 points more accurate than zero_shot (1 seed) on these 6 test clips"
    )


def test_only_the_seeds_that_both_have_are_compared() -> None:
    new = [scored("rbft", RBFT, seed=1), scored("rbft", ZERO_SHOT, seed=2)]
    old = [scored("sft", ZERO_SHOT, seed=1), scored("sft", RBFT, seed=3)]
    found = compare(new, old)
    assert [(pair["seed"], pair["against_seed"]) for pair in found["per_seed"]] == [(1, 1)]
    assert found["accuracy_diff"] == pytest.approx(2 / 6)
    assert (found["test"], found["p"], found["sd"]) == ("exact McNemar", 0.5, None)


def test_mcnemar_and_wilson_are_those_of_statsmodels() -> None:
    from statsmodels.stats.contingency_tables import mcnemar
    from statsmodels.stats.proportion import proportion_confint

    new, old = random_scored(("a", "b", "c"), 120, {"sft": (0,), "rbft": (0,)})[::-1]
    right_new, right_old = (counts.correct(run.targets, run.predictions) for run in (new, old))
    table = [[np.sum(a & b) for b in (right_old, ~right_old)] for a in (right_new, ~right_new)]
    assert compare([new], [old])["p"] == pytest.approx(mcnemar(table, exact=True).pvalue, abs=1e-12)
    drawn = resampling.weights(new.targets)
    for run, right in ((new, right_new), (old, right_old)):
        made = arm_statistics.arm_statistics([run], arm_statistics.resample([run], drawn))
        low, high = proportion_confint(right.sum(), 120, method="wilson")
        assert made.metrics["accuracy"].ci95 == pytest.approx([low, high], abs=1e-12)


def test_three_seeds_of_equal_answers_settle_no_more_than_one() -> None:
    new, old = scored("rbft", ("a", "a", "a")), scored("sft", ("b", "b", "b"))
    found = compare([scored("rbft", new.predictions, seed=s) for s in (0, 1, 2)], [old])
    assert (found["ci95"], found["p"]) == ([1.0, 1.0], 0.25)
    assert found["sentence"].endswith("gives p = 0.250, so these runs do not settle whether they differ.")


def test_the_power_analysis_is_one_that_lmms_eval_takes() -> None:
    from lmms_eval.cli.power_cmd import add_power_parser

    command = paired_comparison.power_command(scored("rbft", RBFT), scored("sft", ZERO_SHOT))
    # right: 5 of 6 and 3 of 6, covariance 3/6 - 5/6 * 3/6 = 1/12
    assert command == (
        "lmms-eval power --tasks rbft_demo --include-path task_configs --effect-size 0.05 --std-a 0.373 --std-b 0.500 "
        "--correlation 0.447"
    )
    parser = argparse.ArgumentParser()
    add_power_parser(parser.add_subparsers())
    said = parser.parse_args(shlex.split(command)[1:])
    assert (said.tasks, said.std_a, said.correlation) == ("rbft_demo", 0.373, 0.447)


def test_arms_that_do_not_vary_have_no_power_analysis() -> None:
    always, never = scored("rbft", ("a", "a", "a")), scored("sft", (None, None, None))
    assert paired_comparison.power_command(always, never) is None
    half = scored("half", ("a", "b", "a"))
    assert "--std-a 0.000 --std-b 0.471 --correlation 0.000" in str(paired_comparison.power_command(always, half))


def test_equal_differences_are_printed_alike_whichever_way_they_go() -> None:
    """3 of 400 clips are 0.75 points, which differences of rounded accuracies make 0.7 or 0.8."""
    ids, targets = tuple(map(str, range(400))), ("a", "b") * 200
    runs = []
    for right in (229, 232):
        said = tuple(t if n < right else None for n, t in enumerate(targets))
        runs.append(scored(f"right {right}", said, ids=ids, targets=targets, answers=targets))
    up, down = compare(runs[1:], runs[:1]), compare(runs[:1], runs[1:])
    assert up["accuracy_diff"] == 0.0075 == -down["accuracy_diff"]
