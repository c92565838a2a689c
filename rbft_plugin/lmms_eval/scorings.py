"""data/<name>/test_scorings.jsonl: a line for each time that the test split of a dataset was scored.

lmms-eval adds a line at its end. For that, `install` wraps the method with which its main process saves results, a
private part of lmms-eval 0.7.3. It is called once for each model, only if the evaluation succeeded, and also where no
samples are logged. `rbft report` adds the scorings that it reads and that have no line yet. Lines are only appended.

The logs of one start of lmms-eval (answers, likelihoods, answers without the video) are one scoring. A copy of a log is
the scoring that it is a copy of: its name has the time of the start, and its content is the same.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from rbft_plugin.data.prepared import DataFolder, json_line, read_jsonl
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.spec.names import TASK_KINDS, parse_task

SECONDS = 30  # to wait for another process that adds a line


class Scoring(BaseModel, frozen=True):
    """A line. `test` is the version of the split; `scoring` is the same for copies of a log.

    `model` are the --model_args, "" if they are not known. `log` is relative to the workspace if it lies in it, and
    None without --log_samples; its path names the run, if a run made it. `when` is the time at which the log was
    written. `samples` is how many were scored.
    """

    test: str
    scoring: str
    task: str
    model: str
    log: str | None
    when: str
    samples: int


@dataclass(frozen=True)
class Scored:
    """What a start of lmms-eval has scored on a test split. `log` is there when lmms-eval ends, if it logs samples."""

    dataset: str
    task: str
    model: str
    start: str
    log: Path | None
    samples: int


def version_of_split(dataset: str, workspace: Path = Path()) -> str:
    """A hash of the ids and labels of the prepared test split."""
    samples = read_jsonl(workspace / DataFolder(dataset).samples("test"))
    return _hash(json.dumps(sorted([sample["id"], sample["label"]] for sample in samples)).encode())


def of_log(log: Path, test: str, workspace: Path = Path()) -> Scoring:
    """The scoring that a log belongs to; `test` is the version of the split. Raises OSError."""
    log = _standing_for(log)
    content = log.read_bytes()
    path = Path(os.path.abspath(log))
    top = Path(os.path.abspath(workspace))
    return Scoring(
        test=test,
        scoring=_hash(evaluation.start_of(log).encode() + content),
        task=evaluation.task_of(log),
        model=evaluation.model_args(log),
        log=(path.relative_to(top) if path.is_relative_to(top) else path).as_posix(),
        when=_utc(log.stat().st_mtime),
        samples=len(content.splitlines()),
    )


def _standing_for(log: Path) -> Path:
    """Of the logs of a start, the first in the order of TASK_KINDS: that of answers, if there is one."""
    if not evaluation.task_of(log).startswith("rbft_"):
        return log
    logs = (evaluation.beside(log, name) for name, kind in TASK_KINDS.items() if kind.scores)
    return next((one for one in logs if one.is_file()), log)


def read(dataset: str, workspace: Path = Path()) -> tuple[list[Scoring], list[int]]:
    """(the scorings, the numbers of damaged lines). Raises OSError."""
    file = workspace / DataFolder(dataset).test_scorings
    scorings, damaged = [], []
    for number, line in enumerate(file.read_bytes().splitlines() if file.exists() else [], 1):
        try:
            scorings.append(Scoring.model_validate_json(line))
        except ValidationError:
            damaged.append(number)
    return scorings, damaged


def add(dataset: str, scorings: Sequence[Scoring], workspace: Path = Path(), own: bool = False) -> None:
    """Append the scorings that have no line yet. Raises OSError.

    `own` scorings were just made here, so none is a copy: two models may give the same answers in the same second.
    """
    from filelock import FileLock

    folder = DataFolder(dataset)
    file = workspace / folder.test_scorings
    with FileLock(workspace / folder.test_scorings_lock, timeout=SECONDS):

        def key(one: Scoring) -> tuple[str, ...]:
            return (one.test, one.scoring, one.model) if own else (one.test, one.scoring)

        known = {key(one) for one in read(dataset, workspace)[0]}
        lines = [json_line(one.model_dump()) for one in scorings if key(one) not in known]
        if lines:
            with file.open("a+b") as content:
                # A line that was cut off, as by a full disk, must not take the next one with it.
                whole = not content.tell() or file.read_bytes().endswith(b"\n")
                content.write(("" if whole else "\n").encode() + "".join(lines).encode())


def install() -> None:
    """Wrap the method of lmms-eval that saves results. A process has to call this once."""
    from lmms_eval.loggers.evaluation_tracker import EvaluationTracker

    original: Callable[..., None] = EvaluationTracker.save_results_aggregated

    @wraps(original)
    def save_results_aggregated(self: Any, results: dict[str, Any], samples: Any, datetime_str: str) -> None:
        original(self, results=results, samples=samples, datetime_str=datetime_str)
        try:
            for scored in _scored(self, results, bool(samples), datetime_str):
                atexit.register(_add_at_exit, scored)  # the logs are written after the results
        except Exception as error:
            _warn(f"a scoring of a test split is not counted ({type(error).__name__}: {error})")

    EvaluationTracker.save_results_aggregated = save_results_aggregated


def _scored(tracker: Any, results: dict[str, Any], logged: bool, start: str) -> list[Scored]:
    tasks: dict[str, dict[str, str]] = {}  # of each dataset: its tasks by kind
    for task in results["configs"]:
        of = parse_task(task)
        if task.startswith("rbft_") and of.split == "test" and TASK_KINDS[of.kind].scores:
            tasks.setdefault(of.dataset, {})[of.kind] = task
    start = start.replace(":", "-")  # as in the names of its files
    found = []
    for dataset, by_kind in tasks.items():
        task = next(by_kind[kind] for kind in TASK_KINDS if kind in by_kind)
        log = None
        if logged and tracker.output_path:
            folder = Path(tracker.output_path, tracker.general_config_tracker.model_name_sanitized)
            log = (folder / f"{start}_samples_{task}.jsonl").absolute()
        model = str(results["config"].get("model_args") or "")
        found.append(Scored(dataset, task, model, start, log, results["n-samples"][task]["effective"]))
    return found


def _add_at_exit(scored: Scored) -> None:
    """Add the line of a scoring to the workspace that has its data. Failures are only warned of."""
    from rbft_plugin.lmms_eval import tasks

    folder = DataFolder(scored.dataset)
    try:
        workspace = next((one for one in tasks.workspaces if (one / folder.samples("test")).is_file()), None)
        if workspace is None:  # a task of somebody else
            return
        test = version_of_split(scored.dataset, workspace)
        if scored.log and scored.log.is_file():
            one = of_log(scored.log, test, workspace)
        else:
            one = Scoring(
                test=test,
                scoring=_hash(f"{scored.start} {scored.model}".encode()),
                task=scored.task,
                model=scored.model,
                log=None,
                when=_utc(datetime.now(UTC).timestamp()),
                samples=scored.samples,
            )
        add(scored.dataset, [one], workspace, own=True)
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        _warn(f"this scoring of the test split of {scored.dataset} has no line in {folder.test_scorings} ({reason})")


def _warn(text: str) -> None:
    print(f"rbft: {text}", file=sys.stderr)


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
