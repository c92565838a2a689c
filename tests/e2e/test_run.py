"""`rbft run` with LoRA and two rounds: killed in the middle, resumed, and run again when all is done."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from shell import sh

pytestmark = pytest.mark.e2e

RECIPE: dict[str, Any] = {
    "run": "killed",
    "dataset": "mine",
    "base_model": "base",
    "arms": {"zero_shot": [], "rbft": ["rationale", "label"]},
    "seeds": [3],
    "env": {"OMP_NUM_THREADS": 1},
    "training": {
        "overrides": {
            "lora_rank": 4,
            "freeze_vision_tower": False,
            "freeze_multi_modal_projector": False,
            "bf16": False,
            "use_cpu": True,
            "gradient_accumulation_steps": 1,
            "per_device_train_batch_size": 2,
            "preprocessing_num_workers": 1,
            "dataloader_num_workers": 0,
            "save_strategy": "steps",
            "save_steps": 2,
            "plot_loss": False,
            "warmup_steps": 0,
            "max_steps": 3,
        },
        "stages": {
            "rationale": {"rows": "rationale", "recipe": "recipes/stage1.yaml"},
            "label": {"rows": "label", "recipe": "recipes/stage2.yaml"},
        },
    },
    "evaluation": {"batch_size": 4},
}
ROUNDS = RECIPE | {"arms": {"zero_shot": [], "rbft": ["rationale", "rationale", "label"]}}
STEPS = [
    *(
        "prepare mine",
        "write rationales",
        "collect rationales",
        "score zero_shot seed 3",
        "train rbft seed 3 rationale",
    ),
    *(f"{verb} rbft seed 3 rationale-2" for verb in ("write", "collect", "train")),
    *("train rbft seed 3 label", "score rbft seed 3", "score rbft seed 3 on its training samples", "report"),
]


def test_a_run_is_killed_resumed_and_repeated(tiny: Path) -> None:
    Path("recipes/killed.yaml").write_text(yaml.safe_dump(ROUNDS, sort_keys=False))
    command = [str(Path(sys.executable).parent / "rbft"), "run", "recipes/killed.yaml"]
    training = Path("runs/killed/steps/train-rbft-seed-3-rationale.started.json")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline = time.time() + 300
    while not training.is_file() and process.poll() is None and time.time() < deadline:
        time.sleep(0.2)
    time.sleep(2)  # LLaMA-Factory is starting
    process.send_signal(signal.SIGTERM)
    said = process.communicate()[0].decode()
    assert process.returncode == 143, said
    assert not [p for p in _commands() if "llamafactory" in p and "runs/killed" in p]  # nothing goes on without us

    second = sh("rbft run recipes/killed.yaml")
    assert second.returncode == 0, second.stdout
    done_before = [f"[{i}/{len(STEPS)}] {name}: done before" for i, name in enumerate(STEPS, 1) if name in STEPS[1:4]]
    assert all(line in second.stdout.splitlines() for line in done_before)

    report = json.loads(Path("runs/killed/report/report.json").read_text())
    assert (report["dataset"], report["n_test"], list(report["arms"])) == ("mine", 4, ["zero_shot", "rbft"])
    model = Path("runs/killed/rbft/seed-3/label")
    assert json.loads((model / "rbft.json").read_text()) == {
        "base": "base", "adapters": ["runs/killed/rbft/seed-3/rationale-2", str(model)], "dataset": "mine",
    }  # fmt: skip
    assert not list(Path("runs/killed").rglob("checkpoint-*"))  # old optimizer states do not fill the disk
    first_round, second_round = (
        json.loads((model.parent / stage / "rbft.json").read_text()) for stage in ("rationale", "rationale-2")
    )
    assert first_round | {"adapters": [str(model.parent / "rationale-2")]} == second_round  # both start from the base
    (written,) = Path("runs/killed/rbft/seed-3/rationale-2_rationales").rglob("*_results.json")
    assert "adapters=runs/killed/rbft/seed-3/rationale," in written.read_text()
    assert sh(f"rbft predict {model} mine_videos/test0.mp4").returncode == 0

    before = _mtimes()
    began = time.time()
    third = sh("rbft run recipes/killed.yaml")
    assert third.returncode == 0, third.stdout
    assert time.time() - began < 15  # a harness alone takes longer to start
    assert [line.split(": ")[0] for line in third.stdout.splitlines() if line.endswith("done before")] == [
        f"[{i}/{len(STEPS)}] {name}" for i, name in enumerate(STEPS, 1) if name != "prepare mine"
    ]
    assert _mtimes() == before  # no log, no record and no output was written anew


def _mtimes() -> dict[str, int]:
    kept = [p for p in Path("runs/killed").rglob("*") if p.is_file() and "prepare" not in p.name and p.name != ".lock"]
    return {str(p): p.stat().st_mtime_ns for p in kept}


def _commands() -> list[str]:
    """Command lines of all running processes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return [c for c in found if str(os.getpid()) not in c]
