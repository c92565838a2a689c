"""Where a report's figures come from: machines, code, recipes, commands, times, tokens; and what is not known."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rbft_plugin import files
from rbft_plugin.data.prepared import DataFolder
from rbft_plugin.llamafactory import checks
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.report.view_model import LossCurve, Provenance, ProvenanceStep
from rbft_plugin.run import layout, records
from rbft_plugin.run.environment import git_state, hardware
from rbft_plugin.run.records import StepRecord
from rbft_plugin.spec.recipe import recipes_with


def collect(dataset: str, logs: Sequence[tuple[str, int, Path]], versions: dict[str, str]) -> Provenance:
    """Where the figures of these logs come from. `logs` are (arm, seed, log), `versions` those of the report."""
    runs = list(dict.fromkeys(run for _, _, log in logs if (run := layout.run_of(log))))
    done = [(run, record) for run in runs for record in records.records(run)]
    missing = [f"{_shown(run)}: step '{name}' has not finished" for run in runs for name in records.unfinished(run)]
    steps = [_step(run, record) for run, record in done]
    by_hand = [(arm, seed, log) for arm, seed, log in logs if layout.run_of(log) is None]
    steps += [_evaluated(arm, seed, log) for arm, seed, log in by_hand]
    if by_hand:
        missing.append(
            "evaluations made by hand: how their models were trained, and their exact command (what is shown is put "
            f"together from their results): {', '.join(f'{arm}, seed {seed}' for arm, seed, _ in by_hand)}"
        )
    recipes: dict[str, str] = {}
    for run in runs:
        if recipe := next(iter(recipes_with("run", run.name)), None):
            recipes[recipe.as_posix()] = recipe.read_text(encoding="utf-8")
        else:
            missing.append(f"{_shown(run)}: no file of recipes/ says `run: {run.name}`")
    facts = {"report made": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")}
    facts |= {f"recipe {path}, as it is now": f"sha256 {files.sha256(Path(path))}" for path in recipes}
    manifest = DataFolder(dataset).manifest
    if manifest.is_file():
        facts[f"data manifest {manifest.as_posix()}"] = f"sha256 {files.sha256(manifest)}"
    else:
        missing.append(f"{manifest.as_posix()}, so the hash of the data")
    facts |= _code([record for _, record in done], missing)
    facts |= _hardware([record for _, record in done], missing)
    if silent := [step for step in steps if step.tokens_in is None and step.kind == "train"]:
        missing.append(f"tokens that {len(silent)} training steps read: their logs or results are not there")
    for package, found in _versions(done).items():
        if len(found) > 1:
            missing.append(f"which {package} the figures are of: steps ran with {' and '.join(found)}")
        elif found != [versions.get(package)]:
            facts[f"{package}, when the steps ran"] = f"{found[0]} (the report: {versions.get(package, 'none')})"
    return Provenance(facts=facts, steps=steps, recipes=recipes, missing=missing)


def losses(logs: Sequence[tuple[str, int, Path]]) -> list[LossCurve]:
    """The loss of every stage of the runs that these logs (arm, seed, log) belong to, first of stages on rationales.

    Of a run with `select`, only the stages of the models that were chosen are shown.
    """
    curves = []
    for run in dict.fromkeys(run for _, _, log in logs if (run := layout.run_of(log))):
        found = _chosen_losses(run, logs) if records.read_choices(run) else layout.loss_files(run)
        for arm, seed, stage, file in found:
            (steps, loss), (eval_steps, eval_loss) = logged(file, "loss"), logged(file, "eval_loss")
            if steps:
                curves.append(
                    LossCurve(
                        arm=arm,
                        seed=seed,
                        stage=stage,
                        steps=steps,
                        loss=loss,
                        eval_steps=eval_steps,
                        eval_loss=eval_loss,
                    )
                )
    return sorted(curves, key=lambda one: "rationale" not in one.stage)


def _chosen_losses(run: Path, logs: Sequence[tuple[str, int, Path]]) -> list[tuple[str, int, str, Path]]:
    """(arm, seed, stage, LLaMA-Factory's log of losses) of the stages of each scored model, back to the base."""
    done = records.records(run)
    found = []
    for arm, seed, log in logs:
        started = [
            one
            for one in done
            if one.kind == "score" and one.output and (run / layout.below_run(one.output)) in log.parents
        ]
        models = [Path(model) for one in started for model in one.inputs.models]
        while models:
            model = models.pop()
            for one in done:
                if one.kind == "train" and one.output and one.output in (model, *model.parents):
                    file = run / layout.below_run(one.output) / layout.LOSSES
                    stage = (one.stage or "").removeprefix(f"{one.arm}_")
                    found += [(arm, seed, stage, file)] if file.is_file() else []
                    models += map(Path, one.inputs.models)
    return list(dict.fromkeys(found))


def logged(file: Path, key: str) -> tuple[list[int], list[float]]:
    """The steps at which LLaMA-Factory logged a number under a key, and the numbers."""
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    points = [(row["current_steps"], row[key]) for row in rows if isinstance(row.get(key), int | float)]
    return [step for step, _ in points], [value for _, value in points]


def _step(run: Path, record: StepRecord) -> ProvenanceStep:
    tokens: tuple[int | None, int | None] = (None, None)
    if record.output and record.kind in ("rationales", "score"):
        tokens = _tokens(layout.workspace_of(run) / record.output)
    elif record.output and record.kind == "train":
        file = layout.log_file(run, record.name)
        log = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        tokens = (checks.tokens_read(layout.workspace_of(run) / record.output, log), None)
    return ProvenanceStep(
        name=record.name,
        kind=record.kind,
        arm=record.arm,
        seed=record.seed,
        command=shlex.join(record.inputs.argv),
        began=record.began,
        seconds=record.seconds,
        tokens_in=tokens[0],
        tokens_out=tokens[1],
    )


def _tokens(output: Path) -> tuple[int | None, int | None]:
    """Tokens that an evaluation read and wrote, as lmms-eval counted them."""
    for results in sorted(output.rglob("*_results.json")):
        overall = files.read_json(results).get("efficiency", {}).get("overall", {})
        if "total_input_tokens" in overall:
            return int(overall["total_input_tokens"]), int(overall["total_output_tokens"])
    return None, None


def _evaluated(arm: str, seed: int, log: Path) -> ProvenanceStep:
    results = evaluation.results(log)
    config, tokens = results.get("config", {}), _tokens(log.parent)
    seconds = results.get("total_evaluation_time_seconds")
    argv = ["lmms-eval", "--model", str(config.get("model", "?")), "--model_args", str(config.get("model_args", ""))]
    argv += ["--tasks", evaluation.task_of(log), "--batch_size", str(config.get("batch_size", "?"))]
    return ProvenanceStep(
        name=f"score {arm} seed {seed} (by hand)",
        kind="score",
        arm=arm,
        seed=seed,
        command=shlex.join(argv) if config else "",
        began=None,
        seconds=float(seconds) if seconds else None,
        tokens_in=tokens[0],
        tokens_out=tokens[1],
    )


def _code(records: list[StepRecord], missing: list[str]) -> dict[str, str]:
    states = list(dict.fromkeys(record.git for record in records if record.git))
    if states:
        return {"git commit of the workspace, when its steps ran": " and ".join(states)}
    now = git_state(Path())
    missing.append("git state of the workspace when the steps ran" + ("" if now else ": it is no git repository"))
    return {"git commit of the workspace, now": now} if now else {}


def _hardware(records: list[StepRecord], missing: list[str]) -> dict[str, str]:
    recorded = list(dict.fromkeys(json.dumps(record.hardware) for record in records if record.hardware))
    if not recorded:
        missing.append("hardware that models were trained and scored on (the report's own machine is named instead)")
    machines = [json.loads(one) for one in recorded] or [hardware()]
    head = "hardware" if recorded else "hardware of the report"
    return {
        f"{head}{f' {number}' if len(machines) > 1 else ''}: {what}": str(text)
        for number, one in enumerate(machines, 1)
        for what, text in one.items()
    }


def _versions(records: list[tuple[Path, StepRecord]]) -> dict[str, list[str]]:
    """{package: the versions that steps ran with}."""
    by_package: dict[str, set[str]] = {}
    for _, record in records:
        for package, version in record.versions.items():
            by_package.setdefault(package, set()).add(version)
    return {package: sorted(versions) for package, versions in by_package.items()}


def _shown(path: Path) -> str:
    return os.path.relpath(path)
