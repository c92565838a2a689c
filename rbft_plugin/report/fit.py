"""Whether models have learned their own labelled training samples, and what that says beside their loss and the test.

What a loss allows: a greedy answer is wrong only where some token of the target is not the most probable one. Then that
token has a probability of at most 1/2, so that the target costs ln 2 or more. By Markov's inequality, at most
loss * tokens / ln 2 of the samples are answered wrongly, if training and scoring see the same. A model that knows how
sure it can be answers at most half of that wrongly (Hellman and Raviv 1970, IEEE Trans. Inf. Theory 16).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal

from rbft_plugin import files
from rbft_plugin.errors import RbftError
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.report.evaluations import Evaluation, Fit
from rbft_plugin.report.prose import percent
from rbft_plugin.report.provenance import logged
from rbft_plugin.report.view_model import CLIPS, FitStatistics, Report
from rbft_plugin.run.records import PlannedFit
from rbft_plugin.scoring.metrics import wilson_interval

Finding = Literal["mismatch", "memorised", "unlearned"]
TAIL = 0.1  # the last part of a training's optimizer steps; the mean of its losses is the final loss
MISSED = 0.1  # a share of training samples; up to so many more wrong ones than the loss allows may be chance
LEARNED = 0.95  # the accuracy on training samples from which on they are learned by heart
GAP = 0.2  # so much below it, the accuracy on other clips is low


def read(planned: PlannedFit) -> Fit | None:
    """The fit of a model; None if it has not been scored."""
    logs = evaluation.sample_logs(planned.output) if planned.output.is_dir() else []
    rows = evaluation.read_log(logs[0]) if len(logs) == 1 else []
    if not rows:
        return None
    targets = [row.target or "" for row in rows]
    right = sum(row.prediction == row.target for row in rows)
    majority = max(Counter(targets).values()) / len(rows)
    loss = final_loss(planned.losses, planned.checkpoint) if planned.losses else None
    # To count tokens takes seconds, and no sentence needs them where the samples are learned.
    counted = loss is not None and right < (1 - MISSED) * len(rows)
    return Fit(right, len(rows), majority, loss, _tokens(logs[0], targets) if counted else None)


def final_loss(file: Path, checkpoint: int | None = None) -> float | None:
    """The training loss at the end of LLaMA-Factory's log, or at a checkpoint; None if it is not known.

    A training of fewer steps than its `logging_steps` logs none, but it leaves their mean beside the log.
    """
    steps, losses = logged(file, "loss") if file.is_file() else ([], [])
    until = [(step, loss) for step, loss in zip(steps, losses, strict=True) if checkpoint is None or step <= checkpoint]
    if until:
        return fmean(loss for step, loss in until if step > (1 - TAIL) * until[-1][0])
    results = file.with_name("train_results.json")
    known = files.read_json(results).get("train_loss") if results.is_file() and not (steps or checkpoint) else None
    return float(known) if isinstance(known, int | float) else None


def _tokens(log: Path, targets: Sequence[str]) -> float | None:
    """The mean number of tokens of the targets for the model of a log; None if its tokenizer cannot be loaded here."""
    from rbft_plugin.model.processor import answer_tokens, load_base

    named = re.search(r"(?:^|,)pretrained=([^,]+)", evaluation.model_args(log))
    try:
        base = load_base(named[1]) if named else None
    except RbftError:
        return None
    return fmean(answer_tokens(base, target) for target in targets) if base else None


def finding(fit: Fit, right: int, n: int) -> Finding | None:
    """What a fit says of a model that has `right` of `n` other clips right; None where nothing is clear."""
    wrong = 1 - fit.accuracy
    if fit.allowed is not None and wrong > fit.allowed + MISSED:
        return "mismatch"
    if fit.accuracy >= LEARNED:
        return "memorised" if wilson_interval(right, n)[1] < fit.accuracy - GAP else None
    halfway = (1 + fit.majority) / 2  # between always naming the most frequent label, and all right
    return "unlearned" if fit.allowed is not None and fit.accuracy < halfway and wrong <= fit.allowed / 2 else None


def statistics(evaluations: Sequence[Evaluation]) -> FitStatistics | None:
    """The fit of an arm, whose evaluations are by seed; None unless every seed has one."""
    fits = {one.seed: one.fit for one in evaluations if one.fit}
    if len(fits) < len(evaluations):
        return None
    by_finding: dict[Finding, list[Evaluation]] = {}
    for one in evaluations:
        right = sum(prediction == target for prediction, target in zip(one.predictions, one.targets, strict=True))
        if said := finding(fits[one.seed], right, len(one.ids)):
            by_finding.setdefault(said, []).append(one)
    return FitStatistics(
        mean=fmean(fit.accuracy for fit in fits.values()),
        per_seed=[fit.accuracy for fit in fits.values()],
        n=[fit.n for fit in fits.values()],
        loss=[fit.loss for fit in fits.values()],
        sentences=[_sentence(said, ones, len(ones) < len(evaluations)) for said, ones in by_finding.items()],
    )


def _sentence(said: Finding, evaluations: Sequence[Evaluation], some: bool) -> str:
    """A finding in words; figures are means over these evaluations, which are `some` of the seeds of their arm."""
    first, fits = evaluations[0], [one.fit for one in evaluations if one.fit]
    seeds = ", ".join(str(one.seed) for one in evaluations)
    arm = f"{first.arm} (seed{'s' if len(fits) > 1 else ''} {seeds})" if some else first.arm
    accuracy, loss = fmean(one.accuracy for one in fits), fmean(one.loss or 0 for one in fits)
    if said == "memorised":
        pairs = [pair for one in evaluations for pair in zip(one.predictions, one.targets, strict=True)]
        other = fmean(prediction == target for prediction, target in pairs)
        return (
            f"{arm} has learned its training samples by heart: it answers {percent(accuracy)} % of them rightly, and "
            f"{percent(other)} % of the {CLIPS[first.split]}. It needs more samples, or fewer steps."
        )
    if said == "unlearned":
        return (
            f"{arm} has not learned its own training samples: it answers {percent(accuracy)} % of them rightly, and "
            f"its loss is still {loss:.2g} for a token of a label. It needs more steps, or another learning rate."
        )
    allowed, count = fmean(one.allowed or 0 for one in fits), _range([one.n for one in fits])
    return (
        f"{arm}: training and scoring do not see the same thing. With the loss at the end of its training, {loss:.2g} "
        f"for a token of a label, it can answer at most {percent(allowed)} % of its training samples wrongly; scored, "
        f"it answers {percent(1 - accuracy)} % of {count} wrongly. Compare on both sides: the chat template (that "
        "of the training, and that of the model), the processor, the clips, and the adapters."
    )


def sentences(report: Report) -> list[str]:
    """What the fits of all arms say."""
    return [sentence for arm in report.arms.values() if arm.fit for sentence in arm.fit.sentences]


def explained(report: Report) -> str:
    """What the column of the fit shows; "" where no arm has one."""
    counts = [count for arm in report.arms.values() if arm.fit for count in arm.fit.n]
    return f"fit: the accuracy on an arm's own labelled training samples ({_range(counts)} of them)." if counts else ""


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return f"{most}" if least == most else f"{least} to {most}"
