"""answers: what counts as a label in what a model wrote."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rbft_plugin.answers import NO_ANSWER, parse
from rbft_plugin.dataset import Dataset

SMARTHOME = ("Normal", "Abnormal", "Vague Abnormal")
CHINESE = ("正常", "不正常", "冒犯")

names = st.text(min_size=1, max_size=12).map(lambda text: " ".join(text.split())).filter(bool)
words = st.sampled_from([*SMARTHOME, *CHINESE, "Answer:", "<answer>", "</answer>", "is", "not", ",", "\n", " ", "*"])
texts = st.one_of(
    st.text(max_size=40), st.lists(words, max_size=8).map(" ".join), st.lists(words, max_size=8).map("".join)
)


def accepted(labels: list[str]) -> bool:
    """Whether a dataset may have these labels."""
    parts = {
        "name": "mine",
        "annotations": {"file": "mine.csv", "id": "id", "label": "label"},
        "videos": "{id}.mp4",
        "labels": [{"name": label, "description": "x"} for label in labels],
        "splits": {"column": "split"},
    }
    try:
        Dataset.model_validate(parts)
    except ValidationError:
        return False
    return True


@given(texts, st.lists(names, min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_text_gives_a_label_or_no_answer(text: str, labels: list[str]) -> None:
    for known in (labels, SMARTHOME, CHINESE):
        assert parse(text, known) in {NO_ANSWER, *known}


@given(st.lists(names, min_size=2, max_size=4))
@example(["Yes", "Answer: yes"])
@example(["the answer is 4", "4"])
@example(["ss", "ßa ss"])
@example(["C", "C++"])
@settings(max_examples=150, deadline=None)
def test_every_label_that_a_dataset_may_have_parses_to_itself(labels: list[str]) -> None:
    assume(accepted(labels) or labels == ["C", "C++"])
    for label in labels:
        assert parse(label, labels) == label
        assert parse(f"\n {label.upper() if label.upper().casefold() == label.casefold() else label} ", labels) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Normal", "Normal"),
        ("normal.", "Normal"),
        ("**Abnormal**", "Abnormal"),
        ('"Vague  abnormal"', "Vague Abnormal"),
        ("VAGUE\nABNORMAL", "Vague Abnormal"),
        ("Ｎｏｒｍａｌ", "Normal"),
        ("The video is Abnormal, clearly abnormal.", "Abnormal"),
        ("Class: Vague Abnormal (an unusual event)", "Vague Abnormal"),
        ("Normal or Abnormal", NO_ANSWER),
        ("Vague Abnormal, not Abnormal", NO_ANSWER),
        ("Abnormality", NO_ANSWER),
        ("Subnormal", NO_ANSWER),
        ("vague_abnormal_2", NO_ANSWER),
        ("", NO_ANSWER),
        ("I cannot say.", NO_ANSWER),
    ],
)
def test_a_label_counts_as_whole_words_and_alone(text: str, label: str | None) -> None:
    assert parse(text, SMARTHOME) == label


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("It seems abnormal, but a guest is normal. Answer: Normal", "Normal"),
        ("Not abnormal. The answer is normal.", "Normal"),
        ("Abnormal? **Answer:** Normal", "Normal"),
        ("Abnormal? **Answer**: Normal", "Normal"),
        ("Abnormal? ANSWER : Normal", "Normal"),
        ("Abnormal? <answer>Normal</answer> and not abnormal", "Normal"),
        ("Answer: Abnormal. No: the answer is Normal", "Normal"),
        ("Normal. Answer: I do not know", NO_ANSWER),
        ("Answer: Normal or Abnormal", NO_ANSWER),
        ("The answers: Normal", "Normal"),
        ("Abnormal is what I answered: Normal", NO_ANSWER),
    ],
)
def test_after_a_mark_of_the_final_answer_only_what_follows_counts(text: str, label: str | None) -> None:
    assert parse(text, SMARTHOME) == label


@pytest.mark.parametrize(
    ("text", "labels", "label"),
    [
        ("这个视频是正常的。", CHINESE, "正常"),
        ("不正常", CHINESE, "不正常"),
        ("正常，不冒犯", CHINESE, NO_ANSWER),
        ("视频属于Normal类", SMARTHOME, "Normal"),
        ("정상입니다", ("정상", "이상"), "정상"),
        ("anormale", ("normal", "malé"), NO_ANSWER),
        ("ненормально", ("нормально", "опасно"), NO_ANSWER),
        ("Это нормально.", ("нормально", "опасно"), "нормально"),
        ("répété", ("été", "hiver"), NO_ANSWER),
        ("En été !", ("été", "hiver"), "été"),
        ("STRASSE", ("Straße", "Weg"), "Straße"),
    ],
)
def test_words_end_where_they_end_in_their_script(text: str, labels: tuple[str, ...], label: str | None) -> None:
    assert parse(text, labels) == label


def test_a_label_with_signs_is_no_pattern_and_not_found_inside_a_longer_one() -> None:
    labels = ("C", "C++", "(other)")
    assert parse("It is C++!", labels) == "C++"
    assert parse("It is C.", labels) == "C"
    assert parse("(other)", labels) == "(other)"
    assert parse("other", labels) is NO_ANSWER


def test_the_longer_label_is_the_longer_one_as_it_is_compared() -> None:
    # U+33A9 is written as one letter, and compared as "mpa"
    assert parse("10 MPa now", ("pa now", "㎩ now", "10 ㎫ now")) == "10 ㎫ now"
