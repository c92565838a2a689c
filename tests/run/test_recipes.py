"""The shipped recipes: LLaMA-Factory's own parser takes them, and each trains a tiny model of its own family."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from builders import QUIET, prepare, small_dataset
from families import MULTIPLES, build
from pydantic import ValidationError

from rbft_plugin import workspace
from rbft_plugin.data.prepared import read_split, write_training_rows
from rbft_plugin.llamafactory import rows
from rbft_plugin.spec import recipe
from rbft_plugin.spec.dataset import load
from rbft_plugin.spec.row_kinds import ROW_KINDS

RECIPES = workspace.shipped() / "recipes"
FAMILY_OF = {  # by folder
    ".": "qwen2_5_vl",
    "internvl3_8b": "internvl",
    "qwen2_5_vl_3b": "qwen2_5_vl",
    "qwen2_5_vl_7b_full": "qwen2_5_vl",
    "qwen3_vl_8b": "qwen3_vl",
}
STAGES = [(folder, stage) for folder in FAMILY_OF for stage in ("stage1", "stage2")]
# What a training in seconds on a CPU needs other than as shipped; all else is as shipped.
ELSEWHERE = {"model_name_or_path", "adapter_name_or_path", "dataset", "output_dir"}
ON_CPU: dict[str, Any] = {"bf16": False, "use_cpu": True}
SMALL: dict[str, Any] = {"max_steps": 2, "gradient_accumulation_steps": 1, "save_steps": 500, "plot_loss": False}
SMALL |= {"preprocessing_num_workers": 1, "dataloader_num_workers": 0}


def read(folder: str, stage: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((RECIPES / folder / f"{stage}.yaml").read_text())
    return content


def test_all_shipped_files_are_looked_at_here() -> None:
    found = sorted(p.relative_to(RECIPES).as_posix() for p in RECIPES.rglob("*") if p.is_file())
    runner = [
        "ablations.yaml",
        "demo.yaml",
        "demo_full.yaml",
        "recipe.schema.json",
        *(f"{folder}/rbft.yaml".removeprefix("./") for folder in FAMILY_OF),
    ]
    stages = [f"{folder}/{stage}.yaml".removeprefix("./") for folder, stage in STAGES]
    deepspeed = ["deepspeed/zero2.json", "deepspeed/zero3_offload.json"]
    assert found == sorted([*runner, *stages, *deepspeed])
    assert len(found) == 21


@pytest.mark.parametrize("folder", FAMILY_OF)
def test_a_runner_recipe_names_the_stages_beside_it_and_their_model(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(RECIPES.parent)
    loaded = recipe.load(Path("recipes") / folder / "rbft.yaml")
    stages = {name: stage.recipe for name, stage in loaded.training.stages.items()}
    beside = Path("recipes") / folder
    assert stages == {"rationale": beside / "stage1.yaml", "label": beside / "stage2.yaml"}
    assert loaded.base_model == read(folder, "stage1")["model_name_or_path"]
    full = "full" in folder
    assert loaded.launch.processes == (2 if full else None)
    # the same optimizer steps on batches of the same size in every variant
    one = read(folder, "stage2")
    batch = one["per_device_train_batch_size"] * one["gradient_accumulation_steps"] * (loaded.launch.processes or 1)
    assert (batch, one["max_steps"]) == (16, 150)


def test_variants_differ_only_where_they_must() -> None:
    for stage in ("stage1", "stage2"):
        plain = read(".", stage)
        differs = {
            folder: {key for key in {*plain, *other} if plain.get(key) != other.get(key)}
            for folder in FAMILY_OF
            if (other := read(folder, stage))
        }
        place = {"output_dir", *(["adapter_name_or_path"] if stage == "stage2" else [])}
        assert differs == {
            ".": set(),
            "internvl3_8b": {"model_name_or_path", "template", *place},
            "qwen2_5_vl_3b": {"model_name_or_path", *place},
            "qwen3_vl_8b": {"model_name_or_path", "template", *place},
            "qwen2_5_vl_7b_full": {
                *("finetuning_type", "lora_rank", "lora_alpha", "lora_target", "deepspeed", "learning_rate"),
                *("gradient_accumulation_steps", *place),
                *(["model_name_or_path", "create_new_adapter"] if stage == "stage2" else []),
            },
        }


@pytest.mark.parametrize("folder", FAMILY_OF)
def test_both_stages_of_a_recipe_differ_in_data_and_start_alone(folder: str) -> None:
    one, two = (read(folder, stage) for stage in ("stage1", "stage2"))
    start = {"model_name_or_path"} if "full" in folder else {"adapter_name_or_path", "create_new_adapter"}
    assert {key for key in {*one, *two} if one.get(key) != two.get(key)} == {"dataset", "output_dir", *start}
    assert two.get("adapter_name_or_path", two["model_name_or_path"]) == one["output_dir"]


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a dataset prepared for each family, both kinds of rows, and a tiny model."""
    folder = tmp_path_factory.mktemp("recipes")
    workspace.init(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for family in sorted(set(FAMILY_OF.values())):
            clips = {"frames": 4, "max_fps": 2, "max_pixels": 64 * 64, "multiple": MULTIPLES[family]}
            small_dataset(family, {"train": 4, "test": 2}, clips=clips)
            prepare(load(family), QUIET)
            samples = read_split(family, "train")
            made = [s.training_row(s.rationale_prompt, f"Clip {s.id}.") for s in samples]
            write_training_rows(
                Path(f"data/{family}/rationale.jsonl"), rows.rows(samples, ROW_KINDS["rationale"], made)
            )
            build(family, folder / "models" / family)
    return folder


@pytest.mark.parametrize(("folder", "stage"), STAGES)
@pytest.mark.e2e
@pytest.mark.torch
def test_each_recipe_trains_a_model_of_its_family(
    folder: str, stage: str, families: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stage 2 starts from what stage 1 has left, as its recipe says."""
    from llamafactory.train.tuner import run_exp

    monkeypatch.chdir(families)
    family = FAMILY_OF[folder]
    shipped = read(folder, stage)
    output = Path("runs") / folder / stage
    given = shipped | ON_CPU | SMALL
    given |= {"dataset": f"{family}_{'rationale' if stage == 'stage1' else 'label'}", "output_dir": str(output)}
    before = (output.parent / "stage1").as_posix()
    if stage == "stage2" and "adapter_name_or_path" in shipped:
        given |= {"model_name_or_path": f"models/{family}", "adapter_name_or_path": before}
    elif stage == "stage2":
        given["model_name_or_path"] = before
    else:
        given["model_name_or_path"] = f"models/{family}"
    given.pop("deepspeed", None)  # below, and tests/e2e/test_distribution.py
    changed = {key for key in {*shipped, *given} if shipped.get(key) != given.get(key)}
    assert changed <= {*ELSEWHERE, *ON_CPU, *SMALL, "deepspeed"}
    run_exp(given)
    state = json.loads((output / "trainer_state.json").read_text())
    assert state["global_step"] == 2


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
@pytest.mark.parametrize(("name", "zero"), [("zero2", 2), ("zero3_offload", 3)])
@pytest.mark.e2e
@pytest.mark.torch
def test_deepspeed_takes_its_files_with_the_settings_of_the_full_recipe(
    name: str, zero: int, stage: str, families: Path, tmp_path: Path
) -> None:
    """By the classes that the trainer and DeepSpeed read them with; ZeRO-3 itself needs GPUs."""
    from deepspeed.runtime.config import DeepSpeedConfig
    from transformers import AutoConfig, Seq2SeqTrainingArguments
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig

    shipped = read("qwen2_5_vl_7b_full", stage)
    assert shipped["deepspeed"] == "recipes/deepspeed/zero3_offload.json"
    known = {f.name for f in fields(Seq2SeqTrainingArguments)} - {"deepspeed"}
    given = {k: v for k, v in shipped.items() if k in known} | {"use_cpu": True, "output_dir": str(tmp_path)}
    arguments = Seq2SeqTrainingArguments(**given)
    config = HfTrainerDeepSpeedConfig(str(RECIPES / f"deepspeed/{name}.json"))
    config.trainer_config_process(arguments)
    model = SimpleNamespace(config=AutoConfig.from_pretrained(families / "models/qwen2_5_vl"))
    config.trainer_config_finalize(arguments, model, shipped["max_steps"])  # refuses what contradicts the recipe
    assert "auto" not in json.dumps(config.config)

    read_by = DeepSpeedConfig(config.config)
    assert (read_by.zero_config.stage, read_by.bfloat16_config.enabled, read_by.float16_config.enabled) == (
        *(zero, True, False),
    )
    assert (read_by.train_micro_batch_size_per_gpu, read_by.gradient_accumulation_steps) == (1, 8)
    assert read_by.gradient_clipping == arguments.max_grad_norm
    if zero == 3:
        assert read_by.zero_config.offload_optimizer.device == read_by.zero_config.offload_param.device == "cpu"
        assert read_by.zero_config.gather_16bit_weights_on_model_save  # else no weights would be saved
    wrong = config.config | {"zero_optimization": config.config["zero_optimization"] | {"overlap_com": True}}
    with pytest.raises(ValidationError, match="overlap_com"):
        DeepSpeedConfig(wrong)
