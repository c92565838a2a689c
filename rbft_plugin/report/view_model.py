"""The report as typed values. report.json is their dump; docs/report.md describes every key.

Rates are fractions from 0 to 1, differences from -1 to 1. Intervals are (low, high) at 95 %. Lists `per_seed` follow
the arm's `seeds`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidatorFunctionWrapHandler, model_serializer, model_validator

from rbft_plugin.rationales.collect import RationaleSummary
from rbft_plugin.report.figure_model import Figure, Interval, MeanFigure, Readings, ReportPart
from rbft_plugin.report.selection_model import Selection
from rbft_plugin.spec.dataset_sources import Split

SCHEMA = 3
CLIPS: dict[Split, str] = {"test": "test clips", "val": "validation clips", "train": "training clips"}


class ClassStatistics(ReportPart):
    """Means over seeds of a label's metrics, and its number of targets."""

    precision: float
    recall: float
    f1: float
    f1_ci95: Interval
    support: int


class ReliabilityBin(ReportPart):
    """Samples whose most probable label has a probability above `low` and up to `high`."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    ci95: Interval


class Reliability(ReportPart):
    """The reliability diagram of one seed. Bins without a sample are left out."""

    seed: int
    bins: list[ReliabilityBin]


class WithMetrics(ReportPart):
    """A part whose metrics stand beside its other keys in JSON, in the order of the fields."""

    @model_serializer(mode="wrap")
    def _flat(self, dump: Any) -> dict[str, Any]:
        flat: dict[str, Any] = {}
        for key, value in dump(self).items():
            flat |= value if key == "metrics" else {key: value}
        return flat

    @model_validator(mode="wrap")
    @classmethod
    def _lifted(cls, content: Any, validate: ValidatorFunctionWrapHandler) -> Any:
        if isinstance(content, dict) and "metrics" not in content:
            metrics = {key: value for key, value in content.items() if key not in cls.model_fields}
            content = {key: value for key, value in content.items() if key not in metrics} | {"metrics": metrics}
        return validate(content)


class ProbabilityStatistics(WithMetrics):
    """Metrics of the labels' probabilities, and how far the probabilities can be believed."""

    metrics: dict[str, MeanFigure]
    reliability: Reliability


class FitStatistics(ReportPart):
    """The accuracy on `n` of an arm's own labelled training samples, the training loss at the end of its last stage
    (None where it is not known), and what they say.
    """

    mean: float
    per_seed: list[float]
    n: list[int]
    loss: list[float | None]
    sentences: list[str]


class ArmStatistics(WithMetrics):
    """An arm. `confusion` counts, summed over seeds: a row is a target, a column a prediction, the last no answer.

    `without_video` is the accuracy without the video, None unless every seed was asked so; `probabilities` is None
    unless every sample of every seed has them, `fit` unless every seed was scored on its training samples.
    """

    seeds: list[int]
    metrics: dict[str, Figure]
    without_video: Figure | None
    fit: FitStatistics | None = None
    per_class: dict[str, ClassStatistics]
    confusion: list[list[int]]
    probabilities: ProbabilityStatistics | None
    readings: Readings | None = None


class SeedPair(ReportPart):
    """One evaluation against another: samples that the new one has right and the old one wrong, and the reverse."""

    seed: int
    against_seed: int
    accuracy_diff: float
    macro_f1_diff: float
    fixed: int
    broken: int
    mcnemar_p: float


class Comparison(ReportPart):
    """An arm against another. Positive differences speak for `arm`; `covers` is what the intervals generalize over."""

    arm: str
    against: str
    accuracy_diff: float
    ci95: Interval
    sd: float | None
    macro_f1_diff: float
    macro_f1_ci95: Interval
    covers: list[str]
    test: str
    p: float
    per_seed: list[SeedPair]
    power: str | None
    sentence: str = ""


class ProvenanceStep(ReportPart):
    """A step of a run, or an evaluation by hand. Times in seconds; None where a number is not known."""

    name: str
    kind: str | None = None
    arm: str | None = None
    seed: int | None = None
    command: str
    began: float | None
    seconds: float | None
    tokens_in: int | None
    tokens_out: int | None


class Provenance(ReportPart):
    """Where the figures come from, and what is not known."""

    facts: dict[str, str]
    steps: list[ProvenanceStep]
    recipes: dict[str, str]
    missing: list[str]


class LossCurve(ReportPart):
    """The training loss of one stage of one arm and seed, and the validation loss, if it was measured."""

    arm: str
    seed: int
    stage: str
    steps: list[int]
    loss: list[float]
    eval_steps: list[int] = []
    eval_loss: list[float] = []


class LearningCurves(ReportPart):
    """What varies along a sweep, in words, and {line: {amount: arm}}."""

    x: str
    lines: dict[str, dict[str, str]]


class DoubtfulLabel(ReportPart):
    """A sample whose given label is less probable than another one, with both probabilities."""

    id: str
    label: str
    probability: float
    other: str
    other_probability: float


class DoubtfulLabels(ReportPart):
    """`n` samples are doubtful; `samples` are the first of them, the least probable given label first."""

    arm: str
    seeds: list[int]
    n: int
    samples: list[DoubtfulLabel]


class Origin(ReportPart):
    """What a report says beside its figures: see `load.gather`."""

    notes: list[str] = []
    display: dict[str, str] = {}
    models: dict[str, str] = {}
    versions: dict[str, str] = {}
    cells: dict[str, list[str]] = {}
    provenance: Provenance | None = None
    losses: list[LossCurve] = []
    curves: LearningCurves | None = None
    selection: Selection | None = None
    rationales: dict[str, RationaleSummary] = {}


class Report(Origin):
    """The report of several arms on one split, of `n_test` clips. `majority` is the most frequent label, `support`
    counts targets.
    """

    version: int = Field(SCHEMA, alias="schema")
    dataset: str
    split: Split = "test"
    labels: list[str]
    n_test: int
    support: dict[str, int]
    majority: str
    majority_accuracy: float
    arms: dict[str, ArmStatistics]
    comparisons: list[Comparison]
    doubtful_labels: DoubtfulLabels | None = None

    def as_json(self) -> dict[str, Any]:
        """The content of report.json, figures first. Provenance and curves are left out where there are none."""
        content = self.model_dump(by_alias=True)
        first = [key for key in content if key not in Origin.model_fields]
        return {key: content[key] for key in [*first, *Origin.model_fields] if content[key] is not None}

    @property
    def title(self) -> str:
        """The dataset, and the split where it is not the test split."""
        return self.dataset if self.split == "test" else f"{self.dataset}, {self.clips}"

    @property
    def clips(self) -> str:
        """What people call the clips of the split."""
        return CLIPS[self.split]

    @property
    def label_titles(self) -> dict[str, str]:
        """{label: the name that people read}."""
        return {label: self.display.get(label, label) for label in self.labels}
