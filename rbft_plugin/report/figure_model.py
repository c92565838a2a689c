"""The smallest parts of a report: a metric with its interval."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

Interval = tuple[float, float]


class ReportPart(BaseModel):
    """A part of the report. It cannot be changed."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Figure(ReportPart):
    """A metric of an arm: its mean over seeds, their standard deviation (None for one seed), its interval."""

    mean: float
    sd: float | None
    ci95: Interval
    per_seed: list[float]


class Readings(ReportPart):
    """How the answers of an arm were read: the share of each rule of scoring.answers, over all seeds.

    `accuracy_rule_1` is the accuracy if only answers that are a label and nothing else counted.
    """

    shares: dict[int, float]
    accuracy_rule_1: float


class MeanFigure(ReportPart):
    """A metric of probabilities; None where the samples leave it undefined."""

    mean: float | None
    per_seed: list[float | None]
