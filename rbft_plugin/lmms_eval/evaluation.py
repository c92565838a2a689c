"""How an evaluation starts, and what it leaves: lmms-eval's command line, its logs of samples and its results.

lmms-eval exits 0 even after an unknown task or an exception. So an evaluation has worked only if its log has every
sample once and there is a file of results.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rbft_plugin.data.prepared import read_jsonl
from rbft_plugin.errors import RbftError, shortened
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.spec.names import TASK_KINDS, parse_task, task_name
from rbft_plugin.spec.recipe import EvaluationSettings

SAMPLES = "RBFT_SAMPLES"  # an environment variable: the file of `chosen_samples`, for tasks that end in a split


def chosen_samples(ids: Iterable[str], file: Path) -> list[str]:
    """Those of the ids that a file names, each once, ordered by a hash, so that the first ones are a fair part.

    The file has JSON lines with an `id`, such as training rows. Raises RbftError if there is no such file, a line has
    no id, or it names none of the ids.
    """
    if not file.is_file():
        raise RbftError(f"{SAMPLES}: {file}: no such file")
    named = set()
    for number, row in enumerate(read_jsonl(file), 1):
        if not isinstance(row, dict) or "id" not in row:
            raise RbftError(f"{SAMPLES}: {file}: row {number} has no 'id'")
        named.add(row["id"])
    scored = list(ids)
    if not named & set(scored):
        raise RbftError(f"{SAMPLES}: {file}: it names none of the {len(scored)} labelled samples of the split")
    return sorted(named & set(scored), key=lambda one: hashlib.sha256(one.encode()).digest())


def argv(
    checkpoint: Checkpoint, task: str, output: Path, evaluation: EvaluationSettings, processes: int | None = None
) -> list[str]:
    """The command of lmms-eval. With several processes, each takes a part of the samples."""
    model_args = [checkpoint.model_args(), *(f"{k}={v}" for k, v in evaluation.model_args.items())]
    # Without --multi_gpu, accelerate starts one process. On a CPU it means gloo. Port 0 is any free port.
    several = ["accelerate", "launch", "--multi_gpu", "--num_processes", str(processes), "--main_process_port", "0"]
    command = [*several, "-m", "lmms_eval"] if (processes or 1) > 1 else ["lmms-eval"]
    command += ["--model", "rbft_vl", "--model_args", ",".join(model_args), "--tasks", task]
    command += ["--batch_size", str(evaluation.batch_size), "--log_samples", "--output_path", output.as_posix()]
    for option, value in evaluation.args.items():
        if value is not None and value is not False:  # flags of lmms-eval take no value
            command += [f"--{option}"] if value is True else [f"--{option}", str(value)]
    return command


@dataclass(frozen=True)
class EvaluationRow:
    """One sample of a log of samples. What the log does not have is None; an answer that it does not have is ""."""

    sample_id: str | None  # the logs of our tasks have it
    doc_id: int | None  # position in the split
    target: str | None
    prompt: str | None
    answer: str  # before lmms-eval stripped <think> parts from it
    further_answers: int  # how many more answers the log has of this sample
    output_tokens: int | None
    predicted: bool  # whether the log has a prediction, as those of our scored tasks do
    prediction: str | None  # None may also mean that the answer names no label
    rule: int | None  # of scoring.answers, by which the answer was read; 0 for no answer
    probabilities: dict[str, float] | None


def read_log(path: Path) -> list[EvaluationRow]:
    """The samples of a log, in its order. Raises RbftError that names the first line that is not JSON."""
    return [_evaluation_row(row) for row in read_jsonl(path)]


def _evaluation_row(row: dict[str, Any]) -> EvaluationRow:
    doc_id, answers, probabilities = row.get("doc_id"), row.get("resps"), row.get("probabilities")
    return EvaluationRow(
        sample_id=_text(row.get("sample_id")),
        doc_id=doc_id if isinstance(doc_id, int) else None,
        target=_text(row.get("target")),
        prompt=row.get("input"),
        answer=_first_text(row.get("resps", row.get("filtered_resps"))),
        further_answers=max(len(answers) - 1, 0) if isinstance(answers, list) else 0,
        output_tokens=next((count.get("output_tokens") for count in row.get("token_counts") or [] if count), None),
        predicted="prediction" in row,
        prediction=row.get("prediction"),
        rule=row.get("rule"),
        probabilities=probabilities if isinstance(probabilities, dict) else None,
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _first_text(answers: Any) -> str:
    while isinstance(answers, list) and answers:
        answers = answers[0]
    return answers if isinstance(answers, str) else ""


def sample_logs(output: Path, of: Literal["answers", "rationales"] = "answers") -> list[Path]:
    """The logs of rbft_<name> tasks below a folder, or the file itself; `of` rationales: of tasks that write these."""
    kinds = ["label"] if of == "answers" else [name for name, kind in TASK_KINDS.items() if not kind.scores]
    files = [output] if output.is_file() else sorted(output.rglob("*.jsonl"))
    return [path for path in files if path.match("*_samples_rbft_*.jsonl") and parse_task(task_of(path)).kind in kinds]


def only_log(output: Path, of: Literal["answers", "rationales"] = "answers") -> Path:
    """The one log of samples below a folder, or the file itself; raises RbftError listing them if there are several."""
    if not output.exists():
        raise RbftError(f"{output}: no such file or folder")
    logs = sample_logs(output, of)
    if len(logs) != 1:
        listed = "\n".join(f"  - {path}" for path in logs) or "  - none"
        hint = "name the one that you mean." if logs else "was lmms-eval run with --log_samples, and did it finish?"
        raise RbftError(f"{output}: needs one log of {of} (*_samples_rbft_*.jsonl); {hint} There are:\n{listed}")
    return logs[0]


def start_of(log: Path) -> str:
    """What the names of all files of one start of lmms-eval begin with: its time, such as "20260101_000000"."""
    return log.name.split("_samples_", 1)[0]


def task_of(log: Path) -> str:
    return log.stem.split("_samples_", 1)[1]


def beside(log: Path, kind: str) -> Path:
    """Where the same start of lmms-eval leaves the log of another kind of task of the same dataset and split."""
    of = parse_task(task_of(log))
    return log.with_name(f"{start_of(log)}_samples_{task_name(of.dataset, kind, of.split, of.fold)}.jsonl")


def output_problems(output: Path, task: str, ids: list[str]) -> list[str]:
    """Problems which show that an evaluation of the samples `ids` failed, whatever its exit status; [] if it worked."""
    logs = list(output.rglob(f"*_samples_{task}.jsonl"))
    result_files = list(output.rglob("*_results.json"))
    if len(logs) != 1 or not result_files:
        return [f"it left {len(logs)} logs of samples and {len(result_files)} files of results"]
    logged = [row.sample_id or "" for row in read_log(logs[0])]
    if sorted(logged) == sorted(ids):
        return []
    lost = sorted(set(ids) - set(logged))
    return [f"it logged {len(logged)} of {len(ids)} samples" + (f"; missing: {shortened(lost)}" if lost else "")]


def generation_settings(log: Path) -> dict[str, Any]:
    """The generation settings in the results beside a log of samples; {} if there are none."""
    return results(log).get("configs", {}).get(task_of(log), {}).get("generation_kwargs") or {}


def model_args(log: Path) -> str:
    """The --model_args in the results beside a log of samples; "" if there are none."""
    return str(results(log).get("config", {}).get("model_args") or "")


def results(log: Path) -> dict[str, Any]:
    """The results that lmms-eval wrote beside a log of samples; {} if there are none."""
    path = log.with_name(f"{start_of(log)}_results.json")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
