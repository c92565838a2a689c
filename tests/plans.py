"""The plans that tests/fixtures/plans holds, as `rbft run --dry-run` prints them.

`python tests/plans.py` writes the files anew; read their difference before you commit it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from rbft_plugin import workspace
from rbft_plugin.run import plan
from rbft_plugin.run.steps import Plan
from rbft_plugin.spec import recipe
from rbft_plugin.spec.dataset import load

FOLDER = Path(__file__).resolve().parent / "fixtures" / "plans"
ROWS, RATE = "training.stages.rationale.rows", "training.stages.label.overrides.learning_rate"
RBFT = {"rbft": ["rationale", "label"]}
ROUNDS = {"two_rounds": ["rationale", "rationale", "label"]}
ONE_ARM = {"arms": RBFT}

# file -> (recipe, its changed keys by their paths)
PLANS: dict[str, tuple[str, dict[str, Any]]] = {
    "demo": ("demo", {}),
    "demo_full": ("demo_full", {}),
    "ablations": ("ablations", {}),
    "rbft": ("rbft", {}),
    "internvl3_8b": ("internvl3_8b/rbft", {}),
    "qwen2_5_vl_3b": ("qwen2_5_vl_3b/rbft", {}),
    "qwen2_5_vl_7b_full": ("qwen2_5_vl_7b_full/rbft", {}),
    "qwen3_vl_8b": ("qwen3_vl_8b/rbft", {}),
    "two_seeds": ("rbft", {"seeds": [3, 5]}),
    "no_rationale_stage": ("rbft", {"arms": {"zero_shot": [], "direct_sft": ["label"]}}),
    "shared_stages": (
        "rbft",
        {"seeds": [0, 1], "arms": {"rationale_only": ["rationale"], **RBFT, "turned": ["label", "rationale"]}},
    ),
    "hinted": (
        "demo",
        {ROWS: "rationale_hinted", "filters": {"keep": ["leak", "generic"], "max_words": 200, "max_share": 0.5}},
    ),
    "shuffled": ("demo", {ROWS: "rationale_shuffled", "seeds": [0, 1]}),
    "labelled_shuffled": ("demo", {ROWS: "rationale_shuffled", "training.stages.rationale.samples": "labelled"}),
    "evaluation_options": (
        "demo",
        {
            "evaluation": {
                "tasks": ["label", "ll", "novideo"],
                "batch_size": 2,
                "model_args": {"dtype": "float32"},
                "args": {"use_cache": "mine", "force_simple": True},
            }
        },
    ),
    "continued_adapter": ("rbft", ONE_ARM | {"training.adapters": "continue"}),
    "quantized": ("rbft", ONE_ARM | {"training.overrides.quantization_bit": 4}),
    "zero3": ("rbft", ONE_ARM | {"training.overrides.deepspeed": "recipes/deepspeed/zero3_offload.json"}),
    "export": ("rbft", {"training.export": True}),
    "many_processes": ("rbft", {"launch": {"processes": 8, "nodes": 2, "master_addr": "node0"}}),
    "shots_0": ("rbft", {"shots": 0, "seeds": [0, 1]}),
    "sweep_shots_from_0": (
        "rbft",
        {"sweep": {"shots": [0, 2, 4]}, "arms": {"zero_shot": [], "direct_sft": ["label"], **RBFT}},
    ),
    "select_without_labels": (
        "demo",
        {"shots": 0, "select": {"settings": {"training.overrides.warmup_steps": [10, 20]}, "checkpoints": False}},
    ),
    "rounds": ("rbft", {"seeds": [0, 1], "arms": {**RBFT, **ROUNDS}}),
    "sweep_rounds": (
        "rbft",
        {"arms": ROUNDS, "sweep": {"shots": [4], "filters.min_words": [3, 9], RATE: [1e-4, 2e-4]}},
    ),
    "select_rounds": (
        "demo",
        {
            "arms": {**ROUNDS, "alone": ["rationale", "rationale"]},
            "select": {"settings": {"training.stages.rationale.overrides.max_steps": [50, 150]}},
        },
    ),
    "rationale_file": (
        "demo",
        {ROWS: "rationale_file", "training.stages.rationale.file": "human.jsonl", "seeds": [0, 1], "shots": 2},
    ),
    "sweep_shots": ("rbft", {"sweep": {"shots": [4, 8]}}),
    "sweep_fraction_of_seeds": ("rbft", ONE_ARM | {"sweep": {"train_fraction": [0.5, 1.0]}, "seeds": [0, 1]}),
    "sweep_base_model": ("rbft", {"sweep": {"base_model": ["a", "b"]}, "arms": {"rbft": ["rationale"]}}),
    "sweep_filters": ("rbft", {"sweep": {"filters.min_words": [3, 9]}, "arms": {"rbft": ["rationale"]}}),
    "sweep_adapters": ("rbft", ONE_ARM | {"sweep": {"training.adapters": ["fresh", "continue"]}}),
    "sweep_shots_and_rate": (
        "rbft",
        {"sweep": {"shots": [4, 8], RATE: [1e-4, 2e-4]}, "arms": {"zero_shot": [], **RBFT}},
    ),
    "select": (
        "rbft",
        {
            "select": {"settings": {RATE: [1e-4, 2e-4], "training.stages.rationale.overrides.max_steps": [50, 150]}},
            "seeds": [0, 1],
        },
    ),
    "select_within_sweep": (
        "demo",
        {
            "sweep": {"shots": [2, 4]},
            "select": {
                "settings": {"training.overrides.warmup_steps": [10, 20]},
                "skip_last": False,
                "checkpoints": False,
            },
        },
    ),
    "sweep_rows": ("rbft", ONE_ARM | {"sweep": {ROWS: ["rationale", "rationale_hinted", "rationale_label"]}}),
}


def changed(name: str, changes: dict[str, Any]) -> Plan:
    """The plan of recipes/`name`.yaml with some keys changed, in the workspace that is the current folder."""
    path = Path("recipes") / f"{name}.yaml"
    content = yaml.safe_load(path.read_text())
    if changes:  # most plans are of recipes without `select`
        content.pop("select", None)
    for key, value in changes.items():
        *above, last = key.split(".")
        inner = content
        for word in above:
            inner = inner.setdefault(word, {})
        inner[last] = value
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    read = recipe.load(path)
    return plan.make(read, load(read.dataset), path)


def printed(name: str) -> str:
    made = changed(*PLANS[name])
    path = Path("recipes") / f"{PLANS[name][0]}.yaml"
    return made.commands() + (plan.open_commands(made, path) if made.recipe.select else "")


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())
    for name in sys.argv[1:] or PLANS:
        workspace.init(Path(name))
        os.chdir(name)
        (FOLDER / f"{name}.txt").write_text(printed(name))
        os.chdir("..")
