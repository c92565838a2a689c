"""The seam to lmms-eval: its command line, and its result files, which alone tell whether it worked.

It exits 0 after an unknown task or an exception in the middle; so a step counts as done when its log of samples holds
every sample once, and beside it lies a file of results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rbft_plugin.data.prepared import read_jsonl
from rbft_plugin.errors import RbftError, shortened
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.spec.names import TASK_KINDS, task_kind
from rbft_plugin.spec.recipe import Evaluation


def argv(
    checkpoint: Checkpoint, task: str, output: Path, evaluation: Evaluation, processes: int | None = None
) -> list[str]:
    """lmms-eval's command; with several processes each takes a share of the samples."""
    model_args = [checkpoint.model_args(), *(f"{k}={v}" for k, v in evaluation.model_args.items())]
    # --multi_gpu: without it accelerate starts one process; on a CPU it means gloo. Port 0: a free one
    many = ["accelerate", "launch", "--multi_gpu", "--num_processes", str(processes), "--main_process_port", "0"]
    command = [*many, "-m", "lmms_eval"] if (processes or 1) > 1 else ["lmms-eval"]
    command += ["--model", "rbft_vl", "--model_args", ",".join(model_args), "--tasks", task]
    command += ["--batch_size", str(evaluation.batch_size), "--log_samples", "--output_path", output.as_posix()]
    for option, value in evaluation.args.items():
        if value is not None and value is not False:  # lmms-eval's flags take no word after them
            command += [f"--{option}"] if value is True else [f"--{option}", str(value)]
    return command


def sample_logs(output: Path, suffix: str = "") -> list[Path]:
    """Logs of samples of rbft_<name> tasks below a folder, or the file itself; `suffix` "_rationale": of rationales,
    blind or hinted.
    """
    kinds = [kind for kind in TASK_KINDS if (kind.startswith("rationale") if suffix else kind == "label")]
    logs = [output] if output.is_file() else sorted(output.rglob("*.jsonl"))
    logs = [p for p in logs if p.match("*_samples_rbft_*.jsonl")]
    return [p for p in logs if task_kind(task_of(p)) in kinds]


def only_log(output: Path, suffix: str = "") -> Path:
    """The one log of samples below a folder, or the file itself; raises RbftError listing them if there are several."""
    logs = sample_logs(output, suffix)
    kind = "rationales" if suffix else "answers"
    if not output.exists():
        raise RbftError(f"{output}: no such file or folder")
    if len(logs) != 1:
        found = "\n".join(f"  - {p}" for p in logs) or "  - none"
        hint = "name the one that you mean." if logs else "was lmms-eval run with --log_samples, and did it finish?"
        raise RbftError(f"{output}: needs one log of {kind} (*_samples_rbft_*.jsonl); {hint} There are:\n{found}")
    return logs[0]


def task_of(log: Path) -> str:
    return log.stem.split("_samples_", 1)[1]


def output_problems(output: Path, task: str, ids: list[str]) -> list[str]:
    """What shows that an evaluation did not do what was meant, whatever its exit status."""
    logs = sorted(output.rglob(f"*_samples_{task}.jsonl"))
    results = list(output.rglob("*_results.json"))
    if len(logs) != 1 or not results:
        return [f"it left {len(logs)} logs of samples and {len(results)} files of results"]
    done = [row.get("sample_id") for row in read_jsonl(logs[0])]
    if sorted(map(str, done)) != sorted(ids):
        lost = sorted(set(ids) - set(map(str, done)))
        return [f"it logged {len(done)} of {len(ids)} samples" + (f"; missing: {shortened(lost)}" if lost else "")]
    return []


def answer_text(row: dict[str, Any]) -> str:
    """The model's text in a logged sample, before lmms-eval stripped <think> parts from it."""
    raw = row.get("resps", row.get("filtered_resps"))
    while isinstance(raw, list) and raw:
        raw = raw[0]
    return raw if isinstance(raw, str) else ""


def generation_settings(log: Path) -> dict[str, Any]:
    """The generation settings that the results beside a log of samples name; {} if there are none."""
    return results(log).get("configs", {}).get(task_of(log), {}).get("generation_kwargs") or {}


def model_args(log: Path) -> str:
    """The --model_args that the results beside a log of samples name; "" if there are none."""
    return results(log).get("config", {}).get("model_args", "")


def results(log: Path) -> dict[str, Any]:
    """The results that lmms-eval wrote beside a log of samples; {} if there are none."""
    path = log.with_name(f"{log.name.split('_samples_')[0]}_results.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
