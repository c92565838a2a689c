"""comparison: outputs of lmms-eval on disk -> the report's input, in the right order and with the right seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rbft_plugin import comparison, runner
from rbft_plugin.errors import RbftError

STAMP = "20260101_000000"


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a prepared test split of two samples."""
    monkeypatch.chdir(tmp_path)
    Path("data/mine").mkdir(parents=True)
    Path("data/mine/manifest.json").write_text("{}", encoding="utf-8")
    rows = [{"id": name, "label": label, "labels": ["calm", "busy"]} for name, label in [("a", "calm"), ("b", "busy")]]
    Path("data/mine/test.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return tmp_path


def score(folder: str, *predictions: str | None, model: str = "pretrained=Qwen/base") -> str:
    """What an evaluation of both samples leaves in a folder."""
    Path(folder, "model").mkdir(parents=True)
    rows = [
        {"sample_id": n, "prediction": p, "filtered_resps": f"{p}!"} for n, p in zip("ab", predictions, strict=True)
    ]
    log = Path(folder, "model", f"{STAMP}_samples_rbft_mine.jsonl")
    log.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    results = {"config": {"model_args": model}}
    log.with_name(f"{STAMP}_results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def record(name: str, began: float) -> None:
    """The runner's record of a step."""
    path = Path("runs/r/steps", f"{name.replace(' ', '-')}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"name": name, "began": began}), encoding="utf-8")


def gathered(*given: str) -> list[tuple[str, int, tuple[str | None, ...]]]:
    return [(one.arm, one.seed, one.predictions) for one in comparison.gather(list(given))[0]]


def said(*given: str) -> str:
    with pytest.raises(RbftError) as raised:
        comparison.gather(list(given))
    return str(raised.value)


def test_outputs_by_hand_are_read_and_named_by_their_arms() -> None:
    score("zs", "busy", None)
    score("ft", "calm", "busy", model="pretrained=ft")
    evaluations, extra, folder = comparison.gather(["zero_shot=zs", "rbft=ft"])
    assert [(e.arm, e.seed, e.predictions) for e in evaluations] == [
        ("zero_shot", 0, ("busy", None)),
        ("rbft", 0, ("calm", "busy")),
    ]
    assert {e.dataset for e in evaluations} == {"mine"} and evaluations[0].targets == ("calm", "busy")
    assert evaluations[0].answers == ("busy!", "None!")
    assert extra["models"] == {"zero_shot": "pretrained=Qwen/base", "rbft": "pretrained=ft"}
    assert extra["versions"] == runner.versions()
    assert folder == Path("report")


def test_a_second_output_of_an_arm_is_its_second_seed() -> None:
    for name in "xyz":
        score(name, "calm", "busy", model=f"pretrained={name}")
    assert [(arm, seed) for arm, seed, _ in gathered("rbft=x", "sft=y", "rbft=z")] == [
        ("rbft", 0),
        ("sft", 0),
        ("rbft", 1),
    ]
    assert comparison.gather(["rbft=x", "rbft=z"])[1]["models"] == {
        "rbft": "pretrained=x",
        "rbft (2)": "pretrained=z",
    }


@pytest.mark.parametrize(
    ("folder", "seed"),
    [("seed-3", 3), ("a/seed-12/eval", 12), ("a/my-seed-3", 0), ("a/seed-3b", 0), ("seeds/seed-x", 0)],
)
def test_a_seed_that_the_path_names_is_the_seed(folder: str, seed: int) -> None:
    score(folder, "calm", "busy")
    assert gathered(f"rbft={folder}")[0][:2] == ("rbft", seed)


def test_a_run_is_all_its_evaluations_by_when_their_arms_were_first_scored() -> None:
    for arm, seed in [("rbft", 0), ("rbft", 1), ("direct_sft", 0), ("zero_shot", 0), ("by_hand", 0)]:
        score(f"runs/r/{arm}/seed-{seed}/eval", "calm", "busy")
    record("score zero_shot seed 0", 1.0)
    record("score rbft seed 0", 2.0)
    record("score direct_sft seed 0", 3.0)
    record("score rbft seed 1", 4.0)
    Path("runs/r/steps/score-rbft-seed-2.started.json").write_text('{"inputs": {}}', encoding="utf-8")
    assert [(arm, seed) for arm, seed, _ in gathered("runs/r")] == [
        *(("zero_shot", 0), ("rbft", 0), ("rbft", 1), ("direct_sft", 0), ("by_hand", 0)),
    ]
    assert comparison.gather(["runs/r"])[2] == Path("runs/r/report")


def test_a_run_and_an_output_by_hand_go_together_into_a_report_beside_both() -> None:
    score("runs/r/rbft/seed-0/eval", "calm", "busy")
    score("other", "busy", "busy")
    assert [arm for arm, _, _ in gathered("runs/r", "other=other")] == ["rbft", "other"]
    assert comparison.gather(["runs/r", "other=other"])[2] == Path("report")


def test_a_folder_that_is_no_run_is_refused() -> None:
    score("runs/r/rbft/eval", "calm", "busy")
    for folder in ("runs/r", "nowhere"):
        assert said(folder) == (
            f"{folder}: no evaluations (ARM/seed-N/eval) below it; give a run's folder, or ARM=OUTPUT"
        )


def test_an_output_that_is_not_there_or_without_a_log_is_refused() -> None:
    assert said("rbft=nowhere") == "nowhere: no such file or folder"
    Path("empty").mkdir()
    assert said("rbft=empty") == (
        "empty: needs one log of answers (*_samples_rbft_*.jsonl); was lmms-eval run with --log_samples, and did it "
        "finish? There are:\n  - none"
    )


def test_an_output_of_a_dataset_that_is_not_prepared_is_refused() -> None:
    score("ft", "calm", "busy")
    Path("data/mine/manifest.json").unlink()
    assert said("rbft=ft") == "data/mine/manifest.json is missing: run `rbft prepare mine` first"


def test_what_is_gathered_is_what_the_report_takes() -> None:
    from rbft_plugin import report

    score("zs", "busy", None)
    score("ft", "calm", "busy")
    evaluations, extra, _ = comparison.gather(["zero_shot=zs", "rbft=ft"])
    made: dict[str, Any] = report.summarize(evaluations, extra)
    assert made["models"] == extra["models"]
    assert list(made["arms"]) == ["zero_shot", "rbft"]
