"""wording: no sentence says more than its numbers."""

from __future__ import annotations

import pytest

from rbft_plugin.report import prose as wording
from rbft_plugin.report.view_model import Comparison, SeedPair


def comparison(diff: float, ci95: list[float], p: float, by_seed: list[float] | None = None) -> Comparison:
    per_seed = [SeedPair.model_construct(accuracy_diff=one) for one in by_seed or [diff]]
    test = "t over clips and seeds" if by_seed else "exact McNemar"
    return Comparison.model_construct(
        arm="rbft", against="direct_sft", accuracy_diff=diff, ci95=tuple(ci95), test=test, p=p, per_seed=per_seed
    )


@pytest.mark.parametrize(
    ("case", "seeds", "sentence"),
    [
        (
            comparison(0.058, [-0.004, 0.121], 0.09),
            (1, 1),
            "rbft is 5.8 points more accurate than direct_sft on these 240 test clips (95 % interval -0.4 to 12.1): "
            "the interval contains 0, so this run does not show a difference.",
        ),
        (
            comparison(-0.1, [-0.16, -0.04], 0.0002),
            (1, 1),
            "rbft is 10.0 points less accurate than direct_sft on these 240 test clips (95 % interval -16.0 to -4.0): "
            "the interval leaves out 0 and the exact McNemar test gives p < 0.001, so this run shows a difference "
            "between these models.",
        ),
        (
            comparison(0.05, [0.002, 0.1], 0.0496),  # 0.050 as printed
            (1, 1),
            "rbft is 5.0 points more accurate than direct_sft on these 240 test clips (95 % interval 0.2 to 10.0): the "
            "interval leaves out 0, but the exact McNemar test gives p = 0.050, so this run does not settle whether "
            "they differ.",
        ),
        (
            comparison(0.0004, [-0.0004, 0.03], 0.9),  # neither -0.0 nor a direction that is not printed
            (1, 1),
            "rbft and direct_sft are equally accurate, to 0.1 points, on these 240 test clips (95 % interval 0.0 to "
            "3.0): the interval contains 0, so this run does not show a difference.",
        ),
        (
            comparison(0.05, [0.0004, 0.1], 0.01),  # 0.0 as printed
            (1, 1),
            "rbft is 5.0 points more accurate than direct_sft on these 240 test clips (95 % interval 0.0 to 10.0): the "
            "interval contains 0, so this run does not show a difference.",
        ),
        (
            comparison(0.08, [0.04, 0.12], 0.002, [0.06, 0.1]),
            (2, 2),
            "rbft (mean of 2 seeds) is 8.0 points more accurate than direct_sft (mean of 2 seeds) on these 240 test "
            "clips (95 % interval 4.0 to 12.0, for other seeds and test clips alike; by seed 6.0 to 10.0): the "
            "interval leaves out 0 and the t test over clips and seeds gives p = 0.002, so these runs show a "
            "difference between these models.",
        ),
        (
            comparison(0.08, [0.04, 0.12], 0.002, [-0.02, 0.18]),
            (2, 1),
            "rbft (mean of 2 seeds) is 8.0 points more accurate than direct_sft (1 seed) on these 240 test clips (95 % "
            "interval 4.0 to 12.0, for other seeds and test clips alike; by seed -2.0 to 18.0): the interval "
            "leaves out 0 and the t test over clips and seeds gives p = 0.002, so these runs show a difference on "
            "average, but not for every seed.",
        ),
        (
            comparison(0.03, [-0.01, 0.07], 0.2, [0.02, 0.04]),
            (2, 2),
            "rbft (mean of 2 seeds) is 3.0 points more accurate than direct_sft (mean of 2 seeds) on these 240 test "
            "clips (95 % interval -1.0 to 7.0, for other seeds and test clips alike; by seed 2.0 to 4.0): the "
            "interval contains 0, so these runs do not show a difference.",
        ),
    ],
)
def test_sentence_says_no_more_than_the_numbers(case: Comparison, seeds: tuple[int, int], sentence: str) -> None:
    assert wording.sentence(case, 240, seeds) == sentence


def test_notes_name_classes_that_are_small_or_absent() -> None:
    lines = wording.notes({"a": 3, "b": 4}, ["a", "b", "c"], seeds=[1, 1])
    assert lines[-2:] == [
        "1 of 3 classes have fewer than 4 test clips: the intervals of macro-F1 are too narrow.",
        "1 of 3 classes have no test clip: macro-F1 leaves them out.",
    ]
    assert not any(line.startswith("1 of") for line in wording.notes({"a": 5}, ["a"], seeds=[2]))


def test_notes_speak_of_seeds_only_where_there_are_several() -> None:
    def about(seeds: list[int]) -> list[str]:
        return [line for line in wording.notes({"a": 5}, ["a"], seeds) if "seeds" in line]

    assert about([1, 1]) == []
    assert about([2, 2])[0].startswith("Intervals (95 %) cover the choice of test clips, taken as independent of one")
    assert about([2, 2])[1].startswith("Figures of several seeds are means over them, with t intervals over seeds")
    alone = "An arm with one seed counts as it is: how much it would differ if trained again is unknown."
    assert alone in wording.notes({"a": 5}, ["a"], [1, 2])
    assert alone not in wording.notes({"a": 5}, ["a"], [2, 2])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (400, "6 min 40 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


def test_the_verdict_never_goes_beyond_interval_and_test() -> None:
    """Whatever the numbers are: a difference is shown only if the printed interval leaves out 0 and p is below 0.05."""
    for low in (-0.05, -0.0004, 0.0, 0.0004, 0.02):
        for p in (0.0001, 0.0494, 0.0496, 0.3):
            said = wording.sentence(comparison(0.04, [low, 0.1], p), 100, (1, 1))
            assert ("shows a difference" in said) == (low == 0.02 and p < 0.0495), said


@pytest.mark.parametrize(
    ("runs", "shown", "sentence"),
    [
        ([None], 1, "once in this workspace, by hand; this report shows this one."),
        (["a"], 1, "once in this workspace, by 1 run; this report shows this one."),
        (["a", "a"], 2, "2 times in this workspace, by 1 run; this report shows all of them."),
        (["a", "b"], 1, "2 times in this workspace, by 2 runs; this report shows 1 of them."),
        ([None] * 3, 3, "3 times in this workspace, by hand; this report shows all of them."),
        (["a", None], 1, "2 times in this workspace: once by 1 run and once by hand; this report shows 1 of them."),
        (
            ["a"] * 9 + ["b"] * 3 + [None] * 2,
            3,
            "14 times in this workspace: 12 times by 2 runs and 2 times by hand; this report shows 3 of them.",
        ),
    ],
)
def test_how_often_the_test_split_was_scored(runs: list[str | None], shown: int, sentence: str) -> None:
    assert wording.scorings("demo", runs, shown) == f"The test split of demo has been scored {sentence}"
