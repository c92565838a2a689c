"""evaluation: lmms-eval's command line, and files as it leaves them, whole and broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rbft_plugin.errors import RbftError
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.lmms_eval.evaluation import EvaluationRow
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.spec.recipe import EvaluationSettings

STAMP = "20260101_000000"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def line(name: str, prediction: str | None = "calm", **changes: Any) -> dict[str, Any]:
    return {
        "doc_id": 0,
        "sample_id": name,
        "prediction": prediction,
        "filtered_resps": f"It is {prediction}.",
    } | changes


def write_log(*lines: dict[str, Any], folder: str = "out/model", task: str = "rbft_mine") -> Path:
    """A log of samples and the results beside it."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    log = Path(folder, f"{STAMP}_samples_{task}.jsonl")
    log.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    results = {
        "configs": {task: {"generation_kwargs": {"max_new_tokens": 64, "until": []}}},
        "config": {"model": "rbft_vl", "model_args": "pretrained=Qwen/base"},
    }
    Path(folder, f"{STAMP}_results.json").write_text(json.dumps(results), encoding="utf-8")
    return log


def samples(*names: str) -> list[dict[str, Any]]:
    return [{"id": name, "label": "busy", "labels": ["calm", "busy"]} for name in names]


def test_the_command_line_names_model_task_and_output() -> None:
    assert evaluation.argv(Checkpoint("Qwen/base"), "rbft_mine", Path("runs/r/eval"), EvaluationSettings()) == [
        *("lmms-eval", "--model", "rbft_vl", "--model_args", "pretrained=Qwen/base", "--tasks", "rbft_mine"),
        *("--batch_size", "1", "--log_samples", "--output_path", "runs/r/eval"),
    ]


def test_model_arguments_join_those_of_the_checkpoint_and_options_get_their_dashes() -> None:
    given = EvaluationSettings(
        batch_size=8,
        model_args={"attn_implementation": "sdpa", "max_length": 100},
        args={
            "seed": 3,
            "force_simple": True,
            "write_out": False,
            "limit": None,
            "offset": 0,
            "gen_kwargs": "temperature=0",
        },
    )
    assert evaluation.argv(Checkpoint("b", ("x", "y")), "t", Path("o"), given) == [
        *("lmms-eval", "--model", "rbft_vl"),
        *("--model_args", "pretrained=b,adapters=x:y,attn_implementation=sdpa,max_length=100", "--tasks", "t"),
        *("--batch_size", "8", "--log_samples", "--output_path", "o"),
        *("--seed", "3", "--force_simple", "--offset", "0", "--gen_kwargs", "temperature=0"),
    ]


def test_samples_are_chosen_by_a_file_in_an_order_that_is_not_that_of_the_file() -> None:
    rows = Path("rows.jsonl")
    rows.write_text("".join(f'{{"id": "v{n}", "videos": []}}\n' for n in (9, 3, 3, 1, 2, 5, 4)), encoding="utf-8")
    ids = [f"v{n}" for n in range(8)]
    assert evaluation.chosen_samples(ids, rows) == ["v1", "v4", "v3", "v5", "v2"]
    assert evaluation.chosen_samples(reversed(ids), rows) == ["v1", "v4", "v3", "v5", "v2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("", "it names none of the 2 labelled samples of the split"),
        ('{"id": "x"}\n', "it names none of the 2 labelled samples of the split"),
        ('{"id": "a"}\n{"sample": "b"}\n', "row 2 has no 'id'"),
        ('"a"\n', "row 1 has no 'id'"),
    ],
)
def test_a_file_that_chooses_no_samples_is_refused(content: str | None, message: str) -> None:
    rows = Path("rows.jsonl")
    if content is not None:
        rows.write_text(content, encoding="utf-8")
    with pytest.raises(RbftError) as raised:
        evaluation.chosen_samples(["a", "b"], rows)
    assert str(raised.value) == f"RBFT_SAMPLES: rows.jsonl: {message}"


def test_logs_are_found_at_any_depth_and_answers_told_from_rationales() -> None:
    answers = [write_log(folder="out/a/b"), write_log(folder="out/c", task="rbft_other")]
    texts = write_log(folder="out/a", task="rbft_mine_rationale")
    write_log(folder="out/d", task="mmmu_val")
    Path("out/notes.jsonl").touch()
    assert evaluation.sample_logs(Path("out")) == answers
    assert evaluation.sample_logs(Path("out"), "rationales") == [texts]
    assert evaluation.sample_logs(Path("nowhere")) == []


def test_the_one_log_is_taken_and_a_log_may_be_named_itself() -> None:
    log = write_log(line("a"))
    write_log(folder="out", task="rbft_mine_rationale")
    assert evaluation.only_log(Path("out")) == log
    assert evaluation.only_log(log) == log


def test_several_logs_or_none_are_refused() -> None:
    logs = [write_log(folder="out/a"), write_log(folder="out/b", task="rbft_other")]
    with pytest.raises(RbftError) as raised:
        evaluation.only_log(Path("out"))
    assert str(raised.value) == (
        "out: needs one log of answers (*_samples_rbft_*.jsonl); name the one that you mean. There are:\n"
        f"  - {logs[0]}\n  - {logs[1]}"
    )
    with pytest.raises(RbftError) as raised:
        evaluation.only_log(Path("out/a"), "rationales")
    assert str(raised.value) == (
        "out/a: needs one log of rationales (*_samples_rbft_*.jsonl); was lmms-eval run with --log_samples, and did it "
        "finish? There are:\n  - none"
    )


def test_a_file_that_is_no_log_is_refused_as_such() -> None:
    write_log(line("a"))
    results = Path(f"out/model/{STAMP}_results.json")
    with pytest.raises(RbftError, match=r"_results\.json: needs one log of answers "):
        evaluation.only_log(results)
    with pytest.raises(RbftError, match=r"_results\.json: needs one log of rationales "):
        evaluation.only_log(results, "rationales")
    with pytest.raises(RbftError) as raised:
        evaluation.only_log(Path("nowhere"))
    assert str(raised.value) == "nowhere: no such file or folder"


@pytest.mark.parametrize("task", ["rbft_mine", "rbft_mine_rationale", "rbft_my_samples_of_dogs"])
def test_a_log_names_its_task(task: str) -> None:
    log = write_log(task=task)
    assert evaluation.task_of(log) == task
    assert evaluation.generation_settings(log) == {"max_new_tokens": 64, "until": []}
    assert evaluation.model_args(log) == "pretrained=Qwen/base"


def test_without_results_beside_a_log_nothing_is_known_of_its_settings() -> None:
    log = write_log()
    log.with_name(f"{STAMP}_results.json").unlink()
    assert (evaluation.generation_settings(log), evaluation.model_args(log)) == ({}, "")


def test_an_evaluation_of_every_sample_has_no_problem() -> None:
    write_log(line("a"), line("b"))
    write_log(task="rbft_mine_rationale")
    assert evaluation.output_problems(Path("out"), "rbft_mine", ["b", "a"]) == []


def test_an_evaluation_that_left_no_files_or_too_many_is_told() -> None:
    assert evaluation.output_problems(Path("out"), "rbft_mine", ["a"]) == [
        "it left 0 logs of samples and 0 files of results"
    ]
    log = write_log(line("a"))
    log.with_name(f"{STAMP}_results.json").unlink()
    assert evaluation.output_problems(Path("out"), "rbft_mine", ["a"]) == [
        "it left 1 logs of samples and 0 files of results"
    ]
    write_log(line("a"), folder="out/other")
    assert evaluation.output_problems(Path("out"), "rbft_mine", ["a"]) == [
        "it left 2 logs of samples and 1 files of results"
    ]


def test_an_evaluation_of_too_few_or_too_many_samples_is_told() -> None:
    write_log(line("a"), line("c"))
    assert evaluation.output_problems(Path("out"), "rbft_mine", ["a", "b", "c", "d"]) == [
        "it logged 2 of 4 samples; missing: b, d"
    ]
    assert evaluation.output_problems(Path("out"), "rbft_mine", ["a"]) == ["it logged 2 of 1 samples"]
    write_log(line("a"), line("b"), line("a"))
    assert evaluation.output_problems(Path("out"), "rbft_mine", ["a", "b"]) == ["it logged 3 of 2 samples"]
    write_log(line("a"), line("a"))
    assert evaluation.output_problems(Path("out"), "rbft_mine", ["a", "b"]) == ["it logged 2 of 2 samples; missing: b"]


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"resps": [["a"]], "filtered_resps": "b"}, "a"),
        ({"resps": "a"}, "a"),
        ({"filtered_resps": ["b"]}, "b"),
        ({"resps": []}, ""),
        ({"resps": [[]]}, ""),
        ({"resps": None}, ""),
        ({}, ""),
    ],
)
def test_the_text_of_an_answer_is_the_raw_one_where_it_is_logged(row: dict[str, Any], text: str) -> None:
    (read,) = evaluation.read_log(write_log(row))
    assert read.answer == text


def test_a_log_is_read_as_typed_rows() -> None:
    full = {
        **line("a", None, doc_id=3, target="calm", input="Which?", resps=["It is.", "Calm.", "Busy."]),
        "token_counts": [None, {"output_tokens": 7}],
        "probabilities": {"calm": 0.25, "busy": 0.75},
    }
    assert evaluation.read_log(write_log(full, {"doc_id": 0, "target": "B", "resps": [["B"]]})) == [
        EvaluationRow(
            sample_id="a",
            doc_id=3,
            target="calm",
            prompt="Which?",
            answer="It is.",
            further_answers=2,
            output_tokens=7,
            predicted=True,
            prediction=None,
            rule=None,
            probabilities={"calm": 0.25, "busy": 0.75},
        ),
        EvaluationRow(None, 0, "B", None, "B", 0, None, False, None, None, None),
    ]
