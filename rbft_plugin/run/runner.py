"""Runs the steps of a plan. Skips those that are done, and continues with those that need no failed step.

A step is done when it has a record whose inputs are those that are on disk now. The record is written last.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path

from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.model import checkpoint
from rbft_plugin.run import layout, records
from rbft_plugin.run.environment import git_state, hardware, versions
from rbft_plugin.run.records import Inputs, StepRecord
from rbft_plugin.run.steps import Plan, Step
from rbft_plugin.run.subprocesses import Processes, run, tail

Notify = Callable[[str, Step, str], None]  # (skipped | started | line | done, step, text)


def execute(plan: Plan, notify: Notify, jobs: int = 1, steps: Sequence[Step] | None = None) -> None:
    """Run those of the plan's steps that are not done, up to `jobs` at a time; only `steps`, if they are given.

    Raises RbftError with the reason and the log of each step that failed, and the names of those that were not run.
    """
    from filelock import FileLock, Timeout

    plan.folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(layout.lock_file(plan.folder))
    try:
        with lock.acquire(timeout=0):
            records.write(layout.plan_file(plan.folder), plan.record())
            _execute(plan, plan.steps if steps is None else steps, notify, jobs)
    except Timeout:
        raise RbftError(f"{plan.folder}: another `rbft run` is using it") from None


def _execute(plan: Plan, steps: Sequence[Step], notify: Notify, jobs: int) -> None:
    failed: dict[str, RbftError] = {}
    left_out: list[str] = []
    data = {step.name for step in steps if step.kind == "prepare"}
    before = {step.name: {other.name for other in steps if step.needs(other)} for step in steps}
    waiting = list(steps)
    devices = list(plan.recipe.launch.devices)
    if devices and jobs > len(devices):
        raise RbftError(f"--jobs {jobs}: the recipe's launch.devices has devices for {len(devices)} jobs")
    processes = Processes()
    with ThreadPoolExecutor(jobs) as pool, processes.ended_with_us():
        running: dict[Future[None], tuple[Step, str | None]] = {}
        while waiting or running:
            for step in list(waiting):
                needed = before[step.name]
                if len(running) == jobs or needed & {s.name for s in (*waiting, *(s for s, _ in running.values()))}:
                    continue
                waiting.remove(step)
                lost = needed & {*failed, *left_out}
                # The report is made if anything that it needs, beside the data, has succeeded.
                if lost and not (step.kind == "report" and lost < needed - data):
                    left_out.append(step.name)
                    continue
                device = devices.pop(0) if devices else None
                running[pool.submit(_do, plan, step, notify, processes, device)] = (step, device)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step, device = running.pop(future)
                devices += [device] if device is not None else []
                try:
                    future.result()
                except RbftError as error:
                    failed[step.name] = error
                    notify("failed", step, str(error).split("\n")[0])
    if len(failed) == 1 and not left_out:
        raise next(iter(failed.values()))
    if failed:
        several = len(failed) > 1
        lines = [_shortened(str(error)) if several else str(error) for error in failed.values()]
        lines += [f"failed, {len(failed)} of {len(steps)} steps: {', '.join(failed)}"] if several else []
        lines += [f"not run, since they need a failed step: {', '.join(left_out)}"] if left_out else []
        raise RbftError("\n".join(lines))


def _do(plan: Plan, step: Step, notify: Notify, processes: Processes, device: str | None) -> None:
    again = step.kind == "prepare"  # `rbft prepare` finds out by itself what is up to date
    if not again and is_done(plan, step) and not needed_again(plan, step):
        notify("skipped", step, "")
    else:
        _run(plan, step, notify, processes, device)


def follow(plan: Plan, notify: Notify, steps: Sequence[Step]) -> None:
    """Take part, as a further node, in each training that the first node starts; see `launch` in the recipe.

    Then wait for the choice, if these steps end with it.
    """
    processes = Processes()
    for step in steps:
        while step.kind == "choose" and not is_done(plan, step):
            time.sleep(1)
        if not step.torchrun:
            continue
        started = layout.started_file(plan.folder, step.name)
        while not started.is_file() and not is_done(plan, step):
            time.sleep(1)
        if is_done(plan, step):
            notify("skipped", step, "")
            continue
        log = layout.log_file(plan.folder, step.name, plan.recipe.launch.node_rank)
        notify("started", step, log.as_posix())
        with processes.ended_with_us():
            status = run(step.argv, log, partial(notify, "line", step), processes)
        if status:
            raise RbftError(f"{step.name}: exited with status {status} on this node. {_ending(log)}")
        notify("done", step, "on this node")


def is_done(plan: Plan, step: Step) -> bool:
    """Whether the step's record and what it made are there, and its inputs are what they were."""
    record = records.read_record(plan.folder, step.name)
    return record is not None and all(p.exists() for p in step.made) and record.inputs == step.inputs()


def needed_again(plan: Plan, step: Step) -> bool:
    """Whether a model that the step made, and whose weights were removed, is read by a step that is not done."""
    return any(
        checkpoint.removed(model) and step.made_model(model) and not is_done(plan, reader)
        for reader in plan.steps
        for model in reader.models
    )


def with_lost(plan: Plan, steps: Sequence[Step]) -> list[Step]:
    """These steps, and before them those of the plan that have to make a removed model again."""
    return [*(step for step in plan.steps if step not in steps and needed_again(plan, step)), *steps]


def superseded(plan: Plan) -> tuple[Path, int]:
    """Where outputs of changed or interrupted steps were moved, and their size in bytes."""
    folder = layout.superseded_folder(plan.folder)
    return folder, sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _run(plan: Plan, step: Step, notify: Notify, processes: Processes, device: str | None) -> None:
    problems = step.problems_before()
    if problems:
        raise ProblemsError(f"{step.name}: not started", problems)
    inputs = step.inputs()
    interrupted = records.read_start(plan.folder, step.name)
    _clear_output(plan, step, inputs, interrupted)
    if step.cache and (interrupted is None or interrupted.inputs != inputs):
        shutil.rmtree(step.cache, ignore_errors=True)
    log = layout.log_file(plan.folder, step.name)
    done, started = layout.record_file(plan.folder, step.name), layout.started_file(plan.folder, step.name)
    record = StepRecord(
        name=step.name,
        kind=step.kind,
        arm=step.arm,
        seed=step.seed,
        stage=step.stage,
        cell=step.cell,
        output=step.output,
        inputs=inputs,
        began=time.time(),
        versions=versions(),
        hardware=hardware(),
        git=git_state(Path()),
    )
    records.write(started, record)  # first, so that the output is never taken for another run's
    done.unlink(missing_ok=True)
    notify("started", step, log.as_posix())
    env = {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
    problems_beside: list[str] = []

    def unwanted() -> bool:
        problems_beside.extend(step.problems_beside())
        return bool(problems_beside)

    status = run(step.command(), log, partial(notify, "line", step), processes, env, unwanted)
    if problems_beside:
        raise ProblemsError(f"{step.name}: stopped", problems_beside)
    problems = [f"it exited with status {status}"] if status else []
    problems += [f"it left no {path}" for path in step.leaves if not path.exists()]
    problems += step.problems_after(log.read_text(encoding="utf-8", errors="replace"))
    if problems:
        raise ProblemsError(f"{step.name}: failed", problems, _ending(log))
    step.finish()
    if step.cache:
        shutil.rmtree(step.cache, ignore_errors=True)
    seconds = round(time.time() - record.began, 1)
    records.write(done, record.model_copy(update={"seconds": seconds}))
    started.unlink()
    notify("done", step, f"{seconds:.0f} s")


def _clear_output(plan: Plan, step: Step, inputs: Inputs, interrupted: StepRecord | None) -> None:
    """Move the step's earlier output away, unless the harness can continue from it.

    LLaMA-Factory resumes from any checkpoint in its output folder, and lmms-eval adds files beside old ones. Raises
    RbftError if the folder holds what this run did not make.
    """
    if step.output is None or not step.output.is_dir() or not any(step.output.iterdir()):
        return
    if interrupted is None and not records.read_record(plan.folder, step.name):
        raise RbftError(
            f"{step.name}: {step.output} is not empty, and this run did not make it. LLaMA-Factory would silently "
            "resume from a checkpoint in it. Move it away, or give the recipe another `run` name."
        )
    if interrupted and interrupted.inputs == inputs and step.resumable and any(step.output.glob("checkpoint-*")):
        return
    aside = layout.aside(plan.folder, step.name)
    aside.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(step.output, aside)


def _shortened(message: str, most: int = 3) -> str:
    """With only the last lines of the log's end, which is indented by four."""
    lines = message.split("\n")
    quoted = [line for line in lines if line.startswith("    ")]
    return "\n".join([line for line in lines if line not in quoted] + quoted[-most:])


def _ending(log: Path) -> str:
    last = tail(log)
    return f"Its log is {log}" + (f", which ends:\n{last}" if last else "")
