"""A log of samples -> an evaluation."""

from __future__ import annotations

from pathlib import Path

from rbft_plugin.data.prepared import PreparedSample
from rbft_plugin.errors import RbftError
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.lmms_eval.evaluation import EvaluationRow
from rbft_plugin.report.evaluations import Evaluation
from rbft_plugin.scoring import answers
from rbft_plugin.scoring.answers import normal
from rbft_plugin.spec.dataset_sources import Split
from rbft_plugin.spec.names import parse_task


def read(log: Path, arm: str, seed: int, dataset: str, split: Split, samples: list[PreparedSample]) -> Evaluation:
    """A logged evaluation. Its samples are in the order of the split; samples that are not in it come last."""
    logged = evaluation.read_log(log)
    keyed = {_sample_id(row, log, split, samples): row for row in logged}
    if len(keyed) < len(logged):
        raise RbftError(f"{log}: it has samples twice; score the model again")
    labels = samples[0].labels
    targets = {sample.id: sample.label or "" for sample in samples}
    ids = [*(i for i in targets if i in keyed), *(i for i in keyed if i not in targets)]
    rows = [keyed[i] for i in ids]
    readings = [_reading(row, labels) for row in rows]
    rules = [rule for _, rule in readings if rule is not None]
    return Evaluation(
        arm=arm,
        seed=seed,
        ids=tuple(ids),
        targets=tuple(targets.get(i, labels[0]) for i in ids),  # samples of no split are left out, or refused
        predictions=tuple(label for label, _ in readings),
        answers=tuple(row.answer for row in rows),
        labels=labels,
        dataset=dataset,
        split=split,
        probabilities=_probabilities(beside(log, "ll") or log, ids, labels),
        without_video=_without_video(beside(log, "novideo"), ids),
        rules=tuple(rules) if len(rules) == len(rows) else None,
    )


def _reading(row: EvaluationRow, labels: tuple[str, ...]) -> tuple[str | None, int | None]:
    """(the label that an answer was read as, the rule; None where an older log does not say it)."""
    if row.predicted:
        return row.prediction, row.rule
    label, rule = answers.read(row.answer, labels, answers.listed_options(row.prompt or "", labels))
    return label, rule or 0


def beside(log: Path, kind: str) -> Path | None:
    """The log of another kind of task that the same start of lmms-eval left beside a log of answers."""
    task = evaluation.task_of(log)
    beside = evaluation.beside(log, kind)
    return beside if task.startswith("rbft_") and parse_task(task).kind == "label" and beside.is_file() else None


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
