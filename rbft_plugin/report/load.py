"""Logged evaluations -> the input of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rbft_plugin.data.prepared import read_manifest, read_split
from rbft_plugin.errors import ProblemsError, RbftError, shortened
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.report import clip_strips, count_scorings, find_logs, fit, provenance, rationale_table, selection
from rbft_plugin.report.clip_strips import Video
from rbft_plugin.report.evaluations import Evaluation, pooled, some
from rbft_plugin.report.find_logs import dataset_of
from rbft_plugin.report.read_evaluation import beside, read
from rbft_plugin.report.view_model import CLIPS, Origin
from rbft_plugin.run import layout
from rbft_plugin.run.environment import versions
from rbft_plugin.spec.dataset_sources import Split


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
    found = [(one, log) for one in outputs for log in one.logs(dataset)]
    logs = [(one.arm, one.seed, log) for one, log in found]
    name = _dataset(logs, dataset)
    split = _split(logs)
    samples = read_split(name, split)
    if split != "test":  # their tasks leave out samples without a label
        samples = [sample for sample in samples if sample.label is not None]
    evaluations = [read(log, arm, seed, name, split, samples) for arm, seed, log in logs]
    fits = [fit.read(one.fit) if one.fit else None for one, _ in found]
    evaluations = [replace(one, fit=own) for one, own in zip(evaluations, fits, strict=True)]
    with_likelihoods = [one.name for one, (_, log) in zip(evaluations, found, strict=True) if beside(log, "ll")]
    evaluations = _pooled(evaluations, [log for _, log in found])
    kept, left_out = _same_samples(evaluations, split, [sample.id for sample in samples], intersect)
    manifest = read_manifest(name)
    if no_video := len(manifest.missing.samples):
        notes.append(f"Samples of the dataset without a usable video, which are in no split: {no_video}.")
    if likelihoods := list(dict.fromkeys(with_likelihoods)):
        notes.append(f"Answers are generated, probabilities are likelihoods of the labels: {'; '.join(likelihoods)}.")
    if split == "test":
        notes += count_scorings.notes(name, [log for _, _, log in logs])
    notes += _answered_several_folds(logs) + find_logs.compared_settings(outputs)
    lost = [f"{one.arm}, seed {one.seed}" for (one, _), own in zip(found, fits, strict=True) if one.fit and not own]
    if lost:
        notes.append(f"Not scored on its own training samples: {'; '.join(dict.fromkeys(lost))}.")
    seeds = Counter(one.arm for one in evaluations)
    models = {_model_name(arm, seed, log, seeds[arm] > 1): evaluation.model_args(log) for arm, seed, log in logs}
    runs = list(dict.fromkeys(run for _, _, log in logs if (run := layout.run_of(log))))
    origin = Origin(
        notes=left_out + notes,
        display=manifest.display,
        models=models,
        versions=(installed := versions()),
        cells=find_logs.cells(outputs),
        provenance=provenance.collect(name, logs, installed),
        losses=provenance.losses(logs),
        curves=find_logs.curves(outputs),
        rationales=rationale_table.of_run(runs[0]) if len(runs) == 1 else {},
        selection=selection.of_run(runs[0], name) if len(runs) == 1 and split == "test" else None,
    )
    one_run = len(given) == 1 and "=" not in given[0]
    videos = clip_strips.videos(name, runs[0] if len(runs) == 1 else None, split)
    folder = layout.report_folder(Path(given[0] if one_run else "."))
    return Gathered([one.of(kept) for one in evaluations], origin, videos, folder)


def _pooled(evaluations: Sequence[Evaluation], logs: Sequence[Path]) -> list[Evaluation]:
    """The evaluations, with those of the folds of an arm and seed as one."""
    of_folds: dict[tuple[str, int], list[Evaluation]] = {}
    for one, log in zip(evaluations, logs, strict=True):
        if find_logs.fold_of(log) is not None:
            of_folds.setdefault((one.arm, one.seed), []).append(one)
    whole = [
        one if find_logs.fold_of(log) is None else pooled(of_folds.pop((one.arm, one.seed)))
        for one, log in zip(evaluations, logs, strict=True)
        if find_logs.fold_of(log) is None or (one.arm, one.seed) in of_folds
    ]
    return whole


def _answered_several_folds(logs: Sequence[tuple[str, int, Path]]) -> list[str]:
    """A note on models that answered more than one fold. By hand, these may have been trained on all samples."""
    models: dict[str, list[str]] = {}
    for arm, seed, log in logs:
        if find_logs.fold_of(log) is not None and (model := evaluation.model_args(log)):
            models.setdefault(f"{arm}, seed {seed}", []).append(model)
    names = [name for name, of_folds in models.items() if len(set(of_folds)) < len(of_folds)]
    return [
        f"One and the same model answered several folds: {'; '.join(names)}. If it was trained on labels of this "
        "dataset, it has seen those of clips that it answers here, and its figures are too high. Train one for each "
        "fold (`rbft rows --fold`)."
    ] if names else []  # fmt: skip


def _model_name(arm: str, seed: int, log: Path, several: bool) -> str:
    fold = find_logs.fold_of(log)
    parts = [arm, *([f"seed {seed}"] if several else []), *([] if fold is None else [f"fold {fold}"])]
    return ", ".join(parts)


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
