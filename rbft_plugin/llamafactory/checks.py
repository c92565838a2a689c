"""What LLaMA-Factory reads and leaves on disk, judged before it starts and after it ends.

It drops rows that it does not understand and continues, and it resumes from any checkpoint in its output folder. So its
exit status does not tell whether a stage was trained on all of its rows.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from rbft_plugin.files import read_json
from rbft_plugin.llamafactory.training import batch_size
from rbft_plugin.spec.recipe import Launch

BATCH = r"Total train batch size \(w\. parallel, distributed & accumulation\)"  # of its log


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
    output: Path,
    log: str,
    rows: int,
    merged: dict[str, Any],
    launch: Launch,
    tokens: int | None = None,
    checkpoints: Collection[int] = (),
) -> list[str]:
    """What shows that a training did not do what was meant, whatever its exit status.

    `tokens` is the length of all rows together, where it is known. `checkpoints` are steps whose models are needed.
    """
    weights = "adapter_model" if merged["finetuning_type"] == "lora" else "model"
    problems = []
    for folder in (output, *(output / f"checkpoint-{step}" for step in checkpoints)):
        if not [*folder.glob(f"{weights}*.safetensors"), *folder.glob(f"{weights}*.bin")]:
            problems.append(f"there is no {weights}*.safetensors in {folder}")
    state_file = output / "trainer_state.json"
    state = json.loads(state_file.read_text(encoding="utf-8")) if state_file.is_file() else {}
    if state.get("global_step") != merged["max_steps"]:
        problems.append(f"it made {state.get('global_step', 'none')} of {merged['max_steps']} optimizer steps")
    if merged.get("load_best_model_at_end") and not state.get("best_model_checkpoint"):
        problems.append("it chose no checkpoint, though load_best_model_at_end is set")
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


def _logged(log: str, name: str) -> int | None:
    """A number that the trainer prints as it starts: the first, since an evaluation prints its own later."""
    found = re.search(rf"{name} = ([\d,]+)", log)
    return int(found.group(1).replace(",", "")) if found else None


def export_problems(output: Path) -> list[str]:
    """What an exported checkpoint lacks to be loaded by transformers, lmms-eval and vLLM."""
    wanted = ("config.json", "generation_config.json", "tokenizer_config.json", "model*.safetensors")
    lost = [name for name in wanted if not list(output.glob(name))]
    if not [*output.glob("preprocessor_config.json"), *output.glob("processor_config.json")]:
        lost.append("processor_config.json")
    return [f"there is no {name} in {output}" for name in lost]


# What of a checkpoint-* serves only to resume a training, as transformers and DeepSpeed name it.
STATES = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth", "global_step*", "latest", "zero_to_fp32.py")


def remove_checkpoints(output: Path, kept: Collection[int] = ()) -> None:
    """Delete the checkpoints of a finished training, whose last model lies beside them.

    Of the steps `kept`, only what serves to resume is deleted.
    """
    stay = [output / f"checkpoint-{step}" for step in kept]
    for folder in output.glob("checkpoint-*"):
        states = [path for pattern in STATES for path in folder.glob(pattern)] if folder in stay else [folder]
        for path in states:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
