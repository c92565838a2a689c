"""Labels of a dataset with folds that look wrong, by models that were not trained on them.

The samples are ranked by the probability that their given label has, out of fold, which is the self-confidence of
Northcutt et al. 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR 70.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from rbft_plugin.report.evaluations import Evaluation
from rbft_plugin.report.view_model import DoubtfulLabel, DoubtfulLabels

MOST = 50  # samples that are listed
LEAST = 1e-12  # the least probability whose logarithm is taken


def of_arms(arms: Mapping[str, Sequence[Evaluation]]) -> DoubtfulLabels | None:
    """The doubtful labels by the pooled arm whose probabilities are best; None where no pooled arm has probabilities.

    Probabilities are means over seeds. A label is doubtful if another one is more probable.
    """
    pooled = {arm: seeds for arm, seeds in arms.items() if all(one.folds and one.probabilities for one in seeds)}
    if not pooled:
        return None
    means = {arm: np.mean([one.probabilities or () for one in seeds], axis=0) for arm, seeds in pooled.items()}
    first = next(iter(pooled.values()))[0]
    places = [first.labels.index(target) for target in first.targets]

    def likelihood(arm: str) -> float:
        return fmean(math.log(max(LEAST, row[place])) for row, place in zip(means[arm], places, strict=True))

    best = max(pooled, key=likelihood)
    doubtful = [
        DoubtfulLabel(
            id=sample,
            label=first.targets[row],
            probability=float(means[best][row][places[row]]),
            other=first.labels[other],
            other_probability=float(means[best][row][other]),
        )
        for row, sample in enumerate(first.ids)
        if (other := int(means[best][row].argmax())) != places[row]
    ]
    doubtful.sort(key=lambda one: one.probability)
    return DoubtfulLabels(arm=best, seeds=[one.seed for one in pooled[best]], n=len(doubtful), samples=doubtful[:MOST])


def explained(doubtful: DoubtfulLabels) -> str:
    """What the table shows."""
    if not doubtful.n:
        return (
            f"To the models of {doubtful.arm} that were not trained on them, no other label is more probable than the "
            "given one, for any sample."
        )
    shown = f", the first {len(doubtful.samples)}" if len(doubtful.samples) < doubtful.n else ""
    return (
        f"To the models of {doubtful.arm} that were not trained on them, another label is more probable than the given "
        f"one for {doubtful.n} samples{shown}. The least probable given labels come first: look at these clips again. "
        "The model may also be wrong."
    )
