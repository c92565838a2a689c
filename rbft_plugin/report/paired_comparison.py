"""One arm against another, on the same samples."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from itertools import product

import numpy as np

from rbft_plugin.report.arm_statistics import Resampled, figures
from rbft_plugin.report.evaluations import Evaluation
from rbft_plugin.report.figure_model import Interval
from rbft_plugin.report.prose import sentence
from rbft_plugin.report.view_model import CLIPS, Comparison, SeedPair
from rbft_plugin.scoring.bootstrap import MeanOverSeeds, over_seeds
from rbft_plugin.scoring.counts import correct
from rbft_plugin.scoring.metrics import mcnemar
from rbft_plugin.spec.names import task_name

EXACT, OVER_SEEDS = "exact McNemar", "t over clips and seeds"


def compare(new: Sequence[Evaluation], old: Sequence[Evaluation], values: tuple[Resampled, Resampled]) -> Comparison:
    """`new` against `old`, evaluations by seed; `values` are what `arm_statistics.resample` makes of each.

    Seeds are paired (see `pairs`) and never pooled: McNemar's test is made for each pair, since seeds answer the same
    samples and would count each of them several times. One pair: its test, and a paired bootstrap interval over
    samples. Several: the interval and test of the mean difference over seeds and samples (see bootstrap.over_seeds).
    """
    positions = pairs([one.seed for one in new], [one.seed for one in old])
    per_seed = [_pair(new[a], old[b]) for a, b in positions]
    accuracy, macro_f1 = (
        over_seeds(differences, [values[0][metric][a] - values[1][metric][b] for a, b in positions])
        for metric, differences in (
            ("accuracy", [pair.accuracy_diff for pair in per_seed]),
            ("macro_f1", [pair.macro_f1_diff for pair in per_seed]),
        )
    )
    several = len(positions) > 1
    p = per_seed[0].mcnemar_p
    if several:  # where no seed and no sample differs there is no t: the weakest test speaks
        p = accuracy.p if accuracy.p is not None else max(pair.mcnemar_p for pair in per_seed)
    comparison = Comparison(
        arm=new[0].arm,
        against=old[0].arm,
        accuracy_diff=accuracy.mean,
        ci95=_within(accuracy),
        sd=accuracy.sd,
        macro_f1_diff=macro_f1.mean,
        macro_f1_ci95=_within(macro_f1),
        covers=[CLIPS[new[0].split], *(["seeds"] if several else [])],
        test=OVER_SEEDS if several else EXACT,
        p=p,
        per_seed=per_seed,
        power=power_command(new[positions[0][0]], old[positions[0][1]]),
    )
    seeds = (len({a for a, _ in positions}), len({b for _, b in positions}))
    return comparison.model_copy(update={"sentence": sentence(comparison, len(new[0].ids), seeds, new[0].split)})


def pairs(new: Sequence[int], old: Sequence[int]) -> list[tuple[int, int]]:
    """Which evaluations are compared, as positions in two lists of seeds.

    Every seed with the only one of the other arm (zero-shot has one); else the seeds that both have. Arms that share
    no seed are paired in order.
    """
    if min(len(new), len(old)) == 1:
        return list(product(range(len(new)), range(len(old))))
    shared = [(new.index(seed), old.index(seed)) for seed in new if seed in old]
    return shared or list(zip(range(len(new)), range(len(old)), strict=False))


def power_command(new: Evaluation, old: Evaluation) -> str | None:
    """lmms-eval's own power analysis for these samples, given the spread and correlation of these two arms.

    It asks what it takes to see a difference of 5 points, not of the difference that was found: power computed from
    the observed difference says no more than its p value (Hoenig and Heisey 2001). None where neither arm varies.
    """
    right = np.array([correct(one.targets, one.predictions) for one in (new, old)], dtype=float)
    std = right.std(axis=1)
    if not std.any():
        return None
    correlation = float(np.corrcoef(right)[0, 1]) if std.all() else 0.0
    task = task_name(new.dataset, "label", new.split)
    command = ["lmms-eval", "power", "--tasks", task, "--include-path", "task_configs", "--effect-size", "0.05"]
    command += ["--std-a", f"{std[0]:.3f}", "--std-b", f"{std[1]:.3f}", "--correlation", f"{correlation:.3f}"]
    return shlex.join(command)


def _pair(new: Evaluation, old: Evaluation) -> SeedPair:
    test = mcnemar(new.targets, new.predictions, old.predictions)
    return SeedPair(
        seed=new.seed,
        against_seed=old.seed,
        accuracy_diff=(test.fixed - test.broken) / len(new.ids),  # exact, so that it is rounded alike
        macro_f1_diff=figures(new)["macro_f1"] - figures(old)["macro_f1"],
        fixed=test.fixed,
        broken=test.broken,
        mcnemar_p=test.p,
    )


def _within(estimate: MeanOverSeeds) -> Interval:
    return max(-1.0, estimate.low), min(1.0, estimate.high)
