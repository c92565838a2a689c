"""What a report says of the choices that `select` made."""

from __future__ import annotations

from typing import Any

from rbft_plugin.report.figure_model import Figure, MeanFigure, ReportPart


class CandidateFigures(ReportPart):
    """A candidate of `select`, with its metric and mean log-likelihood of the label on the validation split."""

    name: str
    settings: dict[str, Any]
    left_out: str | None
    checkpoint: int | None
    steps: int
    metric: Figure | MeanFigure
    log_likelihood: float


class ArmChoice(ReportPart):
    """What an arm could choose, the chosen candidate first, then by their metric.

    With a `fold`, the choice is for its models. `tried` of `possible` combinations of settings were trained. `lead` is
    what the chosen candidate has more than the next one, `optimism` the estimate of what its metric is too good by.
    Both are None for metrics of probabilities, which are not resampled. `edges` names chosen values at the end of their
    list.
    """

    arm: str
    fold: int | None = None
    candidates: list[CandidateFigures]
    tried: int
    possible: int
    lead: Figure | None
    optimism: float | None
    edges: list[str]


class Selection(ReportPart):
    """What `select` chose on `n` validation clips. `few` are the classes with very few of them.

    With folds, each has choices of its own, on the clips of the other folds: at least `n`.
    """

    metric: str
    seeds: list[int]
    budget: int
    n: int
    few: list[str]
    choices: list[ArmChoice]
