"""Every command that a person types, one after the other, with LoRA adapters."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from builders import read_jsonl
from shell import TINY, sh

from rbft_plugin.scoring import calibration
from rbft_plugin.spec.names import TASK_KINDS, task_name

pytestmark = pytest.mark.e2e

LMMS = "lmms-eval --model rbft_vl --batch_size 3 --log_samples"


def test_both_stages_by_hand(tiny: Path) -> None:
    checked = sh("rbft check mine")
    assert checked.returncode == 0 and "mine: 10 samples, " in checked.stdout
    assert sh("rbft prepare mine").returncode == 0

    said = sh(f"{LMMS} --model_args pretrained=base --tasks rbft_mine_rationale --output_path OUT").stdout
    assert len(read_jsonl(next(Path("OUT").rglob("*_samples_rbft_mine_rationale.jsonl")))) == 4, said
    assert sh("rbft collect OUT").stdout == ("mine: 4 of 4 rationales kept\nwritten: data/mine/rationale.jsonl\n")
    rows = read_jsonl("data/mine/rationale.jsonl")
    assert [r["messages"][0]["content"] for r in rows] == ["<video>Describe the video."] * 4
    assert all(r["messages"][1]["content"].startswith("A ") for r in rows)  # the tiny base describes

    tiny_settings = " ".join(f"'{s}'" for s in TINY)
    said = sh(f"llamafactory-cli train recipes/stage1.yaml dataset=mine_rationale output_dir=s1 {tiny_settings}").stdout
    assert Path("s1/adapter_model.safetensors").is_file(), said
    said = sh(
        "llamafactory-cli train recipes/stage2.yaml dataset=mine_label adapter_name_or_path=s1 output_dir=s2 "
        + tiny_settings
    ).stdout
    assert Path("s2/adapter_model.safetensors").is_file(), said
    assert "Num examples = 4" in said

    watched = tiny_settings.replace('save_strategy="no"', "save_strategy=steps' 'save_steps=1")
    said = sh(
        "llamafactory-cli train recipes/stage2.yaml dataset=mine_label adapter_name_or_path=s1 output_dir=s3 "
        "eval_dataset=mine_label_val eval_strategy=steps eval_steps=1 load_best_model_at_end=true "
        f"metric_for_best_model=eval_loss {watched} learning_rate=5.0"  # so that the loss rises
    ).stdout
    losses = [row["eval_loss"] for row in read_jsonl(Path("s3/trainer_log.jsonl")) if "eval_loss" in row]
    state = json.loads(Path("s3/trainer_state.json").read_text())
    assert len(losses) == 3 and state["global_step"] == 3, said
    assert state["best_metric"] == pytest.approx(min(losses), abs=1e-3)
    assert state["best_global_step"] < 3
    best = Path("s3", f"checkpoint-{state['best_global_step']}", "adapter_model.safetensors")
    assert Path("s3/adapter_model.safetensors").read_bytes() == best.read_bytes()

    # Typed unquoted where the shell turns rbft_* into rbft_plugin; demo and smarthome are not prepared.
    Path("rbft_plugin").mkdir()
    said = sh(f"{LMMS} --model_args pretrained=base,adapters=s1:s2 --tasks rbft_* --output_path OUT2").stdout
    for name in ("demo", "smarthome"):
        assert f"data/{name} is not prepared (`rbft prepare {name}`): rbft_{name}, rbft_{name}_ll, " in said
    logs = {p.name.split("_samples_")[1]: p for p in Path("OUT2").rglob("*_samples_*.jsonl")}
    assert set(logs) == {f"{task_name('mine', kind)}.jsonl" for kind in TASK_KINDS}, said
    all_results = json.loads(next(Path("OUT2").rglob("*_results.json")).read_text())["results"]
    results = all_results["rbft_mine"]
    scored = read_jsonl(logs["rbft_mine.jsonl"])
    assert results["accuracy,none"] == sum(r["score"] for r in scored) / 4
    assert {"macro_f1,none", "no_answer,none", "f1_calm,none", "f1_busy,none"} <= set(results)
    for metric in ("accuracy", "macro_f1", "no_answer", "f1_calm", "f1_busy"):
        assert re.search(rf"\|{metric} *\|", said)  # in lmms-eval's own table

    likely = all_results["rbft_mine_ll"]
    rows = read_jsonl(logs["rbft_mine_ll.jsonl"])
    assert all(max(r["probabilities"], key=r["probabilities"].get) == r["prediction"] for r in rows)
    assert likely["accuracy,none"] == sum(r["score"] for r in rows) / 4
    ranked = [list(r["probabilities"].values()) for r in rows]
    assert likely["brier,none"] == calibration.brier([r["target"] for r in rows], ranked, ["calm", "busy"])
    assert {r["mode"] for r in read_jsonl(logs["rbft_mine_rationale_hinted.jsonl"])} == {"hinted"}

    assert sh("rbft report rbft=OUT2").returncode == 0
    report = json.loads(Path("report/report.json").read_text())
    assert report["arms"]["rbft"]["accuracy"]["mean"] == results["accuracy,none"]
    assert report["arms"]["rbft"]["macro_f1"]["mean"] == results["macro_f1,none"]
    assert report["models"] == {"rbft": "pretrained=base,adapters=s1:s2"}

    said = sh(f"{LMMS} --model_args pretrained=base,adapters=s1:s2 --tasks 'rbft_*_val' --output_path OUT3").stdout
    logs = {p.name.split("_samples_")[1]: p for p in Path("OUT3").rglob("*_samples_*.jsonl")}
    assert set(logs) == {"rbft_mine_val.jsonl", "rbft_mine_ll_val.jsonl", "rbft_mine_novideo_val.jsonl"}, said
    ids = [row["id"] for row in read_jsonl(Path("data/mine/val.jsonl"))]
    assert [row["sample_id"] for row in read_jsonl(logs["rbft_mine_ll_val.jsonl"])] == ids
    assert sh("rbft report rbft=OUT3").returncode == 0
    report = json.loads(Path("report/report.json").read_text())
    assert (report["split"], report["n_test"]) == ("val", len(ids))
    assert report["arms"]["rbft"]["probabilities"] and report["arms"]["rbft"]["without_video"]
    (line,) = read_jsonl(Path("data/mine/test_scorings.jsonl"))  # of OUT2, and no other
    assert Path(line["log"]) == next(Path("OUT2").rglob("*_samples_rbft_mine.jsonl"))
    refused = sh("rbft report test=OUT2 val=OUT3")
    assert refused.returncode == 1 and "evaluations of different splits: 2 problems" in refused.stdout

    # A new video that is a test video gets the answer that was logged for it.
    said = sh("rbft predict s1:s2 mine_videos/test1.mp4 --dataset mine").stdout.splitlines()[-1]
    answer = next(r for r in scored if r["sample_id"] == "test1")
    text = answer.get("resps", answer["filtered_resps"])
    assert said.split("\t") == [
        "mine_videos/test1.mp4",
        answer["prediction"] or "(no answer)",
        " ".join((text[0] if isinstance(text, list) else text).split()),
    ]


def test_tasks_are_found_from_another_folder(tiny: Path, tmp_path_factory) -> None:
    assert sh("rbft prepare mine").returncode == 0
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    said = sh(
        f"cd {elsewhere} && {LMMS} --model_args pretrained={tiny}/base --tasks rbft_mine --limit 2 "
        f"--include_path {tiny}/task_configs --output_path OUT"
    ).stdout
    assert len(read_jsonl(next(elsewhere.rglob("*_samples_rbft_mine.jsonl")))) == 2, said
