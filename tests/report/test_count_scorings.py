"""The report's notes on how often the test split was scored, and the lines that it adds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from builders import prepared_sample, read_jsonl, write_prepared

from rbft_plugin.report.count_scorings import notes

FILE = "data/mine/test_scorings.jsonl"


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder with a prepared test split of two samples."""
    monkeypatch.chdir(tmp_path)
    write_prepared(test=[prepared_sample("a", "calm"), prepared_sample("b", "busy")])


def score(folder: str, start: str = "20260101_000000", task: str = "rbft_mine", answer: str = "calm") -> Path:
    """The log of an evaluation of both samples."""
    log = Path(folder, f"{start}_samples_{task}.jsonl")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(json.dumps({"sample_id": one, "prediction": answer}) + "\n" for one in "ab"))
    return log


def said(text: str) -> list[str]:
    return [f"The test split of mine has been scored {text}"]


def test_logs_without_a_line_get_one_and_copies_count_once() -> None:
    first = score("runs/r/zero_shot/seed-0/eval/base")
    second = score("runs/r/rbft/seed-0/eval/label", "20260101_000001")  # another model that answers the same
    both = said("2 times in this workspace, by 1 run; this report shows all of them.")
    assert notes("mine", [first, second]) == both
    assert [row["log"] for row in read_jsonl(FILE)] == [first.as_posix(), second.as_posix()]
    shutil.copytree("runs/r", "copy")
    copied = [Path("copy", log.relative_to("runs/r")) for log in (first, second)]
    assert notes("mine", copied) == said("2 times in this workspace, by 1 run; this report shows all of them.")
    assert notes("mine", [first, copied[0]]) == said(
        "2 times in this workspace, by 1 run; this report shows 1 of them."
    )
    by_hand = score("OUT", "20260101_000002")
    assert notes("mine", [by_hand]) == said(
        "3 times in this workspace: 2 times by 1 run and once by hand; this report shows 1 of them."
    )
    assert len(read_jsonl(FILE)) == 3


def test_likelihoods_of_the_same_start_are_the_same_scoring() -> None:
    answers, likelihoods = score("OUT"), score("OUT", task="rbft_mine_ll")
    expected = said("once in this workspace, by hand; this report shows this one.")
    assert notes("mine", [likelihoods]) == notes("mine", [answers]) == expected
    assert [row["task"] for row in read_jsonl(FILE)] == ["rbft_mine"]


def test_a_log_of_another_task_counts_too() -> None:
    log = score("gpt", start="gpt", task="theirs")
    assert notes("mine", [log]) == said("once in this workspace, by hand; this report shows this one.")
    assert [(row["task"], row["model"]) for row in read_jsonl(FILE)] == [("theirs", "")]


def test_scorings_of_a_split_with_other_labels_are_counted_apart() -> None:
    old = score("OUT")
    notes("mine", [old])
    write_prepared(test=[prepared_sample("b", "busy"), prepared_sample("a", "calm")])
    assert notes("mine", [old]) == said("once in this workspace, by hand; this report shows this one.")
    write_prepared(test=[prepared_sample("a", "calm"), prepared_sample("b", "calm")])
    assert notes("mine", [score("NEW", "20260101_000001")]) == [
        *said("once in this workspace, by hand; this report shows this one."),
        "Scorings of other versions of this test split (other samples or labels), not counted: 1.",
    ]


def test_damaged_lines_are_said_and_spoil_no_other() -> None:
    notes("mine", [score("ONE")])
    with Path(FILE).open("a") as file:
        file.write('{"test": 1}\n\n{"test": "cut o')
    for _ in range(2):
        assert notes("mine", [score("TWO", "20260101_000001")]) == [
            *said("2 times in this workspace, by hand; this report shows 1 of them."),
            f"Damaged lines of {FILE}, not counted: 2, 3, 4.",
        ]


def test_a_file_that_cannot_be_written_is_said() -> None:
    Path(FILE).mkdir()
    assert notes("mine", [score("ONE")]) == [
        f"It is not known how often the test split was scored: {FILE}: Is a directory."
    ]
