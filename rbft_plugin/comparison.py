"""Logged evaluations -> the report's input: which outputs belong to which arm and seed, and where they came from."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from rbft_plugin import evaluation, files, registry, runner
from rbft_plugin.errors import RbftError
from rbft_plugin.preparation import read_split
from rbft_plugin.report import Evaluation


def gather(given: list[str]) -> tuple[list[Evaluation], dict[str, Any], Path]:
    """(evaluations, what the report says of their origin, default folder of the report).

    `given` is a run's folder, or ARM=OUTPUT of lmms-eval; a second OUTPUT of an arm is its second seed, unless the
    path names one (`seed-3`).
    """
    outputs: list[tuple[str, Path]] = []
    for item in given:
        arm, sign, path = item.partition("=")
        outputs += [(arm, Path(path))] if sign else _of_run(Path(item))
    evaluations, models, seen = [], {}, Counter[str]()
    for arm, output in outputs:
        log = evaluation.only_log(output)
        named = re.search(r"(?:^|/)seed-(\d+)(?:/|$)", output.as_posix())
        seed = int(named.group(1)) if named else seen[arm]
        seen[arm] += 1
        dataset = registry.dataset_of(evaluation.task_of(log))
        evaluations.append(evaluation.read(log, arm, seed, read_split(dataset, "test")))
        models[arm if seen[arm] == 1 else f"{arm} ({seen[arm]})"] = evaluation.model_args(log)
    extra = {"models": models, "versions": runner.versions()}
    one_run = len(given) == 1 and "=" not in given[0]
    return evaluations, extra, Path(given[0] if one_run else ".") / "report"


def _of_run(folder: Path) -> list[tuple[str, Path]]:
    found = sorted(folder.glob("*/seed-*/eval"))
    if not found:
        raise RbftError(f"{folder}: no evaluations (ARM/seed-N/eval) below it; give a run's folder, or ARM=OUTPUT")
    order = _arms_in_order(folder)
    return sorted(((p.parent.parent.name, p) for p in found), key=lambda pair: order.get(pair[0], len(order)))


def _arms_in_order(folder: Path) -> dict[str, int]:
    """Arms by when the run scored them."""
    records = [files.read_json(p) for p in folder.glob("steps/score-*.json")]
    names = [r["name"].split(" ")[1] for r in sorted(records, key=lambda r: r.get("began", 0)) if "name" in r]
    return {name: i for i, name in reversed(list(enumerate(names)))}
