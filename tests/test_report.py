"""report: every number of a case small enough to do by hand, the words, the errors, and files that open."""

from __future__ import annotations

import io
import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from rbft_plugin import metrics, pictures, report, report_text
from rbft_plugin.report import Evaluation, ReportError, summarize, table, write

TARGETS = ("a", "a", "a", "b", "b", "b")
ZERO_SHOT = ("a", "b", None, "b", "b", "a")
RBFT = ("a", "a", None, "b", "b", "b")


def evaluation(arm: str, predictions: tuple[str | None, ...], seed: int = 0, **changes: Any) -> Evaluation:
    n = len(predictions)
    one = Evaluation(
        arm=arm,
        seed=seed,
        ids=tuple(f"clip{number}" for number in range(n)),
        targets=TARGETS[:n],
        predictions=predictions,
        answers=tuple(f"The answer is {prediction}." for prediction in predictions),
        labels=("a", "b"),
        dataset="demo",
    )
    return replace(one, **changes)


def random_evaluations(labels: tuple[str, ...], n: int, arms: dict[str, tuple[int, ...]]) -> list[Evaluation]:
    """Arms of rising skill, with the seeds given; some samples are not answered."""
    rng = np.random.default_rng(0)
    targets = tuple(labels[code] for code in rng.integers(len(labels), size=n))
    evaluations = []
    for place, (arm, seeds) in enumerate(arms.items()):
        for seed in seeds:
            right, silent = rng.random(n) < 0.3 + 0.2 * place, rng.random(n) < 0.1
            guesses = [labels[code] for code in rng.integers(len(labels), size=n)]
            predictions = tuple(
                target if r else None if s else guess
                for target, guess, r, s in zip(targets, guesses, right, silent, strict=True)
            )
            ids = tuple(f"clip{number}" for number in range(n))
            answers = tuple(f"{p}" for p in predictions)
            evaluations.append(Evaluation(arm, seed, ids, targets, predictions, answers, labels, "demo"))
    return evaluations


def test_report_json_of_a_case_done_by_hand(tmp_path: Path) -> None:
    evaluations = [evaluation("zero_shot", ZERO_SHOT), evaluation("rbft", RBFT)]
    result = summarize(evaluations, {"versions": {"lmms-eval": "0.7.3"}})
    write(result, evaluations, tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert text.startswith('{\n  "schema": 1,\n  "dataset": "demo",\n')
    written = json.loads(text)
    notes = written.pop("notes")
    assert notes[-1] == "2 of 2 classes have fewer than 5 test clips: the intervals of macro-F1 are too narrow."

    def close(*values: float) -> Any:
        return pytest.approx(list(values), abs=1e-6)

    wilson_1, wilson_3, wilson_5 = (0.0300534, 0.5635028), (0.1876163, 0.8123837), (0.4364972, 0.9699466)
    assert written == {
        "schema": 1,
        "dataset": "demo",
        "labels": ["a", "b"],
        "n_test": 6,
        "majority_accuracy": 0.5,
        "arms": {
            "zero_shot": {
                "seeds": [0],
                "accuracy": {"mean": 0.5, "ci95": close(*wilson_3), "per_seed": [0.5]},
                # F1 of a 2 * 1 / (3 + 2), of b 2 * 2 / (3 + 3); quantiles of all 729 resamples within classes
                "macro_f1": {"mean": pytest.approx(8 / 15), "ci95": close(1 / 7, 0.9), "per_seed": close(8 / 15)},
                "no_answer_rate": {"mean": pytest.approx(1 / 6), "ci95": close(*wilson_1), "per_seed": close(1 / 6)},
                "per_class": {
                    "a": {"precision": 0.5, "recall": pytest.approx(1 / 3), "f1": pytest.approx(0.4), "support": 3},
                    "b": {
                        "precision": pytest.approx(2 / 3),
                        "recall": pytest.approx(2 / 3),
                        "f1": pytest.approx(2 / 3),
                        "support": 3,
                    },
                },
                "confusion": [[1, 1, 1], [1, 2, 0]],
            },
            "rbft": {
                "seeds": [0],
                "accuracy": {"mean": pytest.approx(5 / 6), "ci95": close(*wilson_5), "per_seed": close(5 / 6)},
                "macro_f1": {"mean": pytest.approx(0.9), "ci95": close(0.5, 1), "per_seed": close(0.9)},
                "no_answer_rate": {"mean": pytest.approx(1 / 6), "ci95": close(*wilson_1), "per_seed": close(1 / 6)},
                "per_class": {
                    "a": {"precision": 1.0, "recall": pytest.approx(2 / 3), "f1": pytest.approx(0.8), "support": 3},
                    "b": {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 3},
                },
                "confusion": [[2, 0, 1], [0, 3, 0]],
            },
        },
        "comparisons": [
            {
                "arm": "rbft",
                "against": "zero_shot",
                "accuracy_diff": pytest.approx(2 / 6),
                "ci95": close(0, 4 / 6),  # two of six differ: binomial(6, 1/3), at most 4 with probability 0.982
                "macro_f1_diff": pytest.approx(0.9 - 8 / 15),
                "macro_f1_ci95": close(0, 53 / 70),  # quantiles of all 729 resamples
                "test": "exact McNemar",
                "p": 0.5,
                "per_seed": [
                    {
                        "seed": 0,
                        "against_seed": 0,
                        "accuracy_diff": pytest.approx(2 / 6),
                        "fixed": 2,
                        "broken": 0,
                        "mcnemar_p": 0.5,
                    }
                ],
                "sentence": "rbft is 33.3 points more accurate than zero_shot on these 6 test clips (95 % interval 0.0 "
                "to 66.7): the interval contains 0, so this run does not show a difference.",
            }
        ],
        "versions": {"lmms-eval": "0.7.3"},
    }


def test_several_seeds_are_averaged_and_compared_with_the_one_seed_of_another_arm() -> None:
    second = ("a", "b", "b", "b", "b", "b")  # 4 of 6 right
    evaluations = [
        evaluation("rbft", second, seed=2),
        evaluation("zero_shot", ZERO_SHOT),
        evaluation("rbft", RBFT, seed=1),
    ]
    result = summarize(evaluations, {})
    rbft = result["arms"]["rbft"]
    assert list(result["arms"]) == ["rbft", "zero_shot"]
    assert rbft["seeds"] == [1, 2]
    assert rbft["accuracy"]["per_seed"] == pytest.approx([5 / 6, 4 / 6])
    assert rbft["accuracy"]["mean"] == pytest.approx(4.5 / 6)
    assert rbft["no_answer_rate"]["mean"] == pytest.approx(0.5 / 6)
    assert rbft["macro_f1"]["mean"] == pytest.approx(((0.8 + 1) / 2 + (1 / 2 + 3 / 4) / 2) / 2)
    assert rbft["per_class"]["a"] == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(0.65), "support": 3}
    assert rbft["confusion"] == [[3, 2, 1], [0, 6, 0]]
    (comparison,) = result["comparisons"]
    assert (comparison["arm"], comparison["against"]) == ("zero_shot", "rbft")
    assert comparison["accuracy_diff"] == pytest.approx(3 / 6 - 4.5 / 6)
    assert comparison["per_seed"] == [
        {
            "seed": 0,
            "against_seed": 1,
            "accuracy_diff": pytest.approx(-2 / 6),
            "fixed": 0,
            "broken": 2,
            "mcnemar_p": 0.5,
        },
        {
            "seed": 0,
            "against_seed": 2,
            "accuracy_diff": pytest.approx(-1 / 6),
            "fixed": 0,
            "broken": 1,
            "mcnemar_p": 1.0,
        },
    ]
    # sign patterns of the clips' differences -1/2 and -1: as far from 0 are 2 of 4
    assert (comparison["test"], comparison["p"]) == ("sign-flip", 0.5)
    assert comparison["sentence"].startswith(
        "zero_shot (1 seed) is 25.0 points less accurate than rbft (mean of 2 seeds) on"
    )
    assert "for the choice of test clips, not of seeds; by seed -33.3 to -16.7" in comparison["sentence"]


def test_repeating_a_seed_does_not_narrow_the_intervals() -> None:
    labels = ("a", "b", "c")
    (one,) = random_evaluations(labels, 80, {"rbft": (1,)})
    other = random_evaluations(labels, 80, {"rbft": (), "zero_shot": (0,)})[0]
    other = replace(other, targets=one.targets, arm="zero_shot")
    single = summarize([other, one], {})
    triple = summarize([other, *(replace(one, seed=seed) for seed in (1, 2, 3))], {})
    for key in ("ci95", "macro_f1_ci95"):
        assert triple["comparisons"][0][key] == pytest.approx(single["comparisons"][0][key])
    right = metrics.correct(one.targets, one.predictions)
    bootstrap = metrics.bootstrap_interval(lambda index: float(right[index].mean()), 80)
    assert triple["arms"]["rbft"]["accuracy"]["ci95"] == pytest.approx(list(bootstrap))
    assert bootstrap[1] - bootstrap[0] > 0.15  # binomial, n 80: 4 * sqrt(0.25 / 80) = 0.22; pooled, it would be 0.13
    assert triple["arms"]["rbft"]["macro_f1"]["ci95"] == pytest.approx(single["arms"]["rbft"]["macro_f1"]["ci95"])


def test_every_arm_is_compared_with_every_arm_before_it_by_shared_seed() -> None:
    arms = {"zero_shot": (0,), "direct_sft": (1, 2), "rbft": (2, 1)}
    result = summarize(random_evaluations(("a", "b"), 20, arms), {})
    found = [
        (c["arm"], c["against"], [(pair["seed"], pair["against_seed"]) for pair in c["per_seed"]])
        for c in result["comparisons"]
    ]
    assert found == [
        ("direct_sft", "zero_shot", [(1, 0), (2, 0)]),
        ("rbft", "zero_shot", [(1, 0), (2, 0)]),
        ("rbft", "direct_sft", [(1, 1), (2, 2)]),
    ]


def test_the_order_of_samples_does_not_matter_and_two_calls_agree() -> None:
    arms = {"zero_shot": (0,), "rbft": (1, 2)}
    evaluations = random_evaluations(("a", "b", "c"), 40, arms)
    last = evaluations[-1]
    shuffled: Any = {name: getattr(last, name)[::-1] for name in ("ids", "targets", "predictions", "answers")}
    expected = summarize(evaluations, {})
    assert summarize(evaluations, {}) == expected
    assert summarize([*evaluations[:-1], replace(last, **shuffled)], {}) == expected


def comparison(diff: float, ci95: list[float], p: float, by_seed: list[float] | None = None) -> dict[str, Any]:
    per_seed = [{"accuracy_diff": d} for d in by_seed or [diff]]
    test = "sign-flip" if by_seed else "exact McNemar"
    names = {"arm": "rbft", "against": "direct_sft"}
    return names | {"accuracy_diff": diff, "ci95": ci95, "test": test, "p": p, "per_seed": per_seed}


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
            "clips (95 % interval 4.0 to 12.0, for the choice of test clips, not of seeds; by seed 6.0 to 10.0): the "
            "interval leaves out 0 and the sign-flip test gives p = 0.002, so these runs show a difference between "
            "these models.",
        ),
        (
            comparison(0.08, [0.04, 0.12], 0.002, [-0.02, 0.18]),
            (2, 1),
            "rbft (mean of 2 seeds) is 8.0 points more accurate than direct_sft (1 seed) on these 240 test clips (95 % "
            "interval 4.0 to 12.0, for the choice of test clips, not of seeds; by seed -2.0 to 18.0): the interval "
            "leaves out 0 and the sign-flip test gives p = 0.002, so these runs show a difference on average, but not "
            "for every seed.",
        ),
        (
            comparison(0.03, [-0.01, 0.07], 0.2, [0.02, 0.04]),
            (2, 2),
            "rbft (mean of 2 seeds) is 3.0 points more accurate than direct_sft (mean of 2 seeds) on these 240 test "
            "clips (95 % interval -1.0 to 7.0, for the choice of test clips, not of seeds; by seed 2.0 to 4.0): the "
            "interval contains 0, so these runs do not show a difference.",
        ),
    ],
)
def test_sentence_says_no_more_than_the_numbers(case: dict[str, Any], seeds: tuple[int, int], sentence: str) -> None:
    assert report_text.sentence(case, 240, seeds) == sentence


def test_three_clips_all_fixed_settle_nothing() -> None:
    evaluations = [evaluation("direct_sft", ("b", "b", "b")), evaluation("rbft", ("a", "a", "a"))]
    (result,) = summarize(evaluations, {})["comparisons"]
    assert result["ci95"] == [1.0, 1.0]  # a bootstrap of equal differences has no spread
    assert result["sentence"].endswith("test gives p = 0.250, so this run does not settle whether they differ.")


FIRST = evaluation("zero_shot", ZERO_SHOT)
SAME_SPLIT = "\nEvaluate every arm on the same test split, with the same labels."


@pytest.mark.parametrize(
    ("evaluations", "message"),
    [
        ([], "no evaluations to report on"),
        ([FIRST, FIRST], "zero_shot, seed 0: given 2 times; keep one evaluation for each arm and seed"),
        (
            [evaluation("rbft", RBFT, seed=3, ids=("c", "c", "d", "d", "e", "f"))],
            "rbft, seed 3: ids given more than once: 2 ('c', 'd')",
        ),
        (
            [FIRST, evaluation("rbft", RBFT, seed=1, ids=("clip0", "clip1", "clip2", "clip3", "x", "y"))],
            "rbft, seed 1: ids that differ from those of zero_shot, seed 0: 4 ('clip4', 'clip5', 'x', ...)"
            + SAME_SPLIT,
        ),
        (
            [FIRST, evaluation("rbft", RBFT[:4])],
            "rbft, seed 0: ids that differ from those of zero_shot, seed 0: 2 ('clip4', 'clip5')" + SAME_SPLIT,
        ),
        (
            [FIRST, evaluation("rbft", RBFT, targets=("b", "a", "b", "b", "b", "a"))],
            "rbft, seed 0: ids with another target than in zero_shot, seed 0: 3 ('clip0', 'clip2', 'clip5')"
            + SAME_SPLIT,
        ),
        (
            [FIRST, evaluation("rbft", RBFT, dataset="other", labels=("a", "b", "c"))],
            "rbft, seed 0: dataset 'other', but 'demo' in zero_shot, seed 0\n"
            "rbft, seed 0: labels that differ from those of zero_shot, seed 0: 1 ('c')" + SAME_SPLIT,
        ),
        (
            [FIRST, evaluation("rbft", RBFT, labels=("b", "a"))],
            "rbft, seed 0: labels that differ from those of zero_shot, seed 0: the same in another order" + SAME_SPLIT,
        ),
        (
            [evaluation("rbft", ("a", "c", None, "b", "b", "d"), targets=("a", "e", "a", "b", "b", "b"))],
            "rbft, seed 0: targets that are not labels: 1 ('e')\n"
            "rbft, seed 0: predictions that are not labels: 2 ('c', 'd')",
        ),
        ([evaluation("rbft", RBFT, labels=("a", "b", "a"))], "rbft, seed 0: labels listed more than once: 1 ('a')"),
        ([evaluation("rbft", ())], "rbft, seed 0: no samples"),
        (
            [evaluation("rbft", RBFT, answers=("a",))],
            "rbft, seed 0: 6 ids, 6 targets, 6 predictions, 1 answers",
        ),
    ],
)
def test_evaluations_that_do_not_belong_together(evaluations: list[Evaluation], message: str) -> None:
    with pytest.raises(ReportError) as error:
        summarize(evaluations, {})
    assert str(error.value) == message


def test_extra_may_not_replace_what_the_report_says() -> None:
    assert summarize([FIRST], {"machine": "a laptop"})["machine"] == "a laptop"
    with pytest.raises(ReportError, match=r"^extra: keys that the report itself has: 2 \('arms', 'notes'\)$"):
        summarize([FIRST], {"arms": {}, "notes": [], "machine": ""})


def test_keys_that_extra_may_not_take_are_all_of_the_report() -> None:
    for key in summarize([FIRST], {}):
        with pytest.raises(ReportError):
            summarize([FIRST], {key: 0})


def test_notes_name_classes_that_are_small_or_absent_and_seeds_only_where_there_are_several() -> None:
    lines = report_text.notes({"a": 4, "b": 5}, ["a", "b", "c"], seeds=1)
    assert lines[-2:] == [
        "1 of 3 classes have fewer than 5 test clips: the intervals of macro-F1 are too narrow.",
        "1 of 3 classes have no test clip: macro-F1 leaves them out.",
    ]
    assert not any("several seeds" in line for line in lines)
    lines = report_text.notes({"a": 5}, ["a"], seeds=2)
    assert [line for line in lines if "Figures of several seeds are means" in line]
    assert not any(line.startswith("1 of") for line in lines)


def test_markdown(tmp_path: Path) -> None:
    rude = "It is <b>a</b> |\r\n\u2028# so `there` \\ \x1b[31m" + "x" * 200
    second = evaluation("rb|ft", RBFT, answers=("a", rude, "hm", "b", "b", "b"))
    evaluations = [FIRST, second]
    extra = {
        "models": {"rb|ft": "runs/demo/rbft/label"},
        "versions": {"lmms-eval": "0.7.3"},
        "commands": ["rbft prepare demo", "lmms-eval --tasks 'a|b'"],
    }
    result = summarize(evaluations, extra)
    paths = write(result, evaluations, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["report.json", "report.md", "accuracy.png", "confusion.png"]
    lines = paths[1].read_text(encoding="utf-8").split("\n")
    assert lines[0] == "# Report: demo"
    assert "| zero_shot | 50.0 (18.8 to 81.2) | 53.3 (14.3 to 90.0) | 16.7 % |" in lines
    assert r"| rb\|ft | 83.3 (43.6 to 97.0) | 90.0 (50.0 to 100.0) | 16.7 % |" in lines
    assert "6 test clips; always naming their most frequent class would give 50.0 % accuracy." in lines
    assert "- " + result["comparisons"][0]["sentence"].replace("|", r"\|") in lines
    assert r"| rb\|ft | zero_shot | +36.7 (+0.0 to +75.7) | 0 | 2 | 0 | 0.500 |" in lines
    assert "| 1 | a | 3 | 0.400 | 0.800 |" in lines
    assert "2 of 6 clips (first seed of each arm); the first 2:" in lines
    quoted = (
        r"It is \<b>a\</b> \| # so \`there\` \\ \[31m" + "x" * (99 - len("It is <b>a</b> | # so `there` + [31m")) + "…"
    )
    assert rf"| clip1 | a | wrong: The answer is b. | right: {quoted} |" in lines
    assert r"- rb\|ft: runs/demo/rbft/label" in lines
    assert "- lmms-eval 0.7.3" in lines
    fence = lines.index("```sh")
    assert lines[fence + 1 : fence + 4] == ["rbft prepare demo", "lmms-eval --tasks 'a|b'", "```"]
    assert f"- {result['notes'][-1]}" in lines
    for paragraph in "\n".join(lines).split("\n\n"):
        if paragraph.startswith("|"):  # a bar that is not escaped would be one more cell
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in paragraph.split("\n")}) == 1


def test_markdown_quotes_the_first_seed_of_each_arm() -> None:
    evaluations = [evaluation("rbft", ("b",) * 6, seed=2), evaluation("rbft", RBFT, seed=1), FIRST]
    text = report_text.markdown(summarize(evaluations, {}), evaluations)
    assert "| clip1 | a | right: The answer is a. | wrong: The answer is b. |" in text.split("\n")


def test_markdown_of_one_arm_has_no_comparison() -> None:
    text = report_text.markdown(summarize([FIRST], {}), [FIRST])
    headings = [line for line in text.split("\n") if line.startswith("#")]
    assert headings == ["# Report: demo", "## F1 by class", "## Notes"]


def test_a_class_without_test_clips_has_no_f1_in_markdown() -> None:
    evaluations = [evaluation("rbft", RBFT, labels=("a", "b", "c"))]
    assert "| 3 | c | 0 | - |" in report_text.markdown(summarize(evaluations, {}), evaluations).split("\n")


def test_table_shows_intervals_and_the_majority_line() -> None:
    evaluations = [FIRST, evaluation("[b]rbft", RBFT, seed=1), evaluation("[b]rbft", RBFT, seed=2)]
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(summarize(evaluations, {})))
    text = console.export_text()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.split("\n") if line.startswith("│")]
    assert rows[0] == ["zero_shot", "50.0 (18.8 to 81.2)", "53.3 (14.3 to 90.0)", "16.7 %"]
    assert rows[1] == ["[b]rbft (mean of 2 seeds)", "83.3 (50.0 to 100.0)", "90.0 (50.0 to 100.0)", "16.7 %"]
    assert text.rstrip().endswith("6 test clips; always naming their most frequent class would give 50.0 % accuracy.")


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, after checking that the picture is not blank."""
    with Image.open(path) as image:
        image.load()
        grey = np.asarray(image.convert("L"))
    assert grey.std() > 10
    assert 0.02 < np.mean(grey < 250) < 0.98
    return grey.shape[1], grey.shape[0]


def test_pictures_of_four_arms_wrap(tmp_path: Path) -> None:
    arms = {"zero_shot": (0,), "direct_sft": (1, 2), "rbft": (1, 2), "joint": (1,)}
    evaluations = random_evaluations(("Normal", "Hateful"), 40, arms)
    (tmp_path / "three").mkdir()
    (tmp_path / "four").mkdir()
    sizes = []
    for folder, some in (("three", [one for one in evaluations if one.arm != "joint"]), ("four", evaluations)):
        accuracy, confusion = pictures.draw(summarize(some, {}), tmp_path / folder)
        assert min(size(accuracy)) > 400
        sizes.append(size(confusion))
    (width_3, height_3), (width_4, height_4) = sizes
    assert width_4 < 1.2 * width_3
    assert height_4 > 1.5 * height_3


@pytest.mark.filterwarnings("error")
def test_a_hundred_and_one_classes_with_chinese_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = tuple(f"打开冰箱门并且拿出一瓶牛奶 $^{number}$" for number in range(50))
    labels += tuple(f"a class with a name as long as a sentence, number {number}" for number in range(51))
    evaluations = random_evaluations(labels, 150, {"zero_shot": (0,), "rbft": (1,)})
    with caplog.at_level(logging.WARNING):
        paths = write(summarize(evaluations, {}), evaluations, tmp_path)
    assert caplog.records == []
    assert "打开冰箱门并且拿出一瓶牛奶 $^7$" in paths[0].read_text(encoding="utf-8")
    assert "打开冰箱门并且拿出一瓶牛奶 $^7$" in paths[1].read_text(encoding="utf-8")
    assert min(size(paths[3])) > 900


def test_the_chart_shows_the_figures_their_intervals_seeds_and_the_majority() -> None:
    result = summarize(random_evaluations(("a", "b", "c"), 40, {"zero_shot": (0,), "rbft": (1, 2)}), {})
    figure: Any = pictures.accuracy_chart(result)
    (axes,) = figure.axes
    arms = list(result["arms"].values())
    expected = [arm[key] for key in ("accuracy", "macro_f1") for arm in arms]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([one["mean"] for one in expected])
    whiskers = [segment[:, 1].tolist() for lines in axes.collections for segment in lines.get_segments()]
    assert whiskers == [pytest.approx(one["ci95"]) for one in expected]
    assert [text.get_text() for text in axes.texts] == [f"{100 * one['mean']:.1f}" for one in expected]
    dots = [list(line.get_ydata()) for line in axes.lines if line.get_marker() == "o"]
    assert dots == [arms[1]["accuracy"]["per_seed"], arms[1]["macro_f1"]["per_seed"]]
    dashed = [line for line in axes.lines if str(line.get_label()).startswith("always")]
    assert [list(line.get_ydata()) for line in dashed] == [[result["majority_accuracy"]] * 2]


def test_a_name_that_looks_like_a_broken_formula_is_drawn_as_it_is(tmp_path: Path) -> None:
    evaluations = [evaluation("$\\frac$", RBFT, targets=("a",) * 6, labels=("a", "b", "$\\sum_{$"))]
    assert len(pictures.draw(summarize(evaluations, {}), tmp_path)) == 2


def test_cells_have_numbers_only_while_there_are_few_classes() -> None:
    def texts(k: int) -> list[str]:
        labels = tuple(f"class {number}" for number in range(k))
        figure = pictures.confusion_chart(summarize(random_evaluations(labels, 60, {"rbft": (1,)}), {}))
        return [text.get_text() for text in figure.axes[0].texts]

    assert sum(int(text or 0) for text in texts(12)) == 60
    assert texts(13) == []


def test_tick_labels() -> None:
    none: frozenset[str] = frozenset()
    assert pictures._ticks(["wave", "sit\n down"], none) == ["wave", "sit down"]
    assert pictures._ticks(["opening the door of the refrigerator"], none) == ["opening the…frigerator"]
    assert pictures._ticks(["挥手挥手挥手挥手挥手挥手"], none) == ["挥手挥手挥…手挥手挥手"]
    assert pictures._ticks(["wave", "挥手", "抬手"], frozenset("挥")) == ["wave", "#2", "抬手"]
    same = "aaaaaaaaaaa…aaaaaaaaaa"
    assert pictures._ticks(["a" * 40, "b", "a" * 41], none) == [f"#1 {same}", "b", f"#3 {same}"]


def test_fonts_are_found_for_characters_that_the_first_lacks() -> None:
    assert pictures._fonts("wave…") == (["DejaVu Sans"], frozenset())
    families, missing = pictures._fonts("wave \u2336 \U0010fffd")  # in DejaVu Sans Mono; in no font
    assert (len(families), families[0], missing) == (2, "DejaVu Sans", frozenset("\U0010fffd"))


def test_the_module_offers_what_the_command_line_uses() -> None:
    assert set(report.__all__) == {"Evaluation", "ReportError", "summarize", "table", "write"}
    assert all(hasattr(report, name) for name in report.__all__)
