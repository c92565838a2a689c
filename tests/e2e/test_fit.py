"""Scoring trained models on their own training samples: one that cannot have learned them, one that learned them by
heart, and one whose base has another chat template than the training.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import BASE, small_dataset
from shell import sh

from .test_run import RECIPE

pytestmark = pytest.mark.e2e

PROMPTS = {"rationale": "Describe the video.", "label": "Which is it, {names}?"}
ASSISTANT = "<|im_start|>assistant"


def run(name: str, base: str, **stages: int) -> dict[str, Any]:
    """The arms of a run, each with a stage of so many steps on labels; what the report has of them."""
    overrides = RECIPE["training"]["overrides"] | {"finetuning_type": "full", "per_device_train_batch_size": 8}
    overrides |= {"save_strategy": "no", "learning_rate": 1e-3, "lr_scheduler_type": "constant"}
    stage = {"rows": "label", "recipe": "recipes/stage2.yaml"}
    recipe = RECIPE | {
        "run": name,
        "base_model": base,
        "arms": {arm: [arm] for arm in stages},
        "training": {
            "overrides": overrides,
            "stages": {arm: stage | {"overrides": {"max_steps": steps}} for arm, steps in stages.items()},
        },
        "evaluation": {"batch_size": 16, "fit": 6},
    }
    Path(f"recipes/{name}.yaml").write_text(yaml.safe_dump(recipe))
    ran = sh(f"rbft run recipes/{name}.yaml")
    assert ran.returncode == 0, ran.stdout
    arms: dict[str, Any] = json.loads(Path(f"runs/{name}/report/report.json").read_text())["arms"]
    return arms


def test_what_was_learned_and_what_was_not(ws: Path) -> None:
    for base in ("base", "spaced"):
        shutil.copytree(BASE, base)
    template = Path("spaced/chat_template.jinja")
    # As many tokens, so that the check of their number after a training sees nothing.
    template.write_text(template.read_text().replace(f"{ASSISTANT}\n", f"{ASSISTANT} "))
    # Nothing in these videos tells their labels, so that the test clips cannot be learned.
    small_dataset("mine", {"train": 8, "val": 2, "test": 60}, prompts=PROMPTS)

    arms = run("learned", "base", short=2, long=80)
    assert [arm["fit"]["n"] for arm in arms.values()] == [[6], [6]]
    (said,) = arms["short"]["fit"]["sentences"]
    assert said.startswith("short has not learned its own training samples: it answers ")
    assert arms["long"]["fit"]["mean"] == 1
    (said,) = arms["long"]["fit"]["sentences"]
    assert said.startswith("long has learned its training samples by heart: it answers 100.0 % of them rightly, and ")

    (arm,) = run("template", "spaced", long=80).values()
    assert arm["fit"]["loss"] == arms["long"]["fit"]["loss"]  # the training sees its own template, and is the same
    assert arm["fit"]["mean"] < 0.5
    (said,) = arm["fit"]["sentences"]
    assert said.startswith("long: training and scoring do not see the same thing.")
