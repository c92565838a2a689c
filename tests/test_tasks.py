"""The functions that lmms-eval calls: scores of one answer, and F1 over all of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from rbft_plugin import tasks

LABELS = ["Normal", "Abnormal", "Vague Abnormal"]
DOC = {"id": "v1", "label": "Abnormal", "labels": LABELS, "label_prompt": "Which?", "rationale_prompt": "Why?"}


def scores(prediction: str | None, right: float, **f1: str) -> dict[str, Any]:
    return {
        "sample_id": "v1",
        "prediction": prediction,
        "score": right,
        "accuracy": right,
        "no_answer": float(prediction is None),
        "macro_f1": ["Abnormal", prediction],
        "f1_Normal": "tn",
        "f1_Abnormal": "fn",
        "f1_Vague_Abnormal": "tn",
    } | f1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("Abnormal", scores("Abnormal", 1.0, f1_Abnormal="tp")),
        (" abnormal.\n", scores("Abnormal", 1.0, f1_Abnormal="tp")),
        ("Vague Abnormal", scores("Vague Abnormal", 0.0, f1_Vague_Abnormal="fp")),
        ("Normal", scores("Normal", 0.0, f1_Normal="fp")),
        ("Normal or Abnormal", scores(None, 0.0)),
        ("", scores(None, 0.0)),
    ],
)
def test_every_field_of_a_scored_answer(answer: str, expected: dict[str, Any]) -> None:
    assert tasks.process_label(DOC, [answer]) == expected


def test_one_key_alone_contains_score_as_the_baseline_of_lmms_eval_needs() -> None:
    assert [k for k in tasks.process_label(DOC, ["Normal"]) if "score" in k] == ["score"]


def test_a_rationale_is_counted_in_words() -> None:
    assert tasks.process_rationale(DOC, ["A red car\n\nstops. "]) == {"sample_id": "v1", "words": 4.0}
    assert tasks.process_rationale(DOC, [""]) == {"sample_id": "v1", "words": 0.0}


def test_prompts_are_those_of_the_prepared_row() -> None:
    assert tasks.label_prompt(DOC) == tasks.label_prompt(DOC, {"pre_prompt": "x"}) == "Which?"
    assert tasks.rationale_prompt(DOC) == tasks.rationale_prompt(DOC, None) == "Why?"


PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, None])), min_size=1, max_size=40)


@given(PAIRS)
def test_macro_f1_is_that_of_scikit_learn_over_the_labels_that_occur(pairs: list[tuple[str, str | None]]) -> None:
    targets, predictions = [t for t, _ in pairs], [p or "(no answer)" for _, p in pairs]
    expected = f1_score(targets, predictions, labels=sorted(set(targets)), average="macro", zero_division=0)
    assert tasks.macro_f1(pairs) == pytest.approx(expected, abs=1e-12)


@given(PAIRS)
def test_a_class_f1_is_that_of_scikit_learn(pairs: list[tuple[str, str | None]]) -> None:
    targets, predictions = [t for t, _ in pairs], [p or "(no answer)" for _, p in pairs]
    logged = [tasks.process_label(DOC | {"label": t}, [p or ""]) for t, p in pairs]
    expected = f1_score(targets, predictions, labels=LABELS, average=None, zero_division=0)
    names = ["f1_Normal", "f1_Abnormal", "f1_Vague_Abnormal"]
    assert [tasks.class_f1([row[n] for row in logged]) for n in names] == pytest.approx(list(expected), abs=1e-12)


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
