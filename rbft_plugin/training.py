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
from pathlib import Path
from typing import Any

import yaml

from rbft_plugin.checkpoint import Checkpoint
from rbft_plugin.config import read_yaml
from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.recipe import Stage, Training

# What the runner decides; a recipe that set one of these would not be used as it says.
OWN_KEYS = frozenset(
    {
        *("dataset", "dataset_dir", "media_dir", "output_dir", "seed"),
        *("model_name_or_path", "adapter_name_or_path", "create_new_adapter"),
    }
)


def settings(training: Training, stage: Stage) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """(LLaMA-Factory recipe, overrides, both merged) of a stage; raises RbftError on keys that cannot be so."""
    own = getattr(training, stage)
    path, overrides = own.recipe, training.overrides | own.overrides
    try:
        merged = read_yaml(path) | overrides
    except FileNotFoundError:
        raise RbftError(f"training.{stage}.recipe: {path}: no such file") from None
    wrong = [f"overrides: {k} is set by the runner" for k in overrides if k in OWN_KEYS]
    if not (isinstance(merged.get("max_steps"), int) and merged["max_steps"] > 0):
        wrong.append("max_steps must be above 0: arms are compared at the same number of steps, never of epochs")
    if merged.get("finetuning_type") not in ("lora", "full"):
        wrong.append(f"finetuning_type must be lora or full, not {merged.get('finetuning_type')}")
    if wrong:
        raise ProblemsError(f"{path} (training.{stage})", wrong)
    return path, overrides, merged


def argv(recipe: Path, overrides: dict[str, Any]) -> list[str]:
    return ["llamafactory-cli", "train", recipe.as_posix(), *(f"{k}={_value(v)}" for k, v in overrides.items())]


def _value(value: Any) -> str:
    """A value as LLaMA-Factory's key=value (OmegaConf) reads it: as YAML, where a bare no is false, 1e-5 a number."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z./][A-Za-z0-9_./,-]*", value)
    return value if plain and yaml.safe_load(value) == value else json.dumps(value, ensure_ascii=False)


def start_from(previous: Checkpoint) -> dict[str, Any]:
    """Overrides that make a stage start from a model: its adapters are merged in memory and a fresh one is trained."""
    adapters = {"adapter_name_or_path": ",".join(previous.adapters), "create_new_adapter": True}
    none = {"adapter_name_or_path": None, "create_new_adapter": False}
    return {"model_name_or_path": previous.base} | (adapters if previous.adapters else none)


def result(previous: Checkpoint, output: Path, finetuning_type: str, dataset: str) -> Checkpoint:
    """The model that a stage leaves: a full one, or one adapter more."""
    if finetuning_type == "full":
        return Checkpoint(output.as_posix(), (), dataset)
    return Checkpoint(previous.base, (*previous.adapters, output.as_posix()), dataset)


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


def output_problems(output: Path, log: str, rows: int, max_steps: int, finetuning_type: str) -> list[str]:
    """What shows that a training did not do what was meant, whatever its exit status."""
    weights = "adapter_model" if finetuning_type == "lora" else "model"
    problems = []
    if not [*output.glob(f"{weights}*.safetensors"), *output.glob(f"{weights}*.bin")]:
        problems.append(f"there is no {weights}*.safetensors in {output}")
    state_file = output / "trainer_state.json"
    state = json.loads(state_file.read_text(encoding="utf-8")) if state_file.is_file() else {}
    if state.get("global_step") != max_steps:
        problems.append(f"it made {state.get('global_step', 'none')} of {max_steps} optimizer steps")
    examples = re.search(r"Num examples = ([\d,]+)", log)  # the first: an evaluation logs its own later
    if not examples:
        problems.append("its log does not say on how many rows it trained")
    elif int(examples.group(1).replace(",", "")) != rows:
        problems.append(f"it trained on {examples.group(1)} of {rows} rows; its log says why it dropped the others")
    losses = [entry["loss"] for entry in state.get("log_history", []) if "loss" in entry]
    if any(not math.isfinite(loss) for loss in losses):
        problems.append("its loss is not a finite number")
    return problems


def remove_checkpoints(output: Path) -> None:
    """Delete the optimizer states of a finished training; the model itself lies beside them."""
    for folder in output.glob("checkpoint-*"):
        shutil.rmtree(folder)
