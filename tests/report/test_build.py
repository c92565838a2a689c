"""report: every number of a case small enough to do by hand, and what is written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from builders import TARGETS, random_scored, scored

from rbft_plugin.report.build import summarize, write
from rbft_plugin.report.evaluations import ReportError
from rbft_plugin.report.view_model import Origin, Report
from rbft_plugin.scoring.metrics import METRICS, Metric

ZERO_SHOT = ("a", "b", None, "b", "b", "a")
RBFT = ("a", "a", None, "b", "b", "b")
FIRST = scored("zero_shot", ZERO_SHOT)
DOCS = Path(__file__).parents[2] / "docs/report.md"


def quantiles(figure: Callable[[list[float]], float]) -> Any:
    """[low, high] at 95 % over all 81 resamples: of each class 2 of its 3 clips are drawn, and count 1.5 times."""
    values = []
    for drawn in product(range(3), range(3), range(3, 6), range(3, 6)):
        values.append(figure([1.5 * drawn.count(clip) for clip in range(6)]))
    values.sort()
    return pytest.approx([values[2], values[78]], abs=1e-6)  # the 0.025 and 0.975 quantiles of 81: 2 of them beyond


def f1(label: str, predictions: tuple[str | None, ...], counts: list[float]) -> float:
    both = sum(c for t, p, c in zip(TARGETS, predictions, counts, strict=True) if t == p == label)
    either = sum(c * ((t == label) + (p == label)) for t, p, c in zip(TARGETS, predictions, counts, strict=True))
    return 2 * both / either


def macro(predictions: tuple[str | None, ...], counts: list[float]) -> float:
    return (f1("a", predictions, counts) + f1("b", predictions, counts)) / 2


def right(predictions: tuple[str | None, ...], counts: list[float]) -> float:
    return sum(c for t, p, c in zip(TARGETS, predictions, counts, strict=True) if t == p) / 6


def figure(value: float, interval: Any) -> dict[str, Any]:
    close = pytest.approx(value, abs=1e-6)
    return {"mean": close, "sd": None, "ci95": interval, "per_seed": [close]}


def test_report_json_of_a_case_done_by_hand(tmp_path: Path) -> None:
    evaluations = [scored("zero_shot", ZERO_SHOT), scored("rbft", RBFT)]
    result = summarize(evaluations, Origin(versions={"lmms-eval": "0.7.3"}, notes=["a further note"]))
    write(result, evaluations, tmp_path)
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert text.startswith('{\n  "schema": 3,\n  "dataset": "demo",\n')
    written = json.loads(text)
    notes = written.pop("notes")
    assert notes[-2:] == [
        "2 of 2 classes have fewer than 4 test clips: the intervals of macro-F1 are too narrow.",
        "a further note",
    ]

    wilson_1, wilson_3, wilson_5 = (
        pytest.approx(list(interval), abs=1e-6)
        for interval in ((0.0300534, 0.5635028), (0.1876163, 0.8123837), (0.4364972, 0.9699466))
    )

    def classes(predictions: tuple[str | None, ...], **given: tuple[float, float, float]) -> dict[str, Any]:
        return {
            label: {
                **{key: pytest.approx(v) for key, v in zip(("precision", "recall", "f1"), three, strict=True)},
                "f1_ci95": quantiles(lambda counts, label=label: f1(label, predictions, counts)),  # type: ignore[misc]
                "support": 3,
            }
            for label, three in given.items()
        }

    assert written == {
        "schema": 3,
        "dataset": "demo",
        "split": "test",
        "labels": ["a", "b"],
        "n_test": 6,
        "support": {"a": 3, "b": 3},
        "majority": "a",
        "majority_accuracy": 0.5,
        "arms": {
            "zero_shot": {
                "seeds": [0],
                "accuracy": figure(0.5, wilson_3),
                # F1 of a 2 * 1 / (3 + 2), of b 2 * 2 / (3 + 3)
                "macro_f1": figure(8 / 15, quantiles(lambda counts: macro(ZERO_SHOT, counts))),
                "balanced_accuracy": figure(0.5, quantiles(lambda counts: right(ZERO_SHOT, counts))),
                "weighted_f1": figure(8 / 15, quantiles(lambda counts: macro(ZERO_SHOT, counts))),
                "no_answer": figure(1 / 6, wilson_1),
                "per_class": classes(ZERO_SHOT, a=(0.5, 1 / 3, 0.4), b=(2 / 3, 2 / 3, 2 / 3)),
                "confusion": [[1, 1, 1], [1, 2, 0]],
                "without_video": None,
                "fit": None,
                "probabilities": None,
                "readings": None,
            },
            "rbft": {
                "seeds": [0],
                "accuracy": figure(5 / 6, wilson_5),
                "macro_f1": figure(0.9, quantiles(lambda counts: macro(RBFT, counts))),
                "balanced_accuracy": figure(5 / 6, quantiles(lambda counts: right(RBFT, counts))),
                "weighted_f1": figure(0.9, quantiles(lambda counts: macro(RBFT, counts))),
                "no_answer": figure(1 / 6, wilson_1),
                "per_class": classes(RBFT, a=(1.0, 2 / 3, 0.8), b=(1.0, 1.0, 1.0)),
                "confusion": [[2, 0, 1], [0, 3, 0]],
                "without_video": None,
                "fit": None,
                "probabilities": None,
                "readings": None,
            },
        },
        "comparisons": [
            {
                "arm": "rbft",
                "against": "zero_shot",
                "accuracy_diff": pytest.approx(2 / 6),
                "ci95": quantiles(lambda counts: right(RBFT, counts) - right(ZERO_SHOT, counts)),
                "sd": None,
                "macro_f1_diff": pytest.approx(0.9 - 8 / 15),
                "macro_f1_ci95": quantiles(lambda counts: macro(RBFT, counts) - macro(ZERO_SHOT, counts)),
                "covers": ["test clips"],
                "test": "exact McNemar",
                "p": 0.5,
                "per_seed": [
                    {
                        "seed": 0,
                        "against_seed": 0,
                        "accuracy_diff": pytest.approx(2 / 6),
                        "macro_f1_diff": pytest.approx(0.9 - 8 / 15),
                        "fixed": 2,
                        "broken": 0,
                        "mcnemar_p": 0.5,
                    }
                ],
                "power": written["comparisons"][0]["power"],  # see test_pairing
                "sentence": "rbft is 33.3 points more accurate than zero_shot on these 6 test clips (95 % interval 0.0 "
                "to 75.0): the interval contains 0, so this run does not show a difference.",
            }
        ],
        "versions": {"lmms-eval": "0.7.3"},
        **{"display": {}, "models": {}, "cells": {}, "losses": [], "rationales": {}},
    }
    assert Report.model_validate(json.loads(text)) == result


def test_several_seeds_are_averaged() -> None:
    second = ("a", "b", "b", "b", "b", "b")  # 4 of 6 right
    evaluations = [
        scored("rbft", second, seed=2),
        scored("zero_shot", ZERO_SHOT),
        scored("rbft", RBFT, seed=1),
    ]
    result = summarize(evaluations).as_json()
    rbft = result["arms"]["rbft"]
    assert list(result["arms"]) == ["rbft", "zero_shot"]
    assert rbft["seeds"] == [1, 2]
    assert rbft["accuracy"]["per_seed"] == pytest.approx([5 / 6, 4 / 6])
    assert rbft["accuracy"]["mean"] == pytest.approx(4.5 / 6)
    assert rbft["accuracy"]["sd"] == pytest.approx((1 / 6) / 2**0.5)
    assert rbft["no_answer"]["mean"] == pytest.approx(0.5 / 6)
    assert rbft["macro_f1"]["mean"] == pytest.approx(((0.8 + 1) / 2 + (1 / 2 + 3 / 4) / 2) / 2)
    of_a = {key: rbft["per_class"]["a"][key] for key in ("precision", "recall", "f1", "support")}
    assert of_a == {"precision": 1.0, "recall": 0.5, "f1": pytest.approx(0.65), "support": 3}
    assert rbft["confusion"] == [[3, 2, 1], [0, 6, 0]]


def test_repeating_a_seed_does_not_narrow_the_intervals() -> None:
    labels = ("a", "b", "c")
    (one,) = random_scored(labels, 80, {"rbft": (1,)})
    other = random_scored(labels, 80, {"rbft": (), "zero_shot": (0,)})[0]
    other = replace(other, targets=one.targets, arm="zero_shot")
    single = summarize([other, one]).as_json()
    triple = summarize([other, *(replace(one, seed=seed) for seed in (1, 2, 3))]).as_json()
    for key in ("ci95", "macro_f1_ci95"):
        assert triple["comparisons"][0][key] == pytest.approx(single["comparisons"][0][key], abs=0.01)
    low, high = triple["arms"]["rbft"]["accuracy"]["ci95"]
    assert high - low > 0.15  # binomial, n 80: 4 * sqrt(0.25 / 80) = 0.22; pooled, it would be 0.13
    assert triple["arms"]["rbft"]["macro_f1"]["ci95"] == pytest.approx(
        single["arms"]["rbft"]["macro_f1"]["ci95"], abs=0.01
    )


def test_every_arm_is_compared_with_every_arm_before_it_by_shared_seed_and_with_zero_shot_last() -> None:
    arms = {"zero_shot": (0,), "direct_sft": (1, 2), "rbft": (2, 1)}
    result = summarize(random_scored(("a", "b"), 20, arms))
    found = [
        (one.arm, one.against, [(pair.seed, pair.against_seed) for pair in one.per_seed]) for one in result.comparisons
    ]
    assert found == [
        ("rbft", "direct_sft", [(1, 1), (2, 2)]),
        ("direct_sft", "zero_shot", [(1, 0), (2, 0)]),
        ("rbft", "zero_shot", [(1, 0), (2, 0)]),
    ]


def test_the_order_of_samples_does_not_matter_and_two_calls_agree() -> None:
    arms = {"zero_shot": (0,), "rbft": (1, 2)}
    evaluations = random_scored(("a", "b", "c"), 40, arms)
    last = evaluations[-1]
    shuffled: Any = {
        name: getattr(last, name)[::-1] for name in ("ids", "targets", "predictions", "answers", "probabilities")
    }
    expected = summarize(evaluations)
    assert summarize(evaluations) == expected
    assert summarize([*evaluations[:-1], replace(last, **shuffled)]) == expected


def test_three_clips_all_fixed_settle_nothing() -> None:
    evaluations = [scored("direct_sft", ("b", "b", "b")), scored("rbft", ("a", "a", "a"))]
    (result,) = summarize(evaluations).comparisons
    assert result.ci95 == (1.0, 1.0)  # a bootstrap of equal differences has no spread
    assert result.sentence.endswith("test gives p = 0.250, so this run does not settle whether they differ.")


def test_a_new_metric_is_in_report_json_in_report_md_and_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS, "worst_f1", Metric("worst F1", True, lambda counts: counts.f1.min(axis=-1)))
    spread = Metric("spread", False, of_probabilities=lambda targets, probabilities, labels: 0.125)
    monkeypatch.setitem(METRICS, "spread", spread)
    rows = ((0.9, 0.1),) * 6
    evaluations = [scored("zero_shot", ZERO_SHOT, probabilities=rows), scored("rbft", RBFT, probabilities=rows)]
    write(summarize(evaluations), evaluations, tmp_path)
    arm = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["arms"]["zero_shot"]
    assert arm["worst_f1"]["mean"] == pytest.approx(0.4)
    assert arm["worst_f1"]["ci95"] == quantiles(lambda counts: min(f1(label, ZERO_SHOT, counts) for label in "ab"))
    assert arm["probabilities"]["spread"] == {"mean": 0.125, "per_seed": [0.125]}
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").split("\n")
    (head,) = [number for number, line in enumerate(lines) if "| worst F1, % |" in line]
    assert "| 40.0 (" in lines[head + 2]
    (head,) = [number for number, line in enumerate(lines) if line.endswith("| calibration error | spread |")]
    assert lines[head + 2].endswith("| 0.125 |")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert '<th scope="col">worst F1</th>' in page and "<b>40.0</b>" in page
    assert '<th scope="col">spread ↓</th>' in page and "<td>0.125</td>" in page


def test_report_json_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rbft_plugin.report.html.render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write(summarize([FIRST]), [FIRST], tmp_path)
    assert not (tmp_path / "report.json").exists()


def test_every_key_of_report_json_is_documented() -> None:
    documented = set(re.findall(r"`([a-z0-9_]+)`", DOCS.read_text(encoding="utf-8")))
    evaluations = random_scored(("a", "b"), 30, {"zero_shot": (0,), "rbft": (0, 1)})
    result = summarize(evaluations).as_json()

    def keys(content: Any) -> set[str]:
        if isinstance(content, list):
            return {key for one in content for key in keys(one)}
        return (
            {key for name, one in content.items() for key in {name} | keys(one)} if isinstance(content, dict) else set()
        )

    found = keys(result) - {"a", "b", "zero_shot", "rbft"}  # labels and arms
    assert found - documented == set()
    assert {"provenance", "losses", "curves", "display", "models", "versions"} <= documented


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match=r"file: the folder for the report cannot be made: File exists$"):
        write(summarize([FIRST]), [FIRST], tmp_path / "file")
