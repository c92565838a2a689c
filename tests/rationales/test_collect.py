"""rationales: logs as lmms-eval writes them -> rows of stage 1, and every reason to leave one out."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from builders import prepared_sample, read_jsonl, write_prepared

from rbft_plugin.cli.terminal import print_collection
from rbft_plugin.data.prepared import PreparedSample, TrainingRow, read_training_rows
from rbft_plugin.data.prompts import CONCLUSION
from rbft_plugin.errors import RbftError
from rbft_plugin.rationales import collect as rationales
from rbft_plugin.rationales.collect import Collection, Conclusions, Dropped
from rbft_plugin.spec.filters import Filters

TASK = "rbft_mine_rationale"
ASKED = f"Why?\n\n{CONCLUSION}"


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a prepared training split of four samples."""
    monkeypatch.chdir(tmp_path)
    write_prepared(train=[train_sample(name) for name in "abcd"])
    return tmp_path


def train_sample(name: str) -> PreparedSample:
    return prepared_sample(name, None if name == "d" else "calm", video=f"{name}.mp4")


def write_jsonl(path: str, rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    Path(path).write_text(text, encoding="utf-8")


def sample(number: int, name: str, text: str, tokens: int = 12, **changes: Any) -> dict[str, Any]:
    """A line of a log, with the keys of lmms-eval 0.7.3; None removes one."""
    line = {
        "doc_id": number,
        "target": name,
        "filtered_resps": text,
        "token_counts": [{"input_tokens": 70, "output_tokens": tokens}],
        "doc_hash": "74234e98",
        "sample_id": name,
        "words": 10.0,
        "input": "Why?",
    }
    return {k: v for k, v in (line | changes).items() if v is not None}


def write_log(*lines: dict[str, Any], folder: str = "out/demo__base", limit: int | None = 50, task: str = TASK) -> Path:
    """A log and the results beside it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    log = Path(folder, f"20260101_000000_samples_{task}.jsonl")
    write_jsonl(str(log), list(lines))
    kwargs = {"do_sample": False, "until": []} | ({"max_new_tokens": limit} if limit else {})
    results = {"configs": {task: {"generation_kwargs": kwargs}}}
    Path(folder, "20260101_000000_results.json").write_text(json.dumps(results), encoding="utf-8")
    return log


def good(*but: str) -> list[dict[str, Any]]:
    """Lines of the samples a, b, c and d."""
    return [sample(i, name, f"A person {name} walks past.") for i, name in enumerate("abcd") if name not in but]


def row(name: str, text: str) -> TrainingRow:
    return TrainingRow(name, "<video>Why?", text, f"{name}.mp4")


def said(output: str = "out") -> str:
    with pytest.raises(RbftError) as raised:
        rationales.collect(Path(output))
    return str(raised.value)


def test_rows_ask_what_was_asked_and_answer_what_was_written(prepared: Path) -> None:
    write_log(*good("a"), sample(0, "a", "  A dog barks.\n\nIt leaves. ", input="What then?"))
    collection = rationales.collect(Path("out"))
    assert (collection.dataset, collection.mode, collection.dropped, collection.uncounted) == ("mine", "plain", [], 0)
    assert collection.rows[0] == row("b", "A person b walks past.")
    assert collection.rows[3].as_json()["messages"] == [
        {"role": "user", "content": "<video>What then?"},
        {"role": "assistant", "content": "A dog barks.\n\nIt leaves."},
    ]


def test_a_log_without_the_question_is_taken_to_ask_the_prepared_one() -> None:
    write_log(*good("a"), sample(0, "a", "A dog barks.", input=None))
    assert rationales.collect(Path("out")).rows[3] == row("a", "A dog barks.")


def test_the_text_is_the_one_before_thoughts_were_stripped_and_however_deep_it_lies() -> None:
    deep = sample(0, "a", "Stripped.", resps=[["<think>It walks.</think> It is a dog."]])
    write_log(*good("a"), deep)
    assert rationales.collect(Path("out")).rows[3].answer == "<think>It walks.</think> It is a dog."


def test_of_several_texts_of_a_video_the_first_is_used_and_the_others_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_log(*good("a"), sample(0, "a", "It walks.", resps=["It walks by.", "It runs by.", "It sits there."]))
    collection = rationales.collect(Path("out"))
    assert collection.rows[3] == row("a", "It walks by.") and collection.further == 2
    print_collection(collection)
    assert capsys.readouterr().out == (
        "mine: 4 of 4 rationales kept\n  2 further texts are not used, only the first of each video (--repeats)\n"
    )


def test_a_log_may_be_named_itself() -> None:
    log = write_log(*good())
    write_log(*good(), folder="out/other")
    assert len(rationales.collect(log).rows) == 4


def reasons(collection: Collection) -> dict[str, list[str]]:
    return {reason: [one.id for one in dropped] for reason, dropped in collection.by_reason().items()}


def test_what_is_left_out_is_listed_by_reason_with_its_text() -> None:
    lines = [
        sample(0, "a", " \n"),
        sample(1, "b", "It walks and", tokens=50),
        sample(2, "c", "no " * 4),
        sample(3, "d", "See <video> here."),
    ]
    write_log(*lines)
    collection = rationales.collect(Path("out"))
    assert collection.rows == []
    assert collection.dropped == [
        Dropped("a", "empty", ""),
        Dropped("b", "truncated", "It walks and"),
        Dropped("c", "repetitive", "no no no no"),
        Dropped("d", "markup", "See <video> here."),
    ]
    assert list(collection.by_reason()) == ["empty", "markup", "truncated", "repetitive"]  # the order of REASONS


def test_filters_are_those_that_were_chosen() -> None:
    write_log(*good("a", "b"), sample(0, "a", "It walks and", tokens=50), sample(1, "b", "Yes."))
    assert reasons(rationales.collect(Path("out"))) == {"truncated": ["a"], "short": ["b"]}
    assert reasons(rationales.collect(Path("out"), Filters(keep=("truncated",), min_words=1))) == {}


def test_samples_that_the_log_does_not_have_are_counted() -> None:
    write_log(*good("b", "d"))
    collection = rationales.collect(Path("out"))
    assert [r.id for r in collection.rows] == ["a", "c"]
    assert collection.dropped == [Dropped(i, "missing", None) for i in "bd"]


def test_a_hinted_rationale_is_learnt_without_the_hint_and_what_has_no_label_is_counted() -> None:
    write_log(
        *(sample(0, "a", "A dog is calm.", input="It is calm. Why?"), sample(1, "b", "The class is calm, so.")),
        task="rbft_mine_rationale_hinted",
    )
    collection = rationales.collect(Path("out"))
    assert (collection.dataset, collection.mode) == ("mine", "hinted")
    assert collection.rows == [row("a", "A dog is calm.")]  # asks "Why?"
    assert reasons(collection) == {"leak": ["b"], "unlabelled": ["d"], "missing": ["c"]}


def test_in_a_plain_rationale_a_conclusion_is_no_leak() -> None:
    write_log(*good("b"), sample(1, "b", "The class is calm, so."))
    assert rationales.collect(Path("out")).dropped == []


def test_generations_one_token_below_the_limit_are_whole() -> None:
    write_log(*good("a", "b"), sample(0, "a", "It walks by.", tokens=49), sample(1, "b", "It runs by.", tokens=51))
    assert reasons(rationales.collect(Path("out"))) == {"truncated": ["b"]}


@pytest.mark.parametrize("counts", [None, [], [None], [{}], [{"input_tokens": 70}]])
def test_texts_without_a_count_of_tokens_are_counted(counts: Any) -> None:
    write_log(*good("a"), sample(0, "a", "It walks by", token_counts=counts))
    collection = rationales.collect(Path("out"))
    assert (len(collection.rows), collection.uncounted) == (4, 1)


def test_of_a_log_whose_limit_is_not_known_no_text_is_known_to_be_whole() -> None:
    log = write_log(*good(), limit=None)
    assert rationales.collect(log).uncounted == 4
    log.with_name("20260101_000000_results.json").unlink()
    assert rationales.collect(log).uncounted == 4


def test_several_logs_are_refused_and_listed() -> None:
    first, second = write_log(*good(), folder="out/one"), write_log(*good(), folder="out/two")
    assert said() == (
        "out: needs one log of rationales (*_samples_rbft_*.jsonl); name the one that you mean. There are:\n"
        f"  - {first}\n  - {second}"
    )


def test_no_log_is_refused() -> None:
    Path("out").mkdir()
    Path("out/20260101_000000_samples_rbft_mine.jsonl").touch()  # answers, not rationales
    text = (
        "needs one log of rationales (*_samples_rbft_*.jsonl); was lmms-eval run with --log_samples, and did it "
        "finish? There are:\n  - none"
    )
    assert said() == f"out: {text}"
    for other in ("out/20260101_000000_samples_rbft_mine.jsonl", "data/mine/train.jsonl"):
        assert said(other) == f"{other}: {text}"
    assert said("nowhere") == "nowhere: no such file or folder"


def test_a_log_of_other_samples_is_refused() -> None:
    log = write_log(*good(), sample(4, "z", "It walks."))
    assert said() == (
        f"{log}: it has samples that are not in the training split, such as 'z'; was mine prepared anew since? "
        "Generate again"
    )


def test_a_log_that_has_a_sample_twice_is_refused() -> None:
    log = write_log(*good(), sample(4, "a", "It walks."))
    assert said() == f"{log}: it has samples twice; was mine prepared anew since? Generate again"


def test_a_log_of_a_dataset_that_is_not_prepared_is_refused() -> None:
    write_log(*good())
    Path("data/mine/manifest.json").unlink()
    assert said() == "data/mine/manifest.json is missing: run `rbft prepare mine` first"


DROPPED = [Dropped("b", "empty", "")]
ROWS = Collection("mine", "plain", [row("a", "Ä dog.")], DROPPED)


def test_rows_and_what_was_left_out_are_written_side_by_side() -> None:
    assert rationales.write(ROWS, Path("data/mine")) == Path("data/mine/rationale.jsonl")
    assert read_training_rows(Path("data/mine/rationale.jsonl")) == ROWS.rows
    assert read_jsonl("data/mine/rationale.dropped.jsonl") == [asdict(one) for one in DROPPED]
    assert not Path("data/mine/dataset_info.json").exists()  # dataset_info/dataset_info.json names it


def test_a_folder_of_ones_own_gets_a_registration_of_its_own() -> None:
    rationales.write(ROWS, Path("runs/r/rows"))
    info = json.loads(Path("runs/r/rows/dataset_info.json").read_text(encoding="utf-8"))
    assert {name: entry["file_name"] for name, entry in info.items()} == {"mine_rationale": "rationale.jsonl"}


def test_rows_of_another_generation_are_never_overwritten_unasked() -> None:
    target = rationales.write(ROWS, Path("data/mine"))
    rationales.write(ROWS, Path("data/mine"))  # the same rows again are no harm
    before = target.read_bytes()
    other = Collection("mine", "plain", [row("a", "A cat.")], [])
    with pytest.raises(RbftError) as raised:
        rationales.write(other, Path("data/mine"))
    assert str(raised.value) == (
        "data/mine/rationale.jsonl holds rows of another generation; give --overwrite to replace them, or --rows DIR"
    )
    assert target.read_bytes() == before
    assert read_jsonl("data/mine/rationale.dropped.jsonl") == [asdict(one) for one in DROPPED]
    rationales.write(other, Path("data/mine"), overwrite=True)
    assert read_training_rows(target) == other.rows


def test_no_rows_at_all_are_not_written() -> None:
    with pytest.raises(RbftError) as raised:
        rationales.write(Collection("mine", "plain", [], DROPPED), Path("data/mine"))
    assert str(raised.value) == "mine: no rationale is left to train on; see the counts above"
    assert not Path("data/mine/rationale.jsonl").exists()


def test_collected_rows_are_rows_that_training_takes() -> None:
    from rbft_plugin.llamafactory.checks import row_problems

    write_log(*good())
    for name in "abcd":
        Path(f"{name}.mp4").touch()
    assert row_problems(row.as_json() for row in rationales.collect(Path("out")).rows) == []


def concluding(*conclusions: str | None) -> list[dict[str, Any]]:
    """Lines of a, b, c (calm) and d (no label) that were asked for a conclusion, and have these."""
    texts = [f"A person {name} walks past." for name in "abcd"]
    ends = [f"\n\nAnswer: {end}" if end else "" for end in conclusions]
    return [
        sample(i, name, text + end, input=ASKED)
        for i, (name, text, end) in enumerate(zip("abcd", texts, ends, strict=True))
    ]


def conclusions(counts: tuple[int, int, int, int], classes: dict[str, int], kept: dict[str, int]) -> Conclusions:
    """Of the samples with a label: how many, how many right; the same of those kept. Then by concluded class."""
    labelled, right, labelled_kept, right_kept = counts
    return Conclusions(
        labelled=labelled,
        right=right,
        labelled_kept=labelled_kept,
        right_kept=right_kept,
        classes=classes,
        classes_kept=kept,
    )


def test_a_summary_is_written_beside_the_rows(prepared: Path) -> None:
    write_log(*concluding("calm", "busy", None, "busy"))
    rationales.write(rationales.collect(Path("out"), Filters(right=True)), Path("runs/r/rows"))
    assert json.loads(Path("runs/r/rows/rationale.summary.json").read_text()) == {
        "mode": "plain",
        "written": 4,
        "kept": 2,
        "dropped": {"wrong": 2},
        "conclusions": {
            **{"labelled": 3, "right": 1, "labelled_kept": 1, "right_kept": 1},
            **{"classes": {"busy": 2, "calm": 1}, "classes_kept": {"calm": 1, "busy": 1}},
        },
    }


def test_a_conclusion_is_taken_off_and_no_longer_asked_for(prepared: Path) -> None:
    write_log(*concluding("calm", "**Busy**.", "calm or busy", None))
    collection = rationales.collect(Path("out"))
    assert collection.rows == [row(name, f"A person {name} walks past.") for name in "abcd"]
    assert collection.conclusions == conclusions((3, 1, 3, 1), {"calm": 1, "busy": 1}, {"calm": 1, "busy": 1})
    kept = rationales.collect(Path("out"), Filters(conclusion="keep")).rows
    assert [one.answer.partition("past.")[2] for one in kept] == ["\n\nAnswer: calm", "\n\nAnswer: busy", "", ""]
    assert {one.message for one in kept} == {f"<video>{ASKED}"}


def test_rationales_are_selected_by_their_conclusions(prepared: Path) -> None:
    write_log(*concluding("calm", "busy", None, "busy"))
    only = rationales.collect(Path("out"), Filters(concluded=True))
    assert [one.id for one in only.rows] == ["a", "b", "d"]
    assert [(one.id, one.reason) for one in only.dropped] == [("c", "unconcluded")]
    right = rationales.collect(Path("out"), Filters(right=True))
    assert [one.id for one in right.rows] == ["a", "d"]  # d has no label
    assert [(one.id, one.reason) for one in right.dropped] == [("b", "wrong"), ("c", "wrong")]
    assert right.conclusions == conclusions((3, 1, 1, 1), {"busy": 2, "calm": 1}, {"calm": 1, "busy": 1})


def test_what_conclusions_say_is_printed(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_log(*concluding("calm", "busy", "busy", None))
    print_collection(rationales.collect(Path("out"), Filters(right=True)))
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "  conclusions that are the label: 1 of 3 (33.3 %) of all written, 1 of 1 (100.0 %) of those kept",
        "  kept by conclusion: busy 0 of 2, calm 1 of 1",
        "  warning: of 'busy', none of 2 are kept",
    ]


@pytest.mark.parametrize("filters", [Filters(right=True), Filters(concluded=True)])
def test_without_a_request_there_is_nothing_to_select_by(prepared: Path, filters: Filters) -> None:
    log = write_log(*good())
    with pytest.raises(RbftError) as raised:
        rationales.collect(Path("out"), filters)
    assert str(raised.value) == (
        f"{log}: the prompt of 'a' asks for no conclusion, so the filters `right` and `concluded` have nothing to "
        "read; have {conclusion} in prompts.rationale of the dataset's YAML, and generate again"
    )
