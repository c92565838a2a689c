"""Logged evaluations -> the report's input: which outputs belong to which arm and seed, and where they came from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rbft_plugin import browser, evaluation, files, preparation, provenance, registry, runner
from rbft_plugin.answers import normal, parse
from rbft_plugin.browser import Video
from rbft_plugin.errors import ProblemsError, RbftError, shortened
from rbft_plugin.scored import Scored, some


@dataclass(frozen=True)
class Gathered:
    """What `report.summarize` and `report.write` take, and the default folder of the report."""

    evaluations: list[Scored]
    extra: dict[str, Any]
    videos: list[Video]
    folder: Path


def gather(given: list[str], dataset: str | None = None, intersect: bool = False) -> Gathered:
    """Read evaluations. `given` are folders of runs, or ARM=OUTPUT of lmms-eval; OUTPUT is a folder or a log in it.

    A second OUTPUT of an arm is its second seed, unless the path names one (`seed-3`). Arms of several runs that share
    a name are told apart by their runs' names. A log of another task than rbft's is taken if its samples are those of
    the prepared test split, in its order, with its labels as targets; `dataset` says which, where no other log does.

    Every evaluation has to have exactly the clips of the prepared test split; with `intersect`, only the clips that all
    of them have are compared, and the report's notes say so. Raises RbftError with the difference.
    """
    logs = _logs(given, dataset)
    name = _dataset(logs, dataset)
    split = preparation.read_split(name, "test")
    read = [_read(log, arm, seed, name, split) for arm, seed, log in logs]
    kept, notes = _same_samples(read, [row["id"] for row in split], intersect)
    manifest = preparation.manifest(name)
    extra: dict[str, Any] = {"notes": notes, "display": manifest.get("display", {})}
    if left_out := manifest.get("missing"):
        extra["notes"] = [
            *notes,
            f"Samples of the dataset without a usable video, which are in no split: {len(left_out)}.",
        ]
    models, seen = {}, Counter[str]()
    for arm, _, log in logs:
        seen[arm] += 1
        models[arm if seen[arm] == 1 else f"{arm} ({seen[arm]})"] = evaluation.model_args(log)
    extra |= {"models": models, "versions": runner.versions(), "provenance": provenance.collect(name, logs)}
    extra["losses"] = provenance.losses([log for _, _, log in logs])
    runs = list(dict.fromkeys(run for _, _, log in logs if (run := provenance.run_of(log))))
    one_run = len(given) == 1 and "=" not in given[0]
    videos = browser.videos(name, runs[0] / "rows" if len(runs) == 1 else None)
    return Gathered([one.of(kept) for one in read], extra, videos, Path(given[0] if one_run else ".") / "report")


def _logs(given: list[str], dataset: str | None) -> list[tuple[str, int, Path]]:
    """(arm, seed, log) of everything given."""
    runs = {item: _of_run(Path(item)) for item in given if "=" not in item}
    shared = Counter(arm for outputs in runs.values() for arm in {arm for arm, _ in outputs})
    outputs: list[tuple[str, Path]] = []
    for item in given:
        arm, sign, path = item.partition("=")
        if sign:
            outputs.append((arm, Path(path)))
        else:
            alike = sum(Path(other).resolve().name == Path(item).resolve().name for other in runs) > 1
            prefix = item.strip("/") if alike else Path(item).resolve().name
            outputs += [(f"{prefix}/{arm}" if shared[arm] > 1 else arm, output) for arm, output in runs[item]]
    logs, seen = [], Counter[str]()
    for arm, output in outputs:
        named = re.search(r"(?:^|/)seed-(\d+)(?:/|$)", output.as_posix())
        logs.append((arm, int(named.group(1)) if named else seen[arm], _log(output, dataset)))
        seen[arm] += 1
    return logs


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


def _log(output: Path, dataset: str | None) -> Path:
    """The one log of answers: of rbft's tasks, or else of any."""
    of_dataset = [p for p in evaluation.sample_logs(output) if _dataset_of(p) == dataset]
    if len(of_dataset) == 1:
        return of_dataset[0]
    others = [output] if output.is_file() else sorted(output.rglob("*_samples_*.jsonl"))
    others = [p for p in others if "_samples_" in p.name and not p.match("*_samples_rbft_*.jsonl")]
    if len(others) == 1 and not evaluation.sample_logs(output):
        return others[0]
    return evaluation.only_log(output)


def _dataset_of(log: Path) -> str | None:
    """The dataset of a log of ours."""
    task = evaluation.task_of(log)
    return registry.dataset_of(task).removesuffix("_ll") if task.startswith("rbft_") else None


def _dataset(logs: Sequence[tuple[str, int, Path]], dataset: str | None) -> str:
    found = {f"{arm}, seed {seed} ({log})": _dataset_of(log) for arm, seed, log in logs}
    names = dict.fromkeys(name for name in (dataset, *found.values()) if name)
    if not names:
        raise RbftError("no log is of a task of rbft: say whose test split they are of, with --dataset NAME")
    if len(names) > 1:
        said = [f"{where}: {name or 'a task that is not ours'}" for where, name in found.items()]
        raise ProblemsError("evaluations of different datasets", said, "Report on one dataset at a time.")
    return next(iter(names))


def _read(log: Path, arm: str, seed: int, dataset: str, split: list[dict[str, Any]]) -> Scored:
    """A logged evaluation, with the samples that it has, in the order of the test split; further samples last."""
    logged = preparation.read_jsonl(log)
    keyed = {_sample_id(row, log, split): row for row in logged}
    if len(keyed) < len(logged):
        raise RbftError(f"{log}: it has samples twice; score the model again")
    labels = tuple(split[0]["labels"])
    targets = {row["id"]: row["label"] for row in split}
    ids = [*(i for i in targets if i in keyed), *(i for i in keyed if i not in targets)]
    rows = [keyed[i] for i in ids]
    answers = tuple(evaluation.answer_text(row) for row in rows)
    return Scored(
        arm=arm,
        seed=seed,
        ids=tuple(ids),
        targets=tuple(targets.get(i, labels[0]) for i in ids),  # samples of no split are left out, or refused
        predictions=tuple(
            row["prediction"] if "prediction" in row else parse(answer, labels)
            for row, answer in zip(rows, answers, strict=True)
        ),
        answers=answers,
        labels=labels,
        dataset=dataset,
        probabilities=_probabilities([row.get("probabilities") for row in rows], labels),
    )


def _probabilities(logged: list[Any], labels: tuple[str, ...]) -> tuple[tuple[float, ...], ...] | None:
    """In the order of the labels; None unless every sample has one for each."""
    if not all(isinstance(one, dict) and set(labels) <= set(one) for one in logged):
        return None
    return tuple(tuple(float(one[label]) for label in labels) for one in logged)


def _sample_id(row: dict[str, Any], log: Path, split: list[dict[str, Any]]) -> str:
    """Ours by id; another task's by its place in the test split, if it has the same target there."""
    if "sample_id" in row:
        return str(row["sample_id"])
    if "target" not in row:
        raise RbftError(f"{log}: it has samples without a sample_id and a target; score without --predict_only")
    place, target = row.get("doc_id"), str(row["target"])
    if not isinstance(place, int) or not 0 <= place < len(split):
        raise RbftError(f"{log}: doc_id {place!r}, but the prepared test split has {len(split)} samples")
    expected = split[place]["label"]
    if normal(target) != normal(expected):
        raise RbftError(
            f"{log}: doc_id {place} has the target {target!r}, but sample {place} of the prepared test split "
            f"('{split[place]['id']}') has {expected!r}; a log of another task has to be of the same clips in the same "
            "order, with our labels as targets"
        )
    return str(split[place]["id"])


def _same_samples(read: list[Scored], split: list[str], intersect: bool) -> tuple[list[str], list[str]]:
    """(the samples to report on, a note where they are not all); raises RbftError with the difference."""
    differences = []
    for one in read:
        lost, extra = sorted(set(split) - set(one.ids)), sorted(set(one.ids) - set(split))
        parts = [f"lacks {some(lost)}"] if lost else []
        parts += [f"has others: {some(extra)}"] if extra else []
        differences += [f"{one.name}: {len(one.ids)} samples; {', '.join(parts)}"] if parts else []
    kept = [i for i in split if all(i in ids for ids in (set(one.ids) for one in read))] if differences else split
    if not differences:
        return kept, []
    what = f"samples that are not those of the prepared test split ({len(split)} samples)"
    if not intersect:
        hint = f"Score the models again, or compare on the samples that all have ({len(kept)}), with --intersect."
        raise ProblemsError(what, differences, hint)
    if not kept:
        raise ProblemsError(what, differences, "There is no sample that all of them have.")
    note = f"Only {len(kept)} of {len(split)} test clips are compared, those that every evaluation has (--intersect). "
    return kept, [note + shortened(differences, 10)]
