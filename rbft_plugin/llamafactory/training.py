"""What LLaMA-Factory is told: the settings of a stage, its command line and environment, and the model that follows."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.files import read_json
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.spec.recipe import Launch, Training
from rbft_plugin.spec.yaml_models import read_yaml

# The runner sets these. Overrides must not, and in a LLaMA-Factory recipe they have no effect.
OWN_KEYS = frozenset(
    {
        *("dataset", "dataset_dir", "media_dir", "output_dir", "seed"),
        *("model_name_or_path", "adapter_name_or_path", "create_new_adapter"),
        "include_effective_tokens_per_second",  # how many tokens it made of the rows; see checks.trained_tokens
    }
)
# With any of these it would train on other examples than one for each row.
OTHER_EXAMPLES = ("max_samples", "neat_packing", "packing", "streaming", "tokenized_path", "val_size")

# With any of these the loss that it logs last is not the mean of the answers' tokens for the model that it leaves.
OTHER_LOSSES = (
    *("load_best_model_at_end", "train_on_prompt", "label_smoothing_factor"),
    *("use_dft_loss", "use_asft_loss", "use_eaft_loss"),
)


@dataclass(frozen=True)
class StageSettings:
    """A stage's LLaMA-Factory recipe, the keys that override its keys, and `merged`, the keys that then hold."""

    recipe: Path
    overrides: dict[str, Any]
    merged: dict[str, Any]


def stage_settings(training: Training, name: str) -> StageSettings:
    """The settings of a stage. Raises RbftError that names all keys that cannot be used."""
    stage = training.stages[name]
    path, overrides = stage.recipe, training.overrides | stage.overrides
    try:
        merged = read_yaml(path) | overrides
    except FileNotFoundError:
        raise RbftError(f"training.stages.{name}.recipe: {path}: no such file") from None
    wrong = [f"overrides: {k} is set by the runner" for k in overrides if k in OWN_KEYS]
    if not (isinstance(merged.get("max_steps"), int) and merged["max_steps"] > 0):
        wrong.append("max_steps must be above 0: arms are compared at the same number of steps, never of epochs")
    if merged.get("finetuning_type") not in ("lora", "full"):
        wrong.append(f"finetuning_type must be lora or full, not {merged.get('finetuning_type')}")
    other = [key for key in OTHER_EXAMPLES if merged.get(key)]
    wrong += [f"{key} must not be set: a stage trains on exactly its rows" for key in other]
    measures = merged.get("do_eval") or merged.get("eval_strategy") not in (None, False, "no")
    if bool(measures) != bool(validation_sets(merged)):
        wrong.append("eval_dataset and eval_strategy need each other: the rows to measure the loss on, and when")
    if merged.get("load_best_model_at_end") and not resumable(merged):
        wrong.append(
            "load_best_model_at_end must not be set: with all weights and without DeepSpeed, transformers does "
            "not find a checkpoint's weights again"
        )
    if stage.checkpoint and stage.checkpoint not in saved_steps(merged):
        kept = ", ".join(map(str, saved_steps(merged))) or "none"
        wrong.append(f"checkpoint: {stage.checkpoint} is not kept before the last step; those that are: {kept}")
    if merged.get("deepspeed") and not Path(str(merged["deepspeed"])).is_file():
        wrong.append(f"deepspeed: {merged['deepspeed']}: no such file")
    if wrong:
        raise ProblemsError(f"{path} (training.stages.{name})", wrong)
    return StageSettings(path, overrides, merged)


def saved_steps(merged: dict[str, Any]) -> list[int]:
    """The optimizer steps whose checkpoints a stage leaves, but for the last step: that model lies in its folder.

    transformers takes a `save_steps` below 1 for a share of all steps. It keeps all checkpoints only if
    `save_total_limit` is not set.
    """
    every, steps = merged.get("save_steps", 500), merged.get("max_steps")
    if merged.get("save_strategy", "steps") != "steps" or merged.get("save_total_limit") or not isinstance(steps, int):
        return []
    return list(range(first, steps, first)) if (first := math.ceil(every * steps if every < 1 else every)) else []


def validation_sets(merged: dict[str, Any]) -> list[str]:
    """LLaMA-Factory's names of the datasets on which a stage measures its loss while it trains."""
    given = merged.get("eval_dataset") or []
    return [name.strip() for name in (given.split(",") if isinstance(given, str) else map(str, given))]


def environment(launch: Launch, merged: dict[str, Any]) -> dict[str, str | int]:
    """What makes LLaMA-Factory start torchrun as `launch` says; DeepSpeed needs that for a single process too."""
    if launch.processes is None:
        return {"FORCE_TORCHRUN": 1} if merged.get("deepspeed") else {}
    # NODE_RANK, which differs, comes from each node's own environment
    many: dict[str, str | int] = {"NNODES": launch.nodes, "MASTER_ADDR": launch.master_addr}
    many |= {"MASTER_PORT": launch.master_port}
    return {"FORCE_TORCHRUN": 1, "NPROC_PER_NODE": launch.processes} | (many if launch.nodes > 1 else {})


def resumable(merged: dict[str, Any]) -> bool:
    """Whether LLaMA-Factory resumes correctly from a checkpoint. It does not with all weights and without DeepSpeed:
    transformers 5.2.0 saves Qwen2.5-VL's weights under names that it does not find again, warns, and continues with the
    base model's weights.
    """
    return merged["finetuning_type"] == "lora" or bool(merged.get("deepspeed"))


def must_merge(start: Checkpoint, merged: dict[str, Any], adapters: str) -> bool:
    """Whether a stage can only start from a merged model: it trains all weights, or it cannot put a fresh adapter on
    another one. LLaMA-Factory refuses that if the base is quantized; under ZeRO-3 and with unsloth it silently
    continues with the old adapter.
    """
    if not start.adapters or merged["finetuning_type"] == "full":
        return bool(start.adapters)
    alone = merged.get("quantization_bit") or merged.get("use_unsloth") or _zero_stage(merged) == 3
    return adapters == "fresh" and bool(alone)


def _zero_stage(merged: dict[str, Any]) -> int:
    file = merged.get("deepspeed")
    return read_json(Path(file)).get("zero_optimization", {}).get("stage", 0) if file else 0


def argv(recipe: Path, overrides: dict[str, Any]) -> list[str]:
    return ["llamafactory-cli", "train", recipe.as_posix(), *(f"{k}={_value(v)}" for k, v in overrides.items())]


def _value(value: Any) -> str:
    """A value as LLaMA-Factory's key=value (OmegaConf) reads it: as YAML, where a bare no is false, 1e-5 a number."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z./][A-Za-z0-9_./,-]*", value)
    return value if plain and yaml.safe_load(value) == value else json.dumps(value, ensure_ascii=False)


def start_from(previous: Checkpoint, adapters: str) -> dict[str, Any]:
    """Overrides that make a stage start from a model. Its adapters are merged in memory and a fresh one is trained;
    with `adapters` "continue", all but the last are merged and the last is trained on.
    """
    given = {"adapter_name_or_path": ",".join(previous.adapters), "create_new_adapter": adapters == "fresh"}
    none = {"adapter_name_or_path": None, "create_new_adapter": False}
    return {"model_name_or_path": previous.base} | (given if previous.adapters else none)


def result(previous: Checkpoint, output: Path, finetuning_type: str, adapters: str) -> Checkpoint:
    """The model that a stage leaves: a full one, one adapter more, or another last adapter."""
    if finetuning_type == "full":
        return replace(previous, base=output.as_posix(), adapters=())
    kept = previous.adapters if adapters == "fresh" else previous.adapters[:-1]
    return replace(previous, adapters=(*kept, output.as_posix()))


def at_step(model: Checkpoint, step: int | None) -> Checkpoint:
    """The model of a stage as it was after `step` optimizer steps; None is the stage's last model, `model` itself."""
    if step is None:
        return model
    *before, last = model.adapters or (model.base,)
    saved = f"{last}/checkpoint-{step}"
    return replace(model, adapters=(*before, saved)) if model.adapters else replace(model, base=saved)


def export_argv(model: Checkpoint, output: Path, merged: dict[str, Any]) -> list[str]:
    """Merge a model's adapters, in order, into one checkpoint.

    LLaMA-Factory merges in the precision of the base's weights, as `loading.load_model` does, and then converts; by
    itself it would make half precision of float32. Without a file of settings it takes no key=value.
    """
    keys = {
        "model_name_or_path": model.base,
        "adapter_name_or_path": ",".join(model.adapters),
        "template": merged["template"],
        "trust_remote_code": "true" if merged.get("trust_remote_code") else "false",
        "infer_dtype": "bfloat16" if merged.get("bf16") or merged.get("pure_bf16") else "float32",
        "export_dir": output.as_posix(),
    }
    return ["llamafactory-cli", "export", *(word for k, v in keys.items() for word in (f"--{k}", v))]


def batch_size(merged: dict[str, Any], launch: Launch) -> int:
    """Rows of one optimizer step, over all processes (LLaMA-Factory's defaults: 8 a device, no accumulation)."""
    own: int = merged.get("per_device_train_batch_size", 8) * merged.get("gradient_accumulation_steps", 1)
    return own * (launch.processes or 1) * launch.nodes
