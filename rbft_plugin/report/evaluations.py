"""An evaluation of a model on a split, and whether several of them can be reported on together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TypeVar

from rbft_plugin.errors import RbftError
from rbft_plugin.spec.dataset_sources import Split

T = TypeVar("T")


class ReportError(RbftError):
    """The evaluations cannot be reported on together. The message has a line for each reason."""


@dataclass(frozen=True)
class Fit:
    """How a model answers `n` of its own labelled training samples.

    `majority` is the share of their most frequent label. `loss` is that at the end of its training, the mean of a
    target's tokens in nats, and `tokens` their mean number in a target with the end of its turn; None if not known.
    """

    right: int
    n: int
    majority: float
    loss: float | None = None
    tokens: float | None = None

    @property
    def accuracy(self) -> float:
        return self.right / self.n

    @property
    def allowed(self) -> float | None:
        """The largest share of training samples that a model with this loss can answer wrongly; 1 or more: all.

        `report.fit` says why.
        """
        return None if self.loss is None or self.tokens is None else self.loss * self.tokens / math.log(2)


@dataclass(frozen=True)
class Evaluation:
    """One model's answers to a split. ids, targets, predictions and answers belong together, each of length n."""

    arm: str
    seed: int
    ids: tuple[str, ...]
    targets: tuple[str, ...]
    predictions: tuple[str | None, ...]  # label, or None for no answer
    answers: tuple[str, ...]  # what the model wrote
    labels: tuple[str, ...]
    dataset: str
    probabilities: tuple[tuple[float, ...], ...] | None = None  # shape (n, labels), where the task measured them
    without_video: tuple[str | None, ...] | None = None  # predictions from the question alone
    rules: tuple[int, ...] | None = None  # of scoring.answers, by which answers were read; 0 for no answer
    split: Split = "test"
    fit: Fit | None = None  # of the model that was evaluated
    folds: int = 0  # how many models gave these answers, each to the fold that it was not trained on; 0: one model

    @property
    def name(self) -> str:
        return f"{self.arm}, seed {self.seed}"

    def of(self, ids: Sequence[str]) -> Evaluation:
        """The same evaluation of these samples alone, in this order."""
        place = {sample: number for number, sample in enumerate(self.ids)}
        rows = [place[sample] for sample in ids]
        return replace(
            self,
            ids=tuple(ids),
            targets=tuple(self.targets[row] for row in rows),
            predictions=tuple(self.predictions[row] for row in rows),
            answers=tuple(self.answers[row] for row in rows),
            probabilities=None if self.probabilities is None else tuple(self.probabilities[row] for row in rows),
            without_video=None if self.without_video is None else tuple(self.without_video[row] for row in rows),
            rules=None if self.rules is None else tuple(self.rules[row] for row in rows),
        )


def pooled(parts: Sequence[Evaluation]) -> Evaluation:
    """The answers of models to their folds, as one evaluation. Something that a part lacks, the whole lacks."""
    return replace(
        parts[0],
        ids=tuple(i for one in parts for i in one.ids),
        targets=tuple(target for one in parts for target in one.targets),
        predictions=tuple(prediction for one in parts for prediction in one.predictions),
        answers=tuple(answer for one in parts for answer in one.answers),
        probabilities=_joined([one.probabilities for one in parts]),
        without_video=_joined([one.without_video for one in parts]),
        rules=_joined([one.rules for one in parts]),
        fit=_pooled_fit([one.fit for one in parts]),
        folds=len(parts),
    )


def _joined(parts: Sequence[tuple[T, ...] | None]) -> tuple[T, ...] | None:
    whole = [part for part in parts if part is not None]
    return tuple(row for part in whole for row in part) if len(whole) == len(parts) else None


def _pooled_fit(fits: Sequence[Fit | None]) -> Fit | None:
    """Right answers of all models; the rest are means over them."""
    whole = [fit for fit in fits if fit is not None]
    if len(whole) < len(fits):
        return None
    losses = [fit.loss for fit in whole if fit.loss is not None]
    tokens = [fit.tokens for fit in whole if fit.tokens is not None]
    return Fit(
        right=sum(fit.right for fit in whole),
        n=sum(fit.n for fit in whole),
        majority=fmean(fit.majority for fit in whole),
        loss=fmean(losses) if len(losses) == len(whole) else None,
        tokens=fmean(tokens) if len(tokens) == len(whole) else None,
    )


def by_arm(evaluations: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """{arm: its evaluations by seed}, arms in the order given, samples in the order of the first evaluation.

    Raises ReportError with all that keeps the evaluations from being compared.
    """
    if problems := _problems(evaluations):
        raise ReportError("\n".join(problems))
    runs: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        runs.setdefault(evaluation.arm, []).append(evaluation.of(evaluations[0].ids))
    return {arm: sorted(group, key=lambda run: run.seed) for arm, group in runs.items()}


def _problems(evaluations: Sequence[Evaluation]) -> list[str]:
    if not evaluations:
        return ["no evaluations to report on"]
    counts = Counter(evaluation.name for evaluation in evaluations)
    problems = [
        f"{name}: given {n} times; keep one evaluation for each arm and seed" for name, n in counts.items() if n > 1
    ]
    for evaluation in evaluations:
        problems += _problems_within(evaluation)
    between = [line for evaluation in evaluations[1:] for line in _problems_between(evaluation, evaluations[0])]
    if between:
        between.append("Evaluate every arm on the same split, with the same labels.")
    return problems + between


def _problems_within(one: Evaluation) -> list[str]:
    lengths = [len(one.ids), len(one.targets), len(one.predictions), len(one.answers)]
    if len(set(lengths)) > 1:
        return [f"{one.name}: {lengths[0]} ids, {lengths[1]} targets, {lengths[2]} predictions, {lengths[3]} answers"]
    if not one.ids:
        return [f"{one.name}: no samples"]
    mistakes = {
        "labels listed more than once": [label for label, n in Counter(one.labels).items() if n > 1],
        "ids given more than once": [sample for sample, n in Counter(one.ids).items() if n > 1],
        "targets that are not labels": sorted(set(one.targets) - set(one.labels)),
        "predictions that are not labels": sorted({p for p in one.predictions if p is not None} - set(one.labels)),
    }
    return [f"{one.name}: {what}: {some(names)}" for what, names in mistakes.items() if names]


def _problems_between(one: Evaluation, first: Evaluation) -> list[str]:
    problems = []
    if one.dataset != first.dataset:
        problems.append(f"{one.name}: dataset {one.dataset!r}, but {first.dataset!r} in {first.name}")
    if one.split != first.split:
        problems.append(f"{one.name}: split {one.split!r}, but {first.split!r} in {first.name}")
    if one.labels != first.labels:
        differ = sorted(set(one.labels) ^ set(first.labels))
        how = some(differ) if differ else "the same in another order"
        problems.append(f"{one.name}: labels that differ from those of {first.name}: {how}")
    if differ := sorted(set(one.ids) ^ set(first.ids)):
        problems.append(f"{one.name}: ids that differ from those of {first.name}: {some(differ)}")
    theirs = dict(zip(first.ids, first.targets, strict=False))
    if moved := [i for i, target in zip(one.ids, one.targets, strict=False) if theirs.get(i, target) != target]:
        problems.append(f"{one.name}: ids with another target than in {first.name}: {some(moved)}")
    return problems


def some(names: Collection[str]) -> str:
    """How many there are, and the first three."""
    shown = ", ".join(map(repr, list(names)[:3]))
    return f"{len(names)} ({shown}{', ...' if len(names) > 3 else ''})"
