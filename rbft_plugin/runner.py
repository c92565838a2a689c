"""Runs the steps of a plan in order: skips what is done, resumes what was cut off, stops at the first failure.

A step is done when its record lies in steps/ and names the inputs that are on disk now. The record is written last.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rbft_plugin import files, provenance
from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.plan import Plan, Step

PACKAGES = ("rbft", "llamafactory", "lmms-eval", "torch", "transformers", "peft", "deepspeed", "decord", "av")
Notify = Callable[[str, Step, str], None]  # (skipped | started | line | done, step, text)


def versions() -> dict[str, str]:
    """Installed versions of what results depend on, and of Python."""
    return {"python": sys.version.split()[0]} | {p: version(p) for p in PACKAGES}


def execute(plan: Plan, notify: Notify) -> None:
    """Run what is not done; raises RbftError with the reason and the log of the step that failed."""
    from filelock import FileLock, Timeout

    plan.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(plan.folder / ".lock")
    try:
        with lock.acquire(timeout=0):
            for step in plan.steps:
                if is_done(plan, step) and not step.always:
                    notify("skipped", step, "")
                else:
                    _run(plan, step, notify)
    except Timeout:
        raise RbftError(f"{plan.folder}: another `rbft run` is at work there") from None


def is_done(plan: Plan, step: Step) -> bool:
    """Whether the step's record and what it made are there, and its inputs are what they were."""
    made = [*([step.output] if step.output else []), *step.leaves]
    return all(p.exists() for p in made) and record(plan, step).get("inputs") == step.inputs()


def record(plan: Plan, step: Step) -> dict[str, Any]:
    """What is known of the step's last success; {} if it never succeeded."""
    return _read(_steps(plan) / f"{step.slug}.json")


def superseded(plan: Plan) -> tuple[Path, int]:
    """Where outputs of changed or interrupted steps were moved, and how many bytes they hold."""
    folder = plan.folder / "superseded"
    return folder, sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _steps(plan: Plan) -> Path:
    return plan.folder / "steps"


def _read(path: Path) -> dict[str, Any]:
    return files.read_json(path) if path.is_file() else {}


def _run(plan: Plan, step: Step, notify: Notify) -> None:
    problems = step.problems_before()
    if problems:
        raise ProblemsError(f"{step.name}: not started", problems)
    inputs = step.inputs()
    _clear_output(plan, step, inputs)
    log = plan.folder / "logs" / f"{step.slug}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    done, started = _steps(plan) / f"{step.slug}.json", _steps(plan) / f"{step.slug}.started.json"
    files.write_json(started, {"inputs": inputs})  # first, so that at no moment the output looks like somebody else's
    done.unlink(missing_ok=True)
    notify("started", step, log.as_posix())
    begin = time.time()
    status = _subprocess(step.argv, log, lambda line: notify("line", step, line))
    problems = [f"it exited with status {status}"] if status else []
    problems += [f"it left no {path}" for path in step.leaves if not path.exists()]
    problems += step.problems_after(log.read_text(encoding="utf-8", errors="replace"))
    if problems:
        tail = _tail(log)
        hint = f"Its log is {log}" + (f", which ends:\n{tail}" if tail else "")
        raise ProblemsError(f"{step.name}: failed", problems, hint)
    step.finish()
    seconds = round(time.time() - begin, 1)
    record = {"name": step.name, "inputs": inputs, "began": begin, "seconds": seconds, "versions": versions()}
    files.write_json(done, record | provenance.machine())
    started.unlink()
    notify("done", step, f"{seconds:.0f} s")


def _clear_output(plan: Plan, step: Step, inputs: dict[str, Any]) -> None:
    """Make sure that the step's folder holds nothing but what it may go on from.

    LLaMA-Factory resumes from any checkpoint in its output folder, and lmms-eval adds files beside old ones. What this
    run made with other inputs is moved aside; what it did not make is left alone, and the run stops.
    """
    if step.output is None or not step.output.is_dir() or not any(step.output.iterdir()):
        return
    interrupted = _read(_steps(plan) / f"{step.slug}.started.json").get("inputs")
    if interrupted is None and not record(plan, step):
        raise RbftError(
            f"{step.name}: {step.output} is not empty, and this run did not make it. LLaMA-Factory would resume from a "
            "checkpoint in it without a word. Move it away, or give the recipe another `run` name."
        )
    if interrupted == inputs and step.resumable and any(step.output.glob("checkpoint-*")):
        return
    aside = plan.folder / "superseded" / f"{step.slug}-{time.strftime('%Y%m%d-%H%M%S')}"
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(step.output, aside)


def _subprocess(argv: list[str], log: Path, on_line: Callable[[str], None]) -> int:
    """Run a command with all it prints in `log`; returns its exit status. It ends with us, children and all."""
    # The harnesses' commands, and the torchrun that LLaMA-Factory starts, lie beside our Python.
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    with log.open("wb") as file:
        try:
            process = subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env,
                start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise RbftError(f"{argv[0]}: no such command; is rbft installed with its dependencies?") from None
        with _ended_with_us(process):
            assert process.stdout is not None
            rest = b""
            while chunk := os.read(process.stdout.fileno(), 1 << 16):
                file.write(chunk)
                file.flush()
                *lines, rest = re.split(rb"[\r\n]+", rest + chunk)
                for line in lines[-1:]:
                    if line.strip():
                        on_line(line.decode("utf-8", "replace").strip())
                rest = rest[:4096]  # of an endless line the start is enough
            return process.wait()


@contextmanager
def _ended_with_us(process: subprocess.Popen) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(ProcessLookupError):  # it may have ended by itself
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        raise


def _tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log, without the overwritten states of progress bars."""
    text = log.read_bytes().decode("utf-8", "replace")  # read_text would make a line of each state
    kept = [line.rstrip().rsplit("\r", 1)[-1] for line in text.split("\n") if line.strip()]
    return "\n".join(f"    {line[:200]}" for line in kept[-lines:])
