"""scored: evaluations that belong together, and all that keeps others apart, at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import scored

from rbft_plugin.report.evaluations import Evaluation, ReportError, by_arm

ZERO_SHOT = ("a", "b", None, "b", "b", "a")
RBFT = ("a", "a", None, "b", "b", "b")
FIRST = scored("zero_shot", ZERO_SHOT)
SAME_SPLIT = "\nEvaluate every arm on the same split, with the same labels."


@pytest.mark.parametrize(
    ("evaluations", "message"),
    [
        ([], "no evaluations to report on"),
        ([FIRST, FIRST], "zero_shot, seed 0: given 2 times; keep one evaluation for each arm and seed"),
        (
            [scored("rbft", RBFT, seed=3, ids=("c", "c", "d", "d", "e", "f"))],
            "rbft, seed 3: ids given more than once: 2 ('c', 'd')",
        ),
        (
            [FIRST, scored("rbft", RBFT, seed=1, ids=("clip0", "clip1", "clip2", "clip3", "x", "y"))],
            "rbft, seed 1: ids that differ from those of zero_shot, seed 0: 4 ('clip4', 'clip5', 'x', ...)"
            + SAME_SPLIT,
        ),
        (
            [FIRST, scored("rbft", RBFT[:4])],
            "rbft, seed 0: ids that differ from those of zero_shot, seed 0: 2 ('clip4', 'clip5')" + SAME_SPLIT,
        ),
        (
            [FIRST, scored("rbft", RBFT, targets=("b", "a", "b", "b", "b", "a"))],
            "rbft, seed 0: ids with another target than in zero_shot, seed 0: 3 ('clip0', 'clip2', 'clip5')"
            + SAME_SPLIT,
        ),
        (
            [FIRST, scored("rbft", RBFT, dataset="other", labels=("a", "b", "c"))],
            "rbft, seed 0: dataset 'other', but 'demo' in zero_shot, seed 0\n"
            "rbft, seed 0: labels that differ from those of zero_shot, seed 0: 1 ('c')" + SAME_SPLIT,
        ),
        (
            [FIRST, scored("rbft", RBFT, labels=("b", "a"))],
            "rbft, seed 0: labels that differ from those of zero_shot, seed 0: the same in another order" + SAME_SPLIT,
        ),
        (
            [scored("rbft", ("a", "c", None, "b", "b", "d"), targets=("a", "e", "a", "b", "b", "b"))],
            "rbft, seed 0: targets that are not labels: 1 ('e')\n"
            "rbft, seed 0: predictions that are not labels: 2 ('c', 'd')",
        ),
        ([scored("rbft", RBFT, labels=("a", "b", "a"))], "rbft, seed 0: labels listed more than once: 1 ('a')"),
        ([scored("rbft", ())], "rbft, seed 0: no samples"),
        (
            [scored("rbft", RBFT, answers=("a",))],
            "rbft, seed 0: 6 ids, 6 targets, 6 predictions, 1 answers",
        ),
    ],
)
def test_evaluations_that_do_not_belong_together(evaluations: list[Evaluation], message: str) -> None:
    with pytest.raises(ReportError) as error:
        by_arm(evaluations)
    assert str(error.value) == message


def test_arms_come_as_given_their_seeds_in_order_and_their_samples_as_in_the_first() -> None:
    turned = scored("rbft", RBFT, seed=2, probabilities=tuple((n / 10, 1 - n / 10) for n in range(6)))
    backwards = {
        name: getattr(turned, name)[::-1] for name in ("ids", "targets", "predictions", "answers", "probabilities")
    }
    runs = by_arm([FIRST, replace(turned, **backwards), scored("rbft", ZERO_SHOT, seed=1)])
    assert {arm: [run.seed for run in group] for arm, group in runs.items()} == {"zero_shot": [0], "rbft": [1, 2]}
    assert runs["rbft"][1] == turned


def test_some_samples_of_an_evaluation() -> None:
    one = FIRST.of(["clip4", "clip1"])
    assert (one.ids, one.targets, one.predictions) == (("clip4", "clip1"), ("b", "a"), ("b", "b"))
    assert replace(FIRST, without_video=(None, *"abbba")).of(["clip4", "clip1"]).without_video == ("b", "a")
    assert (one.answers, one.probabilities, one.without_video) == (("The answer is b.", "The answer is b."), None, None)
