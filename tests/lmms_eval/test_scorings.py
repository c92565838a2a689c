"""Lines of data/<name>/test_scorings.jsonl, as lmms-eval's own tracker of results makes us write them."""

from __future__ import annotations

import atexit
import inspect
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from builders import prepared_sample, read_jsonl, write_prepared

from rbft_plugin.lmms_eval import scorings, tasks

pytestmark = pytest.mark.torch

FILE = Path("data/mine/test_scorings.jsonl")
START = "20260101_000000"
Ends = list[Callable[[], None]]


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder with a prepared test split of two samples."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tasks, "workspaces", [Path()])
    write_prepared(test=[prepared_sample("b", "busy"), prepared_sample("a", "calm")])


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> Ends:
    """What the process has to do when it ends. lmms-eval's tracker is wrapped once, as in a process of lmms-eval."""
    from lmms_eval.loggers.evaluation_tracker import EvaluationTracker

    own = inspect.unwrap(EvaluationTracker.save_results_aggregated)
    monkeypatch.setattr(EvaluationTracker, "save_results_aggregated", own)
    scorings.install()
    found: Ends = []
    monkeypatch.setattr(atexit, "register", lambda function, *given: found.append(partial(function, *given)))
    return found


def save(*names: str, output: str | None = "OUT", logs: bool = True) -> None:
    """What lmms-eval does in its main process once a model has answered everything."""
    from lmms_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=output)
    tracker.general_config_tracker.log_experiment_args("rbft_vl", "pretrained=base", "", "", False)
    row = {"doc_hash": "", "arguments": [""], "resps": [["calm"]], "filtered_resps": ["calm"], "target": "calm"}
    rows = {name: [row | {"doc": {}, "sample_id": one} for one in "ab"] for name in names}
    results: dict[str, Any] = {
        "configs": dict.fromkeys(names),
        "config": {"model_args": "pretrained=base"},
        "n-samples": {name: {"original": 2, "effective": 2} for name in names},
    }
    tracker.save_results_aggregated(results=results, samples=rows if logs else None, datetime_str=START)
    for name in names if logs else ():
        tracker.save_results_samples(task_name=name, samples=rows[name])


def test_the_wrapped_method_has_the_signature_that_lmms_eval_calls() -> None:
    from lmms_eval.loggers.evaluation_tracker import EvaluationTracker

    method = inspect.unwrap(EvaluationTracker.save_results_aggregated)
    assert list(inspect.signature(method).parameters) == ["self", "results", "samples", "datetime_str"]


def test_a_start_on_the_test_split_leaves_one_line_when_the_process_ends(ends: Ends) -> None:
    save("rbft_mine_ll", "rbft_mine_novideo", "rbft_mine", "rbft_mine_val", "rbft_mine_rationale", "mme")
    assert len(ends) == 1 and not FILE.exists()  # as if it was killed before its end
    ends[0]()
    (line,) = read_jsonl(FILE)
    log = Path(f"OUT/base/{START}_samples_rbft_mine.jsonl")
    assert line == {
        "test": sha256(b'[["a", "calm"], ["b", "busy"]]').hexdigest()[:16],
        "scoring": sha256(START.encode() + log.read_bytes()).hexdigest()[:16],
        "task": "rbft_mine",
        "model": "pretrained=base",
        "log": log.as_posix(),
        "when": datetime.fromtimestamp(log.stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "samples": 2,
    }
    ends[0]()
    assert len(read_jsonl(FILE)) == 1


def test_other_splits_and_tasks_of_others_leave_no_line(ends: Ends) -> None:
    save("rbft_mine_val", "rbft_mine_ll_val", "rbft_mine_train", "rbft_mine_rationale", "mme")
    assert ends == []
    save("rbft_theirs")
    ends[0]()
    assert not FILE.exists() and not Path("data/theirs").exists()


def test_each_dataset_has_its_line(ends: Ends) -> None:
    write_prepared("other", test=[prepared_sample("c", "calm")])
    save("rbft_mine", "rbft_other_ll")
    for end in ends:
        end()
    assert [read_jsonl(f"data/{name}/{FILE.name}")[0]["task"] for name in ("mine", "other")] == [
        *("rbft_mine", "rbft_other_ll")
    ]


@pytest.mark.parametrize("output", ["OUT", None])
def test_a_scoring_without_a_log_leaves_a_line_too(ends: Ends, output: str | None) -> None:
    save("rbft_mine_ll", output=output, logs=False)
    ends[0]()
    (line,) = read_jsonl(FILE)
    assert (line["task"], line["model"], line["log"], line["samples"]) == ("rbft_mine_ll", "pretrained=base", None, 2)


def test_the_line_is_in_the_workspace_that_has_the_data(
    ends: Ends, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, elsewhere = Path.cwd(), tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setattr(tasks, "workspaces", [Path(), workspace])
    monkeypatch.chdir(elsewhere)
    save("rbft_mine")
    ends[0]()
    (line,) = read_jsonl(workspace / FILE)
    assert line["log"] == f"{elsewhere.as_posix()}/OUT/base/{START}_samples_rbft_mine.jsonl"


def test_a_line_that_cannot_be_written_is_a_warning(ends: Ends, capsys: pytest.CaptureFixture[str]) -> None:
    FILE.mkdir()
    save("rbft_mine")
    ends[0]()
    what = "this scoring of the test split of mine has no line in data/mine/test_scorings.jsonl"
    assert capsys.readouterr().err == f"rbft: {what} (Is a directory)\n"
    Path("data/mine/test.jsonl").write_text("{}\n")
    ends[0]()
    assert capsys.readouterr().err == f"rbft: {what} (KeyError: 'id')\n"


def test_results_of_another_form_are_a_warning(ends: Ends, capsys: pytest.CaptureFixture[str]) -> None:
    from lmms_eval.loggers import EvaluationTracker

    EvaluationTracker().save_results_aggregated(results={}, samples=None, datetime_str=START)
    assert ends == []
    assert capsys.readouterr().err == "rbft: a scoring of a test split is not counted (KeyError: 'configs')\n"


def test_processes_that_add_at_once_lose_no_line() -> None:
    code = """
import sys
from rbft_plugin.lmms_eval.scorings import Scoring, add
for number in range(20):
    add("mine", [Scoring(test="t", scoring=f"{sys.argv[1]} {number}", task="", model="", log=None, when="", samples=0)])
    add("mine", [Scoring(test="t", scoring=f"both {number}", task="", model="", log=None, when="", samples=0)])
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "ab"]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert sorted(one.scoring for one in scorings.read("mine")[0]) == sorted(
        f"{name} {number}" for name in ("a", "b", "both") for number in range(20)
    )
