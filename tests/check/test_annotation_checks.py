"""doubts: what is said of counts, names, groups and texts, from samples made by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from builders import small_yaml

from rbft_plugin.check import annotation_checks as doubts
from rbft_plugin.data.annotations import Sample
from rbft_plugin.errors import Finding
from rbft_plugin.spec.dataset import Dataset


def lines(findings: list[Finding]) -> list[str]:
    return [f"{f.level} {f.kind}: {f}" for f in findings]


# --- classes ---


def test_classes_that_lack_samples_or_have_few() -> None:
    table = {
        "train": {"calm": 0, "busy": 4, "odd": 5},
        "val": {"calm": 0, "busy": 0, "odd": 0},
        "test": {"calm": 4, "busy": 0, "odd": 5},
    }
    assert lines(doubts.classes(table, ["calm", "busy", "odd"])) == [
        "error no-sample: label 'calm': has no sample in split 'train'",
        "error no-sample: label 'busy': has no sample in split 'test'",
        "warning few-samples: label 'calm': has 4 test samples: if all were right, its recall's 95 % interval "
        "would begin at 51%",
        "warning few-samples: label 'busy': has 4 training samples: few to learn a class from",
    ]


def test_with_folds_a_class_needs_samples_outside_of_each_fold() -> None:
    table = {
        "train": {"calm": 0, "busy": 0, "odd": 0},
        "fold0": {"calm": 5, "busy": 6, "odd": 0},
        "fold1": {"calm": 4, "busy": 0, "odd": 0},
    }
    outside = "has no sample outside of one fold, so the models that are tested on that fold cannot know it"
    assert lines(doubts.classes(table, ["calm", "busy", "odd"])) == [
        f"error no-sample: label 'busy': {outside}",
        f"error no-sample: label 'odd': {outside}",
        "error no-sample: label 'odd': has no sample in any fold",
        "warning few-samples: label 'calm': has 4 training samples: few to learn a class from",
    ]


def test_the_interval_is_wilsons() -> None:
    from scipy.stats import binomtest

    for n in range(1, doubts.FEW_SAMPLES):
        table = {"train": {"a": 9}, "val": {"a": 0}, "test": {"a": n}}
        low = binomtest(n, n).proportion_ci(method="wilson").low
        (finding,) = doubts.classes(table, ["a"])
        assert finding.text.startswith(f"has {n} test sample{'s' if n > 1 else ''}: ")
        assert finding.text.endswith(f"would begin at {low:.0%}")


# --- names ---

ADVICE = "; score by likelihood too (`ll` in evaluation.tasks), which reads no text"


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["Normal", "Theft"], []),
        (
            ["Abnormal", "Vague Abnormal"],
            [
                "warning label-names: label 'Abnormal': is a part of 'Vague Abnormal': a model that shortens the "
                f"longer name gives another answer{ADVICE}"
            ],
        ),
        (
            ["normal", "Abnormal"],
            [
                "note label-names: label 'normal': is a part of a word of 'Abnormal': answers are read by whole words, "
                "so neither is taken for the other"
            ],
        ),
        (
            ["car crash", "Carcrash", "fire"],
            [
                "warning label-names: label 'Carcrash': differs from 'car crash' only in where a word ends: one slip "
                f"in an answer makes it the other{ADVICE}"
            ],
        ),
        (
            ["交通", "交通事故"],  # no spaces between words, so no boundary tells them apart
            [
                "warning label-names: label '交通': is a part of '交通事故': a model that shortens the longer name "
                f"gives another answer{ADVICE}"
            ],
        ),
        (
            ["Theft", "None"],
            [
                "note label-names: label 'None': is a word of ordinary text, which an answer may use in another "
                f"sense{ADVICE}"
            ],
        ),
    ],
)
def test_names_that_an_answer_may_mix_up(labels: list[str], said: list[str]) -> None:
    assert lines(doubts.names(labels)) == said


# --- unused and groups ---


def test_values_that_no_row_has() -> None:
    assert lines(doubts.unused("annotations.drop", ("unclear", "Uncler"), Counter(["unclear", "calm"]))) == [
        "warning unused-value: annotations.drop: 'Uncler' is in no row"
    ]


def sample(number: int, split: str, label: str | None = "calm", group: str | None = None, **context: str) -> Sample:
    name = f"v{number}"
    return Sample(name, Path(f"{name}.mp4"), label, split, f"row {number}", group=group, context=tuple(context.items()))


def test_groups_across_splits_are_errors() -> None:
    given = [
        ("train", "a"),
        ("train", "a"),
        ("test", "a"),
        ("train", "b"),
        ("train", "b"),
        ("test", None),
        ("val", None),
    ]
    assert lines(doubts.groups([sample(i, split, group=group) for i, (split, group) in enumerate(given)])) == [
        "error group-across-splits: group 'a': is in train (2) and test (1): what is tested would have been trained on"
    ]


# --- leaks ---


def leaks(texts: list[tuple[str, str]], split: str = "train") -> list[str]:
    """What is said of these (text, label), shown as Title."""
    given = Dataset.model_validate(small_yaml(prompts={"context": {"Title": "title"}}))
    return lines(doubts.leaks(given, [sample(i, split, label, Title=t) for i, (t, label) in enumerate(texts)]))


def titles(own: int, other: int) -> list[tuple[str, str]]:
    """40 titles of each label, so many of calm and of busy with the word Calm."""
    calm = [(f"A Calm evening {i}" if i < own else f"An evening {i}", "calm") for i in range(40)]
    return calm + [(f"So calm {i}" if i < other else f"A calming, uncalm street {i}", "busy") for i in range(40)]


NAMED = (
    "warning leak: prompts.context.Title (column 'title'): names its own class in {} of 40 training texts of 'calm', "
    "and in {} of 40 of the others: was it written by somebody who knew the label?"
)


@pytest.mark.parametrize(
    ("own", "other", "leak"),
    [
        (40, 0, True),
        (10, 0, True),
        (9, 0, False),  # chance alone does that in 1 of 900 cases
        (24, 8, True),
        (24, 9, False),  # not three times as many
        (4, 0, False),
        (0, 40, False),
    ],
)
def test_texts_that_name_their_own_class_more_often_than_others(own: int, other: int, leak: bool) -> None:
    assert leaks(titles(own, other)) == ([NAMED.format(own, other)] if leak else [])


def test_only_the_training_split_is_judged() -> None:
    assert leaks(titles(40, 0), "test") == []


def cameras(*counts: tuple[str, str, int]) -> list[tuple[str, str]]:
    return [(value, label) for value, label, n in counts for _ in range(n)]


def test_a_value_that_alone_tells_the_label() -> None:
    told = cameras(("yard", "calm", 30), ("door", "busy", 27), ("door", "calm", 3))
    assert leaks(told) == [
        "warning leak: prompts.context.Title (column 'title'): alone tells the label of 57 of 60 training samples; "
        "always 'calm' is right for 33"
    ]
    assert leaks(cameras(("yard", "calm", 30), ("door", "busy", 20), ("door", "calm", 10))) == []
    assert leaks(cameras(("yard", "calm", 60))) == []
    assert leaks([(f"title {i}", ("calm", "busy")[i % 2]) for i in range(60)]) == []  # each its own
    assert leaks(cameras(("yard", "calm", 95), ("door", "busy", 5), ("door", "calm", 5))) == []  # as good as guessing
