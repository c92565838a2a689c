"""The form of messages."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rbft_plugin.errors import Finding, ProblemsError, RbftError, escaped, first_line, lines, one_line, shortened


def test_one_problem_is_singular_and_stands_below_its_file() -> None:
    error = ProblemsError(Path("dataset_info/mine.yaml"), ["labels: missing"])
    assert str(error) == "dataset_info/mine.yaml: 1 problem\n  - labels: missing"
    assert isinstance(error, RbftError) and error.problems == ["labels: missing"]


def test_all_problems_are_listed_and_the_hint_comes_last() -> None:
    error = ProblemsError("step", ("first", "second"), "Do this.")
    assert str(error) == "step: 2 problems\n  - first\n  - second\nDo this."


def test_broken_unicode_of_a_user_can_be_printed() -> None:
    assert str(RbftError("no such id: '\ud800é'")) == "no such id: '\\ud800é'"


@pytest.mark.parametrize(
    ("items", "text"),
    [
        ([], ""),
        ([1], "1"),
        (list("abcde"), "a, b, c, d, e"),
        (list("abcdef"), "a, b, c, d, e and 1 more"),
        (range(100), "0, 1, 2, 3, 4 and 95 more"),
    ],
)
def test_a_long_list_is_shortened(items: list[object], text: str) -> None:
    assert shortened(items) == text


def test_how_many_items_stay_can_be_said() -> None:
    assert shortened(["a", "b", "c"], 2) == "a, b and 1 more"


@given(st.lists(st.integers(0, 9)), st.integers(1, 8))
def test_a_shortened_list_accounts_for_every_item(items: list[int], most: int) -> None:
    listed, _, more = shortened(items, most).partition(" and ")
    count = len(listed.split(", ")) if listed else 0
    assert count == min(len(items), most)
    assert count + int(more.removesuffix(" more") or 0) == len(items)


def test_the_first_line_of_an_error_is_never_empty() -> None:
    assert first_line(ValueError("\n  wrong \nand more")) == "wrong"
    assert first_line(ValueError("")) == "ValueError"
    assert first_line(ValueError("x" * 20), 5) == "xxxxx"


def test_a_text_on_one_line_has_nothing_that_a_terminal_acts_on() -> None:
    assert one_line("  a\n\tb\x1b[31m  夜\u2028c ") == "a b [31m 夜 c"
    assert escaped(" a\n\x1b[31m夜 ") == " a\\n\\x1b[31m夜 "


def test_findings_are_grouped_by_level_and_kind_and_each_group_is_shortened() -> None:
    found = [Finding("error", "missing", f"row {n}", "no file") for n in range(3)]
    found.insert(1, Finding("note", "missing", "here", "not checked"))
    assert lines(found, 2) == ["row 0: no file", "row 1: no file", "and 1 more of kind missing", "here: not checked"]
