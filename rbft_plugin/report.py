"""Evaluations of arms on one test set -> a report: figures, intervals, comparisons and what they do not say.

`summarize` makes the report as a dict, `write` puts it on disk, `table` shows it in a terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from rbft_plugin import files, metrics, pictures, report_text
from rbft_plugin.errors import RbftError
from rbft_plugin.report_text import table

__all__ = ["Evaluation", "ReportError", "summarize", "table", "write"]


class ReportError(RbftError):
    """The evaluations cannot be reported on together; the message says all that is wrong, a line each."""


@dataclass(frozen=True)
class Evaluation:
    """One model's answers to the test set; ids, targets, predictions and answers are parallel, of length n."""

    arm: str
    seed: int
    ids: tuple[str, ...]
    targets: tuple[str, ...]
    predictions: tuple[str | None, ...]  # label, or None for no answer
    answers: tuple[str, ...]  # what the model wrote
    labels: tuple[str, ...]
    dataset: str

    @property
    def name(self) -> str:
        return f"{self.arm}, seed {self.seed}"


def summarize(evaluations: list[Evaluation], extra: dict[str, Any]) -> dict[str, Any]:
    """The report, ready for JSON: every arm's figures, and every arm against each arm before it.

    Rates and differences are fractions (0 to 1, -1 to 1), intervals are [low, high] at 95 %, `per_seed` lists follow
    the arm's `seeds`. One seed: Wilson intervals for accuracy and no_answer_rate, for macro-F1 a bootstrap within
    classes. Several seeds: figures are means over seeds (confusion: sums), and intervals are from a bootstrap over test
    samples that applies each resample to every seed. Seeds are never pooled as if they were further samples: they
    answer the same clips, so n stays the number of clips, and no interval covers the choice of seeds. Differences:
    paired bootstrap, each resample the same for both arms; p from an exact McNemar test with one seed each, else from
    sign flips of each clip's difference of means over seeds. `extra` ("versions", "models", ...) is added as it is.

    Raises ReportError, with all problems at once.
    """
    if problems := _problems(evaluations, extra):
        raise ReportError("\n".join(problems))
    first = evaluations[0]
    runs: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        runs.setdefault(evaluation.arm, []).append(_in_order(evaluation, first.ids))
    runs = {arm: sorted(group, key=lambda run: run.seed) for arm, group in runs.items()}
    draws = {arm: _draws(group) for arm, group in runs.items()}
    arms = {arm: _arm(group, draws[arm]) for arm, group in runs.items()}
    pairs = [(arm, against) for place, arm in enumerate(runs) for against in list(runs)[:place]]
    return {
        "schema": 1,
        "dataset": first.dataset,
        "labels": list(first.labels),
        "n_test": len(first.ids),
        "majority_accuracy": metrics.majority_accuracy(first.targets),
        "arms": arms,
        "comparisons": [_comparison(arm, against, runs, arms, draws) for arm, against in pairs],
        "notes": report_text.notes(Counter(first.targets), first.labels, max(len(group) for group in runs.values())),
        **extra,
    }


def write(report: dict[str, Any], evaluations: Sequence[Evaluation], folder: Path) -> list[Path]:
    """Write report.json, report.md, accuracy.png and confusion.png into `folder`; the paths, in this order.

    `evaluations` are those of the report: report.md quotes answers from them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    as_json, as_markdown = folder / "report.json", folder / "report.md"
    files.write_json(as_json, report)
    files.write_text(as_markdown, report_text.markdown(report, evaluations))
    return [as_json, as_markdown, *pictures.draw(report, folder)]


def _problems(evaluations: Sequence[Evaluation], extra: dict[str, Any]) -> list[str]:
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
        between.append("Evaluate every arm on the same test split, with the same labels.")
    own = {"schema", "dataset", "labels", "n_test", "majority_accuracy", "arms", "comparisons", "notes"}
    if taken := [key for key in extra if key in own]:
        problems.append(f"extra: keys that the report itself has: {_some(taken)}")
    return problems + between


def _problems_within(one: Evaluation) -> list[str]:
    lengths = [len(one.ids), len(one.targets), len(one.predictions), len(one.answers)]
    if len(set(lengths)) > 1:
        return [f"{one.name}: {lengths[0]} ids, {lengths[1]} targets, {lengths[2]} predictions, {lengths[3]} answers"]
    if not one.ids:
        return [f"{one.name}: no samples"]
    found = {
        "labels listed more than once": [label for label, n in Counter(one.labels).items() if n > 1],
        "ids given more than once": [sample for sample, n in Counter(one.ids).items() if n > 1],
        "targets that are not labels": sorted(set(one.targets) - set(one.labels)),
        "predictions that are not labels": sorted({p for p in one.predictions if p is not None} - set(one.labels)),
    }
    return [f"{one.name}: {what}: {_some(names)}" for what, names in found.items() if names]


def _problems_between(one: Evaluation, first: Evaluation) -> list[str]:
    problems = []
    if one.dataset != first.dataset:
        problems.append(f"{one.name}: dataset {one.dataset!r}, but {first.dataset!r} in {first.name}")
    if one.labels != first.labels:
        differ = sorted(set(one.labels) ^ set(first.labels))
        how = _some(differ) if differ else "the same in another order"
        problems.append(f"{one.name}: labels that differ from those of {first.name}: {how}")
    if differ := sorted(set(one.ids) ^ set(first.ids)):
        problems.append(f"{one.name}: ids that differ from those of {first.name}: {_some(differ)}")
    theirs = dict(zip(first.ids, first.targets, strict=False))
    if moved := [i for i, target in zip(one.ids, one.targets, strict=False) if theirs.get(i, target) != target]:
        problems.append(f"{one.name}: ids with another target than in {first.name}: {_some(moved)}")
    return problems


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(map(repr, names[:3]))}{', ...' if len(names) > 3 else ''})"


def _in_order(one: Evaluation, ids: tuple[str, ...]) -> Evaluation:
    place = {sample: number for number, sample in enumerate(one.ids)}

    def sort(column: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(column[place[sample]] for sample in ids)

    return replace(
        one, ids=ids, targets=sort(one.targets), predictions=sort(one.predictions), answers=sort(one.answers)
    )


def _draws(runs: Sequence[Evaluation]) -> dict[str, metrics.Draws]:
    """{figure: its mean over the runs on each resample, shape (resamples,)}; the resamples are those of every arm."""
    right = _right(runs)
    silent = np.mean([[prediction is None for prediction in run.predictions] for run in runs], axis=0)
    return {
        "accuracy": metrics.bootstrap_draws(lambda index: float(right[index].mean()), len(right)),
        "macro_f1": np.mean([_f1_draws(run) for run in runs], axis=0),
        "no_answer_rate": metrics.bootstrap_draws(lambda index: float(silent[index].mean()), len(right)),
    }


def _f1_draws(run: Evaluation) -> metrics.Draws:
    targets, predictions = metrics.codes(run.targets, run.predictions, run.labels)
    return metrics.bootstrap_draws(
        lambda index: metrics.macro_f1_of_codes(targets[index], predictions[index], len(run.labels)),
        len(targets),
        strata=run.targets,  # else a resample may lack a class, and its mean is over other classes
    )


def _arm(runs: Sequence[Evaluation], draws: dict[str, metrics.Draws]) -> dict[str, Any]:
    targets, labels, n = runs[0].targets, runs[0].labels, len(runs[0].ids)
    per_seed = {
        "accuracy": [metrics.accuracy(targets, run.predictions) for run in runs],
        "macro_f1": [metrics.macro_f1(targets, run.predictions, labels) for run in runs],
        "no_answer_rate": [metrics.no_answer_rate(run.predictions) for run in runs],
    }
    intervals = {figure: metrics.percentile_interval(values) for figure, values in draws.items()}
    if len(runs) == 1:
        for figure in ("accuracy", "no_answer_rate"):
            intervals[figure] = metrics.wilson_interval(round(per_seed[figure][0] * n), n)
    tables = [metrics.per_class(targets, run.predictions, labels) for run in runs]
    return {
        "seeds": [run.seed for run in runs],
        **{
            figure: {"mean": fmean(values), "ci95": list(intervals[figure]), "per_seed": values}
            for figure, values in per_seed.items()
        },
        "per_class": {
            label: {figure: fmean(table[label][figure] for table in tables) for figure in ("precision", "recall", "f1")}
            | {"support": tables[0][label]["support"]}
            for label in labels
        },
        "confusion": np.sum([metrics.confusion(targets, run.predictions, labels) for run in runs], axis=0).tolist(),
    }


def _comparison(
    arm: str,
    against: str,
    runs: dict[str, list[Evaluation]],
    arms: dict[str, dict[str, Any]],
    draws: dict[str, dict[str, metrics.Draws]],
) -> dict[str, Any]:
    def difference(figure: str) -> float:
        return float(arms[arm][figure]["mean"] - arms[against][figure]["mean"])

    def interval(figure: str) -> list[float]:
        return list(metrics.percentile_interval(draws[arm][figure] - draws[against][figure]))

    per_seed = []
    for new, old in _pairs(runs[arm], runs[against]):
        test = metrics.mcnemar(new.targets, new.predictions, old.predictions)
        per_seed.append(
            {
                "seed": new.seed,
                "against_seed": old.seed,
                "accuracy_diff": (test["fixed"] - test["broken"]) / len(new.ids),
                "fixed": test["fixed"],
                "broken": test["broken"],
                "mcnemar_p": test["p"],
            }
        )
    several = len(runs[arm]) + len(runs[against]) > 2
    p = metrics.sign_flip(_right(runs[arm]) - _right(runs[against])) if several else per_seed[0]["mcnemar_p"]
    comparison = {
        "arm": arm,
        "against": against,
        "accuracy_diff": difference("accuracy"),
        "ci95": interval("accuracy"),
        "macro_f1_diff": difference("macro_f1"),
        "macro_f1_ci95": interval("macro_f1"),
        "test": "sign-flip" if several else "exact McNemar",
        "p": p,
        "per_seed": per_seed,
    }
    seeds = (len(runs[arm]), len(runs[against]))
    return comparison | {"sentence": report_text.sentence(comparison, len(runs[arm][0].ids), seeds)}


def _right(runs: Sequence[Evaluation]) -> metrics.Draws:
    """The share of the runs that has each sample right, shape (n,)."""
    return np.array(np.mean([metrics.correct(run.targets, run.predictions) for run in runs], axis=0))


def _pairs(new: Sequence[Evaluation], old: Sequence[Evaluation]) -> Iterable[tuple[Evaluation, Evaluation]]:
    """The seeds that both have; each with each where one arm has a single seed (zero-shot) or none is shared."""
    shared = [(a, b) for a, b in product(new, old) if a.seed == b.seed]
    return shared if shared and min(len(new), len(old)) > 1 else product(new, old)
