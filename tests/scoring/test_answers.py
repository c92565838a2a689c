"""answers: what counts as a label in what a model wrote."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rbft_plugin.scoring.answers import NO_ANSWER, RULES, conclusion, listed_options, parse, read
from rbft_plugin.spec.dataset import Dataset

SMARTHOME = ("Normal", "Abnormal", "Vague Abnormal")
CHINESE = ("正常", "不正常", "冒犯")
DEMO = ("normal", "loitering", "patrol", "delivery", "theft")
DATA = Path(__file__).parents[1] / "fixtures"
HARD = [json.loads(line) for line in (DATA / "hard_answers.jsonl").read_text(encoding="utf-8").splitlines()]
LOGGED = [json.loads(line) for line in (DATA / "logged_answers.jsonl").read_text(encoding="utf-8").splitlines()]

names = st.text(min_size=1, max_size=12).map(lambda text: " ".join(text.split())).filter(bool)
marks = ["Answer:", "<answer>", "</answer>", "<think>", "</think>", "label", "is", "not", "if", "不", "是", "B", "2"]
words = st.sampled_from([*SMARTHOME, *CHINESE, *marks, *",.?(*\n \ue000\ue001{"])
WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000}

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


def test_hard_answers_are_read_by_the_rules_that_the_file_says_or_not_at_all() -> None:
    """`label` is what a careful reader sees, `rule` the one that reads it, null where the text is no answer to us."""
    assert len(HARD) > 700
    for row in HARD:
        reading = read(row["text"], row["labels"], row.get("options"))
        assert reading == (row["label"] if row["rule"] else NO_ANSWER, row["rule"]), row["text"]


def test_each_rule_reads_some_of_them() -> None:
    numbers = Counter(row["rule"] for row in HARD)
    assert set(numbers) == {None, *RULES} and all(numbers[rule] > 10 for rule in RULES)


def test_logged_answers_of_the_demo_are_never_misread() -> None:
    assert len(LOGGED) > 50
    readings = [(row, parse(row["text"], DEMO)) for row in LOGGED]
    assert [row["text"] for row, label in readings if label not in (row["label"], NO_ANSWER)] == []
    assert [row["text"] for row, label in readings if label != row["label"]] == ["deliveryeliveryeliveryeliveryelivery"]


@pytest.mark.parametrize("change", [str.upper, str.casefold, lambda text: text.translate(WIDE), lambda t: f" {t}\n"])
def test_case_width_and_space_around_do_not_matter(change: Callable[[str], str]) -> None:
    changed = [
        row["text"] for row in HARD if parse(change(row["text"]), row["labels"]) != parse(row["text"], row["labels"])
    ]
    assert changed == []


def test_the_order_of_labels_does_not_matter() -> None:
    turned = [r["text"] for r in HARD if parse(r["text"], r["labels"][::-1]) != parse(r["text"], r["labels"])]
    assert turned == []


@pytest.mark.parametrize(
    ("lines", "options"),
    [
        (["A. Normal", "B. Abnormal", "C. Vague Abnormal"], {"a": "Normal", "b": "Abnormal", "c": "Vague Abnormal"}),
        (["(1) Normal", "(2) Abnormal", "(3) Vague Abnormal"], {"1": "Normal", "2": "Abnormal", "3": "Vague Abnormal"}),
        (["- b) vague abnormal: odd", "- a) normal: fine", "- c) abnormal: bad"],
         {"a": "Normal", "b": "Vague Abnormal", "c": "Abnormal"}),
        (["- Normal: fine", "- Abnormal: bad", "- Vague Abnormal: odd"], {}),
        (["A. Normal", "B. Abnormal"], {}),  # one is not listed
        (["A. Normal", "A. Abnormal", "B. Vague Abnormal"], {}),  # two have one letter
    ],
)  # fmt: skip
def test_letters_and_numbers_stand_for_labels_where_the_prompt_lists_them(
    lines: list[str], options: dict[str, str]
) -> None:
    prompt = "\n".join(["Which is it?", *lines, "Answer with one."])
    assert listed_options(prompt, SMARTHOME) == options
    for key, label in options.items():
        for text, rule in ((key.upper(), 1), (f"({key})", 1), (f"Answer: {key}", 2), (f"Option {key}.", 1)):
            assert read(text, SMARTHOME, options) == (label, rule)
            assert parse(text, SMARTHOME) is NO_ANSWER
        assert parse(f"Answer: {key}) {label}", SMARTHOME, options) == label
        other = next(name for name in SMARTHOME if name != label)
        assert parse(f"Answer: {key}) {other}", SMARTHOME, options) is NO_ANSWER


@given(st.text(max_size=60), st.sampled_from(HARD))
@settings(max_examples=100, deadline=None)
def test_what_a_model_thought_does_not_matter(thought: str, row: dict[str, Any]) -> None:
    assume("think" not in row["text"])
    answer = parse(row["text"], row["labels"])
    assert (
        parse(f"<think>{thought.replace('<', '')} Abnormal. Answer: Normal</think>{row['text']}", row["labels"])
        == answer
    )


@given(st.text(alphabet=st.characters(exclude_categories=("L", "N")), max_size=60))
@settings(max_examples=100, deadline=None)
def test_without_a_letter_or_digit_there_is_no_answer(text: str) -> None:
    for labels in (SMARTHOME, CHINESE, DEMO, ("A", "B"), ("1", "2")):
        assert parse(text, labels) is NO_ANSWER


@given(st.lists(st.sampled_from(["video", "shows", "a", "person", "who", "takes", "box", "of", "in"]), min_size=2))
@settings(max_examples=100, deadline=None)
def test_words_that_are_no_labels_give_none(words: list[str]) -> None:
    for labels in (SMARTHOME, CHINESE, DEMO):
        assert parse(" ".join(words), labels) is NO_ANSWER


@given(texts, st.lists(names, min_size=1, max_size=4))
@settings(max_examples=100, deadline=None)
def test_any_text_gives_a_label_or_no_answer(text: str, labels: list[str]) -> None:
    for known in (labels, SMARTHOME, CHINESE):
        assert parse(text, known) in {NO_ANSWER, *known}


@given(st.lists(names, min_size=2, max_size=4))
@example(["Yes", "Answer: yes"])
@example(["the answer is 4", "4"])
@example(["ss", "ßa ss"])
@example(["C", "C++"])
@settings(max_examples=100, deadline=None)
def test_every_label_that_a_dataset_may_have_parses_to_itself(labels: list[str]) -> None:
    assume(accepted(labels) or labels == ["C", "C++"])
    for label in labels:
        assert parse(label, labels) == label
        if re.search(r"\w", label) and labels != ["C", "C++"]:
            assert parse(f"**{label}**.", labels) == label
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
        ("vague_abnormal_2", "Vague Abnormal"),
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
    assert parse("other", labels) == "(other)"  # no label but this one is these letters
    assert parse("It is other.", labels) is NO_ANSWER


def test_the_longer_label_is_the_longer_one_as_it_is_compared() -> None:
    # U+33A9 is written as one letter, and compared as "mpa"
    assert parse("10 MPa now", ("pa now", "㎩ now", "10 ㎫ now")) == "10 ㎫ now"


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "not ",
            "no, ",
            "if a ",
            "normal ",
            "normal? ",
            "not normal, ",
            "vague-",
            "label is normal ",
            "answer: ",
            "(",
        ),
        *("<think>", "</think>", "\\boxed{", '"a": ', "不", "option ", "1.", "-", "_", "'", "\n", ", normal or "),
    ],
)
def test_time_grows_with_the_text_and_not_faster(piece: str) -> None:
    began = time.perf_counter()
    assert parse(piece * (100_000 // len(piece)), SMARTHOME) in {NO_ANSWER, "Normal"}
    assert time.perf_counter() - began < 10  # some 0.1 s; what grows with the square takes minutes


def test_many_labels_are_told_apart() -> None:
    labels = [f"playing instrument {number}" for number in range(400)]
    assert parse("It is playing-instrument-71.", labels) == labels[71]
    assert parse("It is playing instrument 7 or playing instrument 71.", labels) is NO_ANSWER


@pytest.mark.parametrize(
    ("text", "body", "label"),
    [
        ("A man waits.\n\nAnswer: Abnormal", "A man waits.", "Abnormal"),
        ("A man waits.\n**Answer:** vague abnormal.", "A man waits.", "Vague Abnormal"),
        ("A man waits.\nＡｎｓｗｅｒ：Normal\n\n", "A man waits.", "Normal"),
        ("Answer: Normal", "", "Normal"),
        ("A man waits.\nAnswer: Normal or Abnormal", "A man waits.", NO_ANSWER),
        ("A man waits.\nAnswer: the man leaves", "A man waits.", NO_ANSWER),
        ("Answer: Normal\nA man waits.", "Answer: Normal\nA man waits.", NO_ANSWER),  # it is not the last line
        ("A man waits. Answer: Normal", "A man waits. Answer: Normal", NO_ANSWER),  # it has no line of its own
        ("", "", NO_ANSWER),
    ],
)
def test_a_conclusion_is_the_last_line(text: str, body: str, label: str | None) -> None:
    assert conclusion(text, SMARTHOME) == (body, label)


@given(st.text(max_size=60), st.sampled_from(SMARTHOME))
@settings(max_examples=100, deadline=None)
def test_a_text_and_its_conclusion_come_apart_again(text: str, label: str) -> None:
    assert conclusion(f"{text}\n\nAnswer: {label}", SMARTHOME) == (text.rstrip(), label)
