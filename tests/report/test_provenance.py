"""provenance: what a run's records and lmms-eval's results say, and what nobody recorded."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rbft_plugin.report import provenance
from rbft_plugin.run.environment import git_state, hardware

STAMP = "20260101_000000"
MACHINE = {"hardware": {"processor": "an abacus", "GPUs": "2 x H100"}, "git": "abc, no changes"}


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    Path("recipes/broken.yaml").write_text("a: [", encoding="utf-8")
    Path("recipes/small.yaml").write_text("run: r\ndataset: mine\n", encoding="utf-8")
    Path("data/mine").mkdir(parents=True)
    Path("data/mine/manifest.json").write_text("{}", encoding="utf-8")


OF_STEP: dict[str, dict[str, Any]] = {
    "prepare mine": {"kind": "prepare"},
    "train rbft seed 0 label": {"kind": "train", "arm": "rbft", "seed": 0, "output": "runs/r/rbft/seed-0/label"},
    "score rbft seed 0": {"kind": "score", "arm": "rbft", "seed": 0, "output": "runs/r/rbft/seed-0/eval"},
}


def dump(path: str, content: Any) -> Path:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(content), encoding="utf-8")
    return Path(path)


def evaluated(folder: str, tokens: bool = True) -> Path:
    """A log of samples with its results; its path."""
    results: dict[str, Any] = {"config": {"model": "rbft_vl", "model_args": "pretrained=a b", "batch_size": 4}}
    if tokens:
        results["efficiency"] = {"overall": {"total_input_tokens": 120.0, "total_output_tokens": 7.0}}
        results["total_evaluation_time_seconds"] = "12.5"
    dump(f"{folder}/m/{STAMP}_results.json", results)
    return dump(f"{folder}/m/{STAMP}_samples_rbft_mine.jsonl", {})


def record(name: str, began: float, argv: list[str], **more: Any) -> None:
    content = {"name": name, "inputs": {"argv": argv}, "began": began, "seconds": 3.0, "versions": {"torch": "2"}}
    content |= OF_STEP[name]
    dump(f"runs/r/steps/{name.replace(' ', '-')}.json", content | MACHINE | more)


def collect(log: tuple[str, int, Path], torch: str = "2") -> dict[str, Any]:
    return provenance.collect("mine", [log], {"torch": torch}).model_dump()


def a_run() -> Path:
    log = evaluated("runs/r/rbft/seed-0/eval")
    record("score rbft seed 0", 30.0, ["lmms-eval", "--output_path", "runs/r/rbft/seed-0/eval"])
    record("train rbft seed 0 label", 20.0, ["llamafactory-cli", "train", "output_dir=runs/r/rbft/seed-0/label", "a b"])
    record("prepare mine", 10.0, ["rbft", "prepare", "mine"])
    said = {"effective_tokens_per_sec": 25.0, "train_runtime": 100.0, "epoch": 3.0}  # of one of two processes
    dump("runs/r/rbft/seed-0/label/train_results.json", said)
    lines = (
        "Instantaneous batch size per device = 4\nTotal train batch size (w. parallel, distributed & accumulation) = 24"
    )
    Path("runs/r/logs").mkdir()
    Path("runs/r/logs/train-rbft-seed-0-label.log").write_text(f"{lines}\nGradient Accumulation steps = 3\n")
    return log


def test_a_complete_run_misses_nothing() -> None:
    found = collect(("rbft", 0, a_run()))
    assert found["missing"] == []
    assert found["steps"] == [
        {
            "name": name,
            "kind": OF_STEP[name]["kind"],
            "arm": OF_STEP[name].get("arm"),
            "seed": OF_STEP[name].get("seed"),
            "command": command,
            "began": began,
            "seconds": 3.0,
            "tokens_in": tokens_in,
            "tokens_out": tokens_out,
        }
        for name, command, began, tokens_in, tokens_out in [
            ("prepare mine", "rbft prepare mine", 10.0, None, None),
            (
                "train rbft seed 0 label",
                "llamafactory-cli train output_dir=runs/r/rbft/seed-0/label 'a b'",
                20.0,
                5000,
                None,
            ),
            ("score rbft seed 0", "lmms-eval --output_path runs/r/rbft/seed-0/eval", 30.0, 120, 7),
        ]
    ]
    recipe = Path("recipes/small.yaml").read_bytes()
    assert found["recipes"] == {"recipes/small.yaml": recipe.decode()}
    facts = found["facts"]
    assert facts.pop("report made").endswith(" UTC")
    assert facts == {
        "recipe recipes/small.yaml, as it is now": f"sha256 {hashlib.sha256(recipe).hexdigest()}",
        "data manifest data/mine/manifest.json": f"sha256 {hashlib.sha256(b'{}').hexdigest()}",
        "git commit of the workspace, when its steps ran": "abc, no changes",
        "hardware: processor": "an abacus",
        "hardware: GPUs": "2 x H100",
    }


def test_what_is_missing_is_said() -> None:
    log = a_run()
    train = ["llamafactory-cli", "train"]
    record("train rbft seed 0 label", 20.0, train, versions={"torch": "1"}, hardware={}, git=None)
    Path("runs/r/logs/train-rbft-seed-0-label.log").unlink()
    record("score rbft seed 0", 30.0, ["lmms-eval"], hardware={}, git=None)
    record("prepare mine", 10.0, ["rbft"], hardware={}, git=None)
    dump("runs/r/steps/train-x.started.json", {})
    Path("recipes/small.yaml").unlink()
    Path("data/mine/manifest.json").unlink()
    found = collect(("rbft", 0, log))
    assert found["missing"] == [
        "runs/r: step 'train-x' has not finished",
        "runs/r: no file of recipes/ says `run: r`",
        "data/mine/manifest.json, so the hash of the data",
        "git state of the workspace when the steps ran: it is no git repository",
        "hardware that models were trained and scored on (the report's own machine is named instead)",
        "tokens that 1 training steps read: their logs or results are not there",
        "which torch the figures are of: steps ran with 1 and 2",
    ]
    assert found["facts"]["hardware of the report: processor"].endswith("cores")


def test_versions_that_are_not_those_of_the_report_are_named() -> None:
    facts = collect(("rbft", 0, a_run()), torch="3")["facts"]
    assert facts["torch, when the steps ran"] == "2 (the report: 3)"


def test_two_machines_are_both_named() -> None:
    log = a_run()
    record("score rbft seed 0", 30.0, ["lmms-eval"], hardware={"processor": "a slide rule"})
    facts = collect(("rbft", 0, log))["facts"]
    assert facts["hardware 1: processor"] == "an abacus" and facts["hardware 2: processor"] == "a slide rule"


def test_an_evaluation_by_hand_is_a_step_put_together_from_its_results() -> None:
    log = evaluated("OUT")
    found = collect(("rbft", 2, log))
    assert found["steps"] == [
        {
            "name": "score rbft seed 2 (by hand)",
            "kind": "score",
            "arm": "rbft",
            "seed": 2,
            "command": "lmms-eval --model rbft_vl --model_args 'pretrained=a b' --tasks rbft_mine --batch_size 4",
            "began": None,
            "seconds": 12.5,
            "tokens_in": 120,
            "tokens_out": 7,
        }
    ]
    assert found["missing"][0] == (
        "evaluations made by hand: how their models were trained, and their exact command (what is shown is put "
        "together from their results): rbft, seed 2"
    )
    found = collect(("rbft", 0, evaluated("BARE", tokens=False)))
    assert (found["steps"][0]["seconds"], found["steps"][0]["tokens_in"]) == (None, None)


def test_losses_are_of_every_stage_of_the_run_in_the_order_of_stages() -> None:
    log = a_run()

    def train(stage: str, *rows: dict[str, Any]) -> None:
        path = Path(f"runs/r/rbft/seed-3/{stage}/trainer_log.jsonl")
        path.parent.mkdir(parents=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    train(
        "label",
        {"current_steps": 5, "loss": 2.5},
        {"current_steps": 5, "eval_loss": 1},
        {"current_steps": 9, "loss": 1},
    )
    train("rationale", {"current_steps": 2, "loss": 4.0})
    train("empty")
    assert [one.model_dump() for one in provenance.losses([("rbft", 3, log), ("rbft", 3, log)])] == [
        {
            "arm": "rbft",
            "seed": 3,
            "stage": "rationale",
            "steps": [2],
            "loss": [4.0],
            "eval_steps": [],
            "eval_loss": [],
        },
        {
            **{"arm": "rbft", "seed": 3, "stage": "label", "steps": [5, 9], "loss": [2.5, 1]},
            **{"eval_steps": [5], "eval_loss": [1]},
        },
    ]
    assert provenance.losses([("rbft", 0, evaluated("OUT"))]) == []


def test_git_state_names_the_commit_and_counts_changed_files(tmp_path: Path) -> None:
    def git(*argv: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *identity, *argv], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert git_state(Path()) is None
    git("init", "-q")
    git("add", "recipes/small.yaml")
    git("commit", "-q", "-m", "a")
    assert git_state(Path()) == f"{git('rev-parse', 'HEAD')}, no changes"
    Path("recipes/small.yaml").write_text("run: other\n", encoding="utf-8")
    assert git_state(Path()) == f"{git('rev-parse', 'HEAD')}, changed files: 1"


def test_this_machine_is_described() -> None:
    here = hardware()
    assert list(here) == ["system", "processor", "memory", "GPUs"]
    assert all(here.values())
