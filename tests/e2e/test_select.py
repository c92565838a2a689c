"""`select` through both harnesses: candidates, the choice, one test scoring, a value that is added later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from shell import sh

from .test_run import RECIPE

pytestmark = pytest.mark.e2e

RATE = "training.stages.label.overrides.learning_rate"
OLD, NEW = "learning_rate-0.0001/rbft seed 3", "learning_rate-0.001/rbft seed 3"


def run(rates: list[float]) -> list[str]:
    """Run the recipe with these rates; returns the names of the steps that were started."""
    select = {"metric": "accuracy", "seeds": [3], "settings": {RATE: rates}}
    recipe: dict[str, Any] = RECIPE | {"run": "chosen", "arms": {"rbft": ["rationale", "label"]}, "select": select}
    recipe["evaluation"] = RECIPE["evaluation"] | {"fit": 0}
    Path("recipes/select.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    ran = sh("rbft run recipes/select.yaml --jobs 2")
    assert ran.returncode == 0, ran.stdout
    begun = [line for line in ran.stdout.splitlines() if ": log in " in line]
    return sorted(line.split("] ")[1].split(": ")[0] for line in begun)


def test_settings_are_chosen_on_validation_and_scored_once_on_the_test(tiny: Path) -> None:
    folder = Path("runs/chosen")
    assert run([1e-4]) == sorted(
        [
            *("prepare mine", "write rationales", "collect rationales"),
            *("train rbft seed 3 rationale", "score rbft seed 3 rationale on val"),
            *(f"train {OLD} label", f"score {OLD} checkpoint-2 on val", f"score {OLD} on val"),
            *("choose", "score rbft seed 3", "report"),
        ]
    )
    tests = [path.parent for path in folder.rglob("*_samples_rbft_mine.jsonl")]
    assert len(tests) == 1  # the test is scored once for each arm and seed
    report = json.loads((folder / "report/report.json").read_text())
    (choice,) = report["selection"]["choices"]
    assert [len(choice["candidates"]), choice["tried"], choice["possible"]] == [3, 1, 1]
    assert report["selection"]["few"] == ["calm", "busy"]
    assert (folder / "report/choices.png").is_file()
    weights = {path.parent for path in folder.rglob("adapter_model.safetensors")}
    (model,) = report["models"].values()
    chosen = Path(model.split("adapters=")[1].split(",")[0].split(":")[-1])
    assert weights == {folder / "rbft/seed-3/rationale", chosen}  # stage 2 starts from the first
    # Later, a further value is tried. What was tried before stays as it is, though its weights are gone.
    begun = run([1e-4, 1e-3])
    assert [name for name in begun if "on val" in name or name.startswith("train learning_rate-0.001/")] == sorted(
        [f"train {NEW} label", f"score {NEW} checkpoint-2 on val", f"score {NEW} on val"]
    )
    assert "choose" in begun and "train rbft seed 3 rationale" not in begun
    assert run([1e-4, 1e-3]) == ["prepare mine"]
    before = (folder / "chosen.yaml").read_text()
    assert sh("rbft choose recipes/select.yaml").returncode == 0  # by hand it writes the same
    assert (folder / "chosen.yaml").read_text() == before
