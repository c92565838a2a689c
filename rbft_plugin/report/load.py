"""Logged evaluations -> the input of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rbft_plugin.data.prepared import PreparedSample, read_manifest, read_split
from rbft_plugin.errors import ProblemsError, RbftError, shortened
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.lmms_eval.evaluation import EvaluationRow
from rbft_plugin.report import clip_strips, find_logs, provenance
from rbft_plugin.report.clip_strips import Video
from rbft_plugin.report.evaluations import Evaluation, some
from rbft_plugin.report.find_logs import dataset_of
from rbft_plugin.report.view_model import CLIPS, Origin
from rbft_plugin.run import layout
from rbft_plugin.run.environment import versions
from rbft_plugin.scoring.answers import normal, parse
from rbft_plugin.spec.dataset_sources import Split
from rbft_plugin.spec.names import parse_task, task_name


@dataclass(frozen=True)
class Gathered:
    """What `build.summarize` and `build.write` take, and the default folder of the report."""

    evaluations: list[Evaluation]
    origin: Origin
    videos: list[Video]
    folder: Path


def gather(given: list[str], dataset: str | None = None, intersect: bool = False) -> Gathered:
    """Read evaluations. `given` are folders of runs, or ARM=OUTPUT of lmms-eval; OUTPUT is a folder or a log in it.

    A second OUTPUT of an arm is its second seed, unless the path names one (`seed-3`). Arms of several runs that share
    a name are told apart by their runs' names. A log of another task than rbft's is taken if its samples are those of
    the prepared split, in its order, with its labels as targets; `dataset` says which, where no other log does.

    All logs have to be of one split. It is the test split where no task of rbft says another. Every evaluation has to
    have exactly the labelled clips of the prepared split; with `intersect`, only the clips that all
    of them have are compared, and the report's notes say so. Raises RbftError with the difference.
    """
    outputs, notes = find_logs.find(given)
    logs = [(one.arm, one.seed, one.log(dataset)) for one in outputs]
    name = _dataset(logs, dataset)
    split = _split(logs)
    samples = read_split(name, split)
    if split != "test":  # their tasks leave out samples without a label
        samples = [sample for sample in samples if sample.label is not None]
    evaluations = [_read(log, arm, seed, name, split, samples) for arm, seed, log in logs]
    kept, left_out = _same_samples(evaluations, split, [sample.id for sample in samples], intersect)
    manifest = read_manifest(name)
    if no_video := len(manifest.missing.samples):
        notes.append(f"Samples of the dataset without a usable video, which are in no split: {no_video}.")
    if likelihoods := [one.name for one, (_, _, log) in zip(evaluations, logs, strict=True) if _beside(log, "ll")]:
        notes.append(f"Answers are generated, probabilities are likelihoods of the labels: {'; '.join(likelihoods)}.")
    seeds = Counter(arm for arm, _, _ in logs)
    models = {f"{arm}, seed {seed}" if seeds[arm] > 1 else arm: evaluation.model_args(log) for arm, seed, log in logs}
    origin = Origin(
        notes=left_out + notes,
        display=manifest.display,
        models=models,
        versions=(installed := versions()),
        cells=find_logs.cells(outputs),
        provenance=provenance.collect(name, logs, installed),
        losses=provenance.losses([log for _, _, log in logs]),
        curves=find_logs.curves(outputs),
    )
    runs = list(dict.fromkeys(run for _, _, log in logs if (run := layout.run_of(log))))
    one_run = len(given) == 1 and "=" not in given[0]
    videos = clip_strips.videos(name, runs[0] if len(runs) == 1 else None, split)
    folder = layout.report_folder(Path(given[0] if one_run else "."))
    return Gathered([one.of(kept) for one in evaluations], origin, videos, folder)


def _dataset(logs: Sequence[tuple[str, int, Path]], dataset: str | None) -> str:
    datasets = {f"{arm}, seed {seed} ({log})": dataset_of(log) for arm, seed, log in logs}
    names = dict.fromkeys(name for name in (dataset, *datasets.values()) if name)
    if not names:
        raise RbftError("no log is of a task of rbft: name the dataset with --dataset NAME")
    if len(names) > 1:
        messages = [f"{where}: {name or 'a task that is not ours'}" for where, name in datasets.items()]
        messages += [f"--dataset: {dataset}"] if dataset else []
        raise ProblemsError("evaluations of different datasets", messages, "Report on one dataset at a time.")
    return next(iter(names))


def _split(logs: Sequence[tuple[str, int, Path]]) -> Split:
    splits = {f"{arm}, seed {seed} ({log})": find_logs.split_of(log) for arm, seed, log in logs}
    named: list[Split] = list(dict.fromkeys(split for split in splits.values() if split))
    if len(named) > 1:
        lines = [f"{where}: {split}" for where, split in splits.items() if split]
        raise ProblemsError("evaluations of different splits", lines, "Report on one split at a time.")
    return named[0] if named else "test"


def _read(log: Path, arm: str, seed: int, dataset: str, split: Split, samples: list[PreparedSample]) -> Evaluation:
    """A logged evaluation. Its samples are in the order of the split; samples that are not in it come last."""
    logged = evaluation.read_log(log)
    keyed = {_sample_id(row, log, split, samples): row for row in logged}
    if len(keyed) < len(logged):
        raise RbftError(f"{log}: it has samples twice; score the model again")
    labels = samples[0].labels
    targets = {sample.id: sample.label or "" for sample in samples}
    ids = [*(i for i in targets if i in keyed), *(i for i in keyed if i not in targets)]
    rows = [keyed[i] for i in ids]
    return Evaluation(
        arm=arm,
        seed=seed,
        ids=tuple(ids),
        targets=tuple(targets.get(i, labels[0]) for i in ids),  # samples of no split are left out, or refused
        predictions=tuple(row.prediction if row.predicted else parse(row.answer, labels) for row in rows),
        answers=tuple(row.answer for row in rows),
        labels=labels,
        dataset=dataset,
        split=split,
        probabilities=_probabilities(_beside(log, "ll") or log, ids, labels),
        without_video=_without_video(_beside(log, "novideo"), ids),
    )


def _beside(log: Path, kind: str) -> Path | None:
    """The log of another kind of task that the same start of lmms-eval left beside a log of answers."""
    task = evaluation.task_of(log)
    of = parse_task(task)
    beside = log.with_name(f"{log.name.split('_samples_')[0]}_samples_{task_name(of.dataset, kind, of.split)}.jsonl")
    return beside if task.startswith("rbft_") and of.kind == "label" and beside.is_file() else None


def _without_video(log: Path | None, ids: list[str]) -> tuple[str | None, ...] | None:
    """Predictions for these samples from the question alone; None unless every sample has one."""
    predictions = {row.sample_id or "": row.prediction for row in evaluation.read_log(log)} if log else {}
    return tuple(predictions[i] for i in ids) if set(ids) <= set(predictions) else None


def _probabilities(log: Path, ids: list[str], labels: tuple[str, ...]) -> tuple[tuple[float, ...], ...] | None:
    """Of these samples, in the order of the labels; None unless every sample has one for each label."""
    logged = {row.sample_id or "": row.probabilities for row in evaluation.read_log(log)}
    by_label = [logged.get(i) or {} for i in ids]
    if not all(set(labels) <= set(one) for one in by_label):
        return None
    return tuple(tuple(float(one[label]) for label in labels) for one in by_label)


def _sample_id(row: EvaluationRow, log: Path, split: Split, samples: list[PreparedSample]) -> str:
    """The id of a logged sample. A task of another author has a position in the split, with the same target."""
    if row.sample_id is not None:
        return row.sample_id
    if row.target is None:
        raise RbftError(f"{log}: it has samples without a sample_id and a target; score without --predict_only")
    place, target = row.doc_id, row.target
    if place is None or not 0 <= place < len(samples):
        raise RbftError(f"{log}: doc_id {place!r}, but the prepared {split} split has {len(samples)} samples")
    expected = samples[place].label or ""
    if normal(target) != normal(expected):
        raise RbftError(
            f"{log}: doc_id {place} has the target {target!r}, but sample {place} of the prepared {split} split "
            f"('{samples[place].id}') has {expected!r}; a log of another task has to be of the same clips in the same "
            "order, with our labels as targets"
        )
    return samples[place].id


def _same_samples(
    evaluations: list[Evaluation], split: Split, ids: list[str], intersect: bool
) -> tuple[list[str], list[str]]:
    """(the ids to report on, a note where some are left out). Raises RbftError with the difference."""
    differences = []
    for one in evaluations:
        lost, extra = sorted(set(ids) - set(one.ids)), sorted(set(one.ids) - set(ids))
        parts = [f"lacks {some(lost)}"] if lost else []
        parts += [f"has others: {some(extra)}"] if extra else []
        differences += [f"{one.name}: {len(one.ids)} samples; {', '.join(parts)}"] if parts else []
    common = set.intersection(*(set(one.ids) for one in evaluations))
    kept = [i for i in ids if i in common] if differences else ids
    if not differences:
        return kept, []
    what = f"samples that are not those of the prepared {split} split ({len(ids)} samples)"
    if not intersect:
        hint = f"Score the models again, or compare on the samples that all have ({len(kept)}), with --intersect."
        raise ProblemsError(what, differences, hint)
    if not kept:
        raise ProblemsError(what, differences, "There is no sample that all of them have.")
    note = (
        f"Only {len(kept)} of {len(ids)} {CLIPS[split]} are compared, those that every evaluation has (--intersect). "
    )
    return kept, [note + shortened(differences, 10)]
