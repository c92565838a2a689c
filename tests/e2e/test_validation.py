"""A run whose trainings measure the loss on the split val, and keep the checkpoint where it is lowest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from shell import sh

from .test_run import RECIPE

pytestmark = pytest.mark.e2e


def test_validation_while_training(tiny: Path) -> None:
    overrides = RECIPE["training"]["overrides"] | {"save_steps": 1, "max_steps": 4, "logging_steps": 1}
    overrides |= {"eval_dataset": "mine_label_val", "eval_strategy": "steps", "eval_steps": 1}
    overrides |= {"load_best_model_at_end": True, "metric_for_best_model": "eval_loss"}
    training = RECIPE["training"] | {"overrides": overrides}
    # With shots, the rows and their dataset_info.json lie in the folder of the run.
    watched = RECIPE | {"run": "watched", "arms": {"direct_sft": ["label"]}, "training": training, "shots": 1}
    Path("recipes/watched.yaml").write_text(yaml.safe_dump(watched))
    ran = sh("rbft run recipes/watched.yaml")
    assert ran.returncode == 0, ran.stdout
    assert list(json.loads(Path("runs/watched/rows/dataset_info.json").read_text())) == [
        "mine_label_seed-3",
        "mine_label_val",
    ]
    stage = Path("runs/watched/direct_sft/seed-3/label")
    assert (stage / "adapter_model.safetensors").is_file() and not list(stage.glob("checkpoint-*"))
    state = json.loads((stage / "trainer_state.json").read_text())
    (curve,) = json.loads(Path("runs/watched/report/report.json").read_text())["losses"]
    assert curve["steps"] == curve["eval_steps"] == [1, 2, 3, 4]
    assert min(curve["eval_loss"]) == pytest.approx(state["best_metric"], abs=1e-3)
    assert state["best_model_checkpoint"].endswith(f"checkpoint-{state['best_global_step']}")
