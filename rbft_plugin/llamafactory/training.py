"""The seam to LLaMA-Factory: its command line, what it must be given, and what it must have left on disk.

It drops rows that it does not understand and goes on, resumes from whatever checkpoint lies in its output folder, and
ignores what it does not know. So rows are checked before it starts, and what it reports after it ends.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.files import read_json
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.spec.recipe import Launch, Training
from rbft_plugin.spec.yaml_models import read_yaml

# What the runner decides; a recipe that set one of these would not be used as it says.
OWN_KEYS = frozenset(
    {
        *("dataset", "dataset_dir", "media_dir", "output_dir", "seed"),
        *("model_name_or_path", "adapter_name_or_path", "create_new_adapter"),
        "include_effective_tokens_per_second",  # says how many tokens it made of the rows, see `trained_tokens`
    }
)
BATCH = r"Total train batch size \(w\. parallel, distributed & accumulation\)"  # of its log
# With any of these it would train on other examples than one for each row.
OTHER_EXAMPLES = ("max_samples", "neat_packing", "packing", "streaming", "tokenized_path", "val_size")


def settings(training: Training, name: str) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """(LLaMA-Factory recipe, overrides, both merged) of a stage; raises RbftError on keys that cannot be so."""
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
    wrong += [f"{key} must not be set: a stage learns each of its rows, as it stands" for key in other]
    if merged.get("deepspeed") and not Path(str(merged["deepspeed"])).is_file():
        wrong.append(f"deepspeed: {merged['deepspeed']}: no such file")
    if wrong:
        raise ProblemsError(f"{path} (training.stages.{name})", wrong)
    return path, overrides, merged


def environment(launch: Launch, merged: dict[str, Any]) -> dict[str, str | int]:
    """What makes LLaMA-Factory start torchrun as `launch` says; DeepSpeed needs that for a single process too."""
    if launch.processes is None:
        return {"FORCE_TORCHRUN": 1} if merged.get("deepspeed") else {}
    # NODE_RANK, which differs, comes from each node's own environment
    many: dict[str, str | int] = {"NNODES": launch.nodes, "MASTER_ADDR": launch.master_addr}
    many |= {"MASTER_PORT": launch.master_port}
    return {"FORCE_TORCHRUN": 1, "NPROC_PER_NODE": launch.processes} | (many if launch.nodes > 1 else {})


def resumable(merged: dict[str, Any]) -> bool:
    """Whether LLaMA-Factory goes on rightly from a checkpoint: not with all weights and without DeepSpeed.

    transformers 5.2.0 saves Qwen2.5-VL under other names than it looks for when it resumes, warns, and goes on with
    the base model's weights.
    """
    return merged["finetuning_type"] == "lora" or bool(merged.get("deepspeed"))


def must_merge(start: Checkpoint, merged: dict[str, Any], adapters: str) -> bool:
    """Whether a stage can only start from a merged model: all weights are trained, or a fresh adapter cannot be put on
    another one. LLaMA-Factory refuses that where the base is quantized; under ZeRO-3 and with unsloth it goes on with
    the old adapter without a word.
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


def export_problems(output: Path) -> list[str]:
    """What an exported checkpoint lacks to be loaded by transformers, lmms-eval and vLLM."""
    wanted = ("config.json", "generation_config.json", "tokenizer_config.json", "model*.safetensors")
    lost = [name for name in wanted if not list(output.glob(name))]
    if not [*output.glob("preprocessor_config.json"), *output.glob("processor_config.json")]:
        lost.append("processor_config.json")
    return [f"there is no {name} in {output}" for name in lost]


def row_problems(rows: Iterable[Any]) -> list[str]:
    """What in training rows LLaMA-Factory would drop, only warn of, or die of in the middle of a run."""
    problems = []
    number = 0
    for number, row in enumerate(rows, 1):
        if wrong := _row_problem(row):
            named = f" (id '{row['id']}')" if isinstance(row, dict) and "id" in row else ""
            problems.append(f"row {number}{named}: {wrong}")
    return problems if number else ["there are no rows"]


def _row_problem(row: Any) -> str | None:
    if not isinstance(row, dict) or not {"messages", "videos"} <= set(row):
        return "must have 'messages' and 'videos'"
    messages, videos = row["messages"], row["videos"]
    if not (isinstance(messages, list) and all(isinstance(m, dict) for m in messages)):
        return "'messages' must be a list of objects"
    if [m.get("role") for m in messages] != ["user", "assistant"]:
        return "'messages' must be one of role user, then one of role assistant"
    if not all(isinstance(m.get("content"), str) and m["content"].strip() for m in messages):
        return "a message is empty"
    marks = [m["content"].count("<video>") for m in messages]
    if marks != [1, 0] or "<image>" in messages[0]["content"] + messages[1]["content"]:
        return "needs '<video>' once, in the user's message, and no '<image>'"
    if not (isinstance(videos, list) and len(videos) == 1 and isinstance(videos[0], str)):
        return "'videos' must be a list of one path"
    return None if Path(videos[0]).is_file() else f"no such clip: {videos[0]}"


def output_problems(
    output: Path, log: str, rows: int, merged: dict[str, Any], launch: Launch, tokens: int | None = None
) -> list[str]:
    """What shows that a training did not do what was meant, whatever its exit status.

    `tokens` is the length of all rows together, where it is known.
    """
    weights = "adapter_model" if merged["finetuning_type"] == "lora" else "model"
    problems = []
    if not [*output.glob(f"{weights}*.safetensors"), *output.glob(f"{weights}*.bin")]:
        problems.append(f"there is no {weights}*.safetensors in {output}")
    state_file = output / "trainer_state.json"
    state = json.loads(state_file.read_text(encoding="utf-8")) if state_file.is_file() else {}
    if state.get("global_step") != merged["max_steps"]:
        problems.append(f"it made {state.get('global_step', 'none')} of {merged['max_steps']} optimizer steps")
    examples = _logged(log, "Num examples")
    if examples is None:
        problems.append("its log does not say on how many rows it trained")
    elif examples != rows:
        problems.append(f"it trained on {examples:,} of {rows} rows; its log says why it dropped the others")
    elif tokens is not None and (made := trained_tokens(output, log, merged)) != tokens:
        problems.append(
            f"it made {made or 'an unknown number of'} tokens of its rows, not {tokens} as the evaluation would: it "
            "cut some, or its template writes them otherwise"
        )
    batch = _logged(log, BATCH)
    if launch.processes and batch != (meant := batch_size(merged, launch)):
        problems.append(f"its batches held {batch or 'unknown'} rows, not {meant}, over all processes")
    if "missing keys in the checkpoint model loaded" in log:
        problems.append("it resumed from a checkpoint without its weights, which transformers does not find in it")
    losses = [entry["loss"] for entry in state.get("log_history", []) if "loss" in entry]
    if any(not math.isfinite(loss) for loss in losses):
        problems.append("its loss is not a finite number")
    return problems


def trained_tokens(output: Path, log: str, merged: dict[str, Any]) -> int | None:
    """How many tokens LLaMA-Factory made of all rows, once each, after cutting; None if it does not say."""
    batch, epochs, tokens = _logged(log, BATCH), *_of_a_process(output)
    return round(tokens / epochs * batch / batch_size(merged, Launch())) if batch and epochs and tokens else None


def tokens_read(output: Path, log: str) -> int | None:
    """How many tokens a training read, over its epochs and processes; None if it does not say."""
    whole, own, steps = (_logged(log, n) for n in (BATCH, "Instantaneous batch size per device", "Accumulation steps"))
    _, tokens = _of_a_process(output)
    return round(tokens * whole / own / steps) if whole and own and steps and tokens else None


def _of_a_process(output: Path) -> tuple[float | None, float | None]:
    """Epochs of a training, and the tokens that one of its processes read in them, where it says so.

    It says tokens / seconds / processes (include_effective_tokens_per_second; LLaMA-Factory's extras/misc.py).
    """
    file = output / "train_results.json"
    said = read_json(file) if file.is_file() else {}
    if not {"effective_tokens_per_sec", "train_runtime"} <= set(said):
        return said.get("epoch"), None
    return said.get("epoch"), said["effective_tokens_per_sec"] * said["train_runtime"]


def batch_size(merged: dict[str, Any], launch: Launch) -> int:
    """Rows of one optimizer step, over all processes (LLaMA-Factory's defaults: 8 a device, no accumulation)."""
    own: int = merged.get("per_device_train_batch_size", 8) * merged.get("gradient_accumulation_steps", 1)
    return own * (launch.processes or 1) * launch.nodes


def _logged(log: str, name: str) -> int | None:
    """A number that the trainer prints as it starts: the first, since an evaluation prints its own later."""
    found = re.search(rf"{name} = ([\d,]+)", log)
    return int(found.group(1).replace(",", "")) if found else None


def remove_checkpoints(output: Path) -> None:
    """Delete the optimizer states of a finished training; the model itself lies beside them."""
    for folder in output.glob("checkpoint-*"):
        shutil.rmtree(folder)
