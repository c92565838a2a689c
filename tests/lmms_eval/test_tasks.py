"""The functions that lmms-eval calls: scores of one answer, and F1 over all of them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from rbft_plugin.errors import RbftError
from rbft_plugin.lmms_eval import tasks
from rbft_plugin.scoring import calibration, counts, metrics

LABELS = ["Normal", "Abnormal", "Vague Abnormal"]
DOC = {"id": "v1", "label": "Abnormal", "labels": LABELS, "label_prompt": "Which?", "rationale_prompt": "Why?"}
DOC |= {"hinted_prompt": "It is abnormal. Why?"}


def scores(prediction: str | None, right: float, **outcomes: str) -> dict[str, Any]:
    """What a scored sample has; `outcomes` by class, all others being the target's fn and others' tn."""
    by_class = {"Normal": "tn", "Abnormal": "fn", "Vague_Abnormal": "tn"} | outcomes
    return {
        "sample_id": "v1",
        "prediction": prediction,
        "score": right,
        "accuracy": right,
        "no_answer": float(prediction is None),
        "balanced_accuracy": ["Abnormal", prediction],
        "macro_f1": ["Abnormal", prediction],
        "weighted_f1": ["Abnormal", prediction],
        "majority_accuracy": "Abnormal",
        **{f"{of}_{name}": o for of in ("f1", "precision", "recall", "support") for name, o in by_class.items()},
        **{f"confusion_{name}": [] for name in by_class},
        "confusion_Abnormal": [[*LABELS, None].index(prediction), 4],
    }


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Abnormal", scores("Abnormal", 1.0, Abnormal="tp")),
        (" abnormal.\n", scores("Abnormal", 1.0, Abnormal="tp")),
        ("Vague Abnormal", scores("Vague Abnormal", 0.0, Vague_Abnormal="fp")),
        ("Normal", scores("Normal", 0.0, Normal="fp")),
        ("Normal or Abnormal", scores(None, 0.0)),
        ("", scores(None, 0.0)),
    ],
)
def test_every_field_of_a_scored_answer(answer: str, expected: dict[str, Any]) -> None:
    rule = 1 if expected["prediction"] else 0
    rules = {"rule": rule, "rule_1": float(rule), "rule_2": 0.0, "rule_3": 0.0, "rule_4": 0.0}
    assert tasks.process_label(DOC, [answer]) == expected | rules | {"accuracy_rule_1": expected["score"]}


def test_the_rule_by_which_an_answer_was_read_is_logged() -> None:
    scored = tasks.process_label(DOC, ["Answer: Abnormal"])
    assert (scored["rule"], scored["rule_2"], scored["score"], scored["accuracy_rule_1"]) == (2, 1.0, 1.0, 0.0)
    listed = DOC | {"label_prompt": "Which?\nA. Normal\nB. Abnormal\nC. Vague Abnormal"}
    assert tasks.process_label(listed, ["B"])["prediction"] == "Abnormal"
    assert tasks.process_label(DOC, ["B"])["prediction"] is None


def test_one_key_alone_contains_score_as_the_baseline_of_lmms_eval_needs() -> None:
    assert [k for k in tasks.process_label(DOC, ["Normal"]) if "score" in k] == ["score"]
    assert [k for k in tasks.process_likelihoods(DOC, LIKELIHOODS) if "score" in k] == ["score"]


def test_a_rationale_is_counted_in_words() -> None:
    assert tasks.process_rationale(DOC, ["A red car\n\nstops. "]) == {"sample_id": "v1", "mode": "plain", "words": 4.0}
    assert tasks.process_rationale(DOC, [""]) == {"sample_id": "v1", "mode": "plain", "words": 0.0}
    assert tasks.process_hinted(DOC, ["A red car"]) == {"sample_id": "v1", "mode": "hinted", "words": 3.0}


def test_prompts_are_those_of_the_prepared_row() -> None:
    assert tasks.label_prompt(DOC) == tasks.label_prompt(DOC, {"pre_prompt": "x"}) == "Which?"
    assert tasks.rationale_prompt(DOC) == tasks.rationale_prompt(DOC, None) == "Why?"
    assert tasks.hinted_prompt(DOC) == "It is abnormal. Why?"
    assert tasks.no_visual(DOC) == []


LIKELIHOODS = ["(-2.0, False, 1)", "(-1.0, True, 1)", "(-3.0, False, 12)"]


def test_every_field_of_a_sample_scored_by_likelihood() -> None:
    total = math.exp(-2) + math.exp(-1) + math.exp(-3)
    shares = [math.exp(-2) / total, math.exp(-1) / total, math.exp(-3) / total]
    found = tasks.process_likelihoods(DOC, LIKELIHOODS)
    assert found.pop("probabilities") == pytest.approx(dict(zip(LABELS, shares, strict=True)), abs=1e-12)
    for name in ("auroc", "average_precision", "brier", "calibration_error"):
        assert found.pop(name) == pytest.approx([1, *shares], abs=1e-12)
    expected = scores("Abnormal", 1.0, Abnormal="tp") | {"accuracy_norm": 0.0}  # -3 of 12 tokens is the best mean
    assert found == expected


@pytest.mark.parametrize(
    ("results", "prediction", "norm"),
    [
        (["(-2.0, False)", "(-1.0, True)", "(-3.0, False)"], "Abnormal", 1.0),  # by characters: 2/6, 1/8, 3/14
        (["(-2.0, False)", "(-1.0, True)", "(-1.4, False)"], "Abnormal", 0.0),  # 1.4/14 is less than 1/8
        (["(-2.0, False)", "(-1.0, True)", "(-1.8, False)"], "Abnormal", 1.0),
        (["[-2.0, false, 1]", "[-1.0, true, 1]", "[-3.0, false, 1]"], "Abnormal", 1.0),  # from a cache
        (["(-inf, False, 1)", "(-900.0, False, 1)", "(-901.0, False, 1)"], "Abnormal", 1.0),
        (["(-1.0, True, 1)", "(-1.0, False, 1)", "(-3.0, False, 1)"], "Normal", 0.0),  # the first of equals
    ],
)
def test_the_most_likely_label_is_the_answer(results: list[str], prediction: str, norm: float) -> None:
    found = tasks.process_likelihoods(DOC, results)
    assert (found["prediction"], found["accuracy_norm"]) == (prediction, norm)
    assert sum(found["probabilities"].values()) == pytest.approx(1, abs=1e-12)


def test_a_sample_without_a_likelihood_of_every_label_is_an_error() -> None:
    with pytest.raises(RbftError, match="sample v1: 2 likelihoods for 3 labels"):
        tasks.process_likelihoods(DOC, LIKELIHOODS[:2])


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(LABELS), st.lists(st.floats(-50, 0), min_size=3, max_size=3)), min_size=1))
def test_metrics_of_likelihoods_are_those_of_their_probabilities(samples: list[tuple[str, list[float]]]) -> None:
    rows = [tasks.process_likelihoods(DOC | {"label": t}, [f"({x}, False, 1)" for x in xs]) for t, xs in samples]
    targets = [target for target, _ in samples]
    shares = [list(row["probabilities"].values()) for row in rows]
    figures = {
        "auroc": calibration.auroc,
        "average_precision": calibration.average_precision,
        "brier": calibration.brier,
        "calibration_error": calibration.calibration_error,
    }
    for name, figure in figures.items():
        found = getattr(tasks, name)([row[name] for row in rows])
        assert found == pytest.approx(figure(targets, shares, LABELS), abs=1e-12, nan_ok=True)


PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, None])), min_size=1, max_size=40)


@given(PAIRS)
def test_metrics_of_answers_are_those_of_targets_and_predictions(pairs: list[tuple[str, str | None]]) -> None:
    targets, predictions = [t for t, _ in pairs], [p for _, p in pairs]
    logged = [tasks.process_label(DOC | {"label": t}, [p or ""]) for t, p in pairs]
    for name in ("balanced_accuracy", "macro_f1", "weighted_f1"):
        expected = metrics.METRICS[name].of(targets, predictions, LABELS)
        assert getattr(tasks, name)([row[name] for row in logged]) == pytest.approx(expected, abs=1e-12)
    majority = counts.majority_accuracy(targets)
    assert tasks.majority_accuracy([row["majority_accuracy"] for row in logged]) == majority


@given(PAIRS)
def test_figures_of_a_class_are_those_of_scikit_learn(pairs: list[tuple[str, str | None]]) -> None:
    targets, predictions = [t for t, _ in pairs], [p or "(no answer)" for _, p in pairs]
    logged = [tasks.process_label(DOC | {"label": t}, [p or ""]) for t, p in pairs]
    for figure, of in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        expected = of(targets, predictions, labels=LABELS, average=None, zero_division=0)
        names = [f"{figure}_{label}" for label in ("Normal", "Abnormal", "Vague_Abnormal")]
        found = [getattr(tasks, f"class_{figure}")([row[n] for row in logged]) for n in names]
        assert found == pytest.approx(list(expected), abs=1e-12)


@given(PAIRS)
def test_support_and_confusion_of_a_class_are_rows_of_the_confusion_matrix(pairs: list[tuple[str, str | None]]) -> None:
    logged = [tasks.process_label(DOC | {"label": t}, [p or ""]) for t, p in pairs]
    matrix = counts.confusion([t for t, _ in pairs], [p for _, p in pairs], LABELS)
    for label, row in zip(("Normal", "Abnormal", "Vague_Abnormal"), matrix, strict=True):
        assert tasks.class_support([one[f"support_{label}"] for one in logged]) == sum(row)
        found = tasks.class_confusion([one[f"confusion_{label}"] for one in logged])
        assert found == (row if sum(row) else [])


def test_f1_of_a_label_that_never_occurs_is_zero() -> None:
    assert tasks.class_f1(["tn", "tn"]) == 0.0
    assert tasks.class_f1(["tp", "fp", "fn", "tn"]) == 0.5


def test_a_clip_is_found_in_any_known_workspace_the_current_one_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        (folder / "data").mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(tasks, "workspaces", [Path(), there])
    doc = DOC | {"video": "data/a.mp4"}
    (there / "data/a.mp4").touch()
    assert tasks.doc_to_visual(doc) == [str(there / "data/a.mp4")]
    (here / "data/a.mp4").touch()
    assert tasks.doc_to_visual(doc) == [os.path.join("data", "a.mp4")]


def test_a_missing_clip_is_an_error_that_names_sample_clip_and_workspaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks, "workspaces", [Path(), tmp_path / "other"])
    with pytest.raises(FileNotFoundError) as error:
        tasks.doc_to_visual(DOC | {"video": "data/a.mp4"})
    looked = f"{tmp_path}, {tmp_path / 'other'}"
    assert str(error.value) == f"sample v1: no data/a.mp4 in {looked}; run `rbft prepare` there"
