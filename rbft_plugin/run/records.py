"""What a run keeps of its steps and of what it scores, which the report reads too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from rbft_plugin import files
from rbft_plugin.errors import RbftError
from rbft_plugin.run import layout

StepKind = Literal["prepare", "rationales", "collect", "rows", "train", "export", "score", "choose", "report"]


class Record(BaseModel):
    """What a run keeps as JSON. Keys that another version of rbft wrote are left out."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Inputs(Record):
    """What a step's outcome depends on: its command, hashes of the files and fingerprints of the models it reads."""

    argv: tuple[str, ...] = ()
    files: dict[str, str] = {}
    models: dict[str, str] = {}


class StepRecord(Record):
    """A step that succeeded, or (without `seconds`) one that was started.

    `kind` is None in records of rbft before it was kept; their `arm`, `seed` and `output` are None too. `began` is in
    seconds since 1970. `cell` is the part of a sweep's cell that the step depends on, "" without one.
    """

    name: str = "?"
    kind: StepKind | None = None
    arm: str | None = None
    seed: int | None = None
    stage: str | None = None
    cell: str = ""
    output: Path | None = None
    inputs: Inputs = Inputs()
    began: float = 0.0
    seconds: float | None = None
    versions: dict[str, str] = {}
    hardware: dict[str, str] = {}
    git: str | None = None


class PlannedCandidate(Record):
    """What `select` may choose for an arm: these stages with these settings, and a checkpoint of the last stage.

    `left_out` is the arm's last stage, if it is not among the stages. `cell` and `values` are those of the sweep,
    `settings` those of `select` on which the stages depend. `steps` are the optimizer steps of all stages, `outputs`
    the folders of its answers to the validation samples by seed. With a `fold`, these are the samples of the other
    folds, in a folder each.
    """

    cell: str
    values: dict[str, Any]
    arm: str
    stages: tuple[str, ...]
    settings: dict[str, Any]
    left_out: str | None = None
    checkpoint: int | None = None
    steps: int
    outputs: dict[int, tuple[Path, ...]]
    fold: int | None = None


class ScoredCandidate(PlannedCandidate):
    """A candidate with its metric, by seed and as their mean, and the mean log-likelihood of the label."""

    metric: float
    per_seed: dict[int, float]
    log_likelihood: float


class Choice(Record):
    """What one arm tried, and which place in `candidates` was chosen. `possible` counts all combinations of settings,
    `tried` those that were trained.
    """

    cell: str
    arm: str
    fold: int | None = None
    candidates: tuple[ScoredCandidate, ...]
    chosen: int
    tried: int
    possible: int


class ChoiceRecord(Record):
    """The choices of a run with `select`. `settings` are the values that its recipe lists, by their keys' paths."""

    metric: str
    budget: int
    seeds: tuple[int, ...]
    settings: dict[str, tuple[Any, ...]]
    choices: tuple[Choice, ...]


class PlannedFit(Record):
    """Where a model's answers to its own labelled training samples are logged.

    `losses` is LLaMA-Factory's log of its last stage, and `checkpoint` the optimizer step of that stage if it is not
    the last one. `losses` is None unless that stage learned the labels and nothing else, each sample as often as
    others, and logged the plain loss of its last model.
    """

    output: Path
    losses: Path | None = None
    checkpoint: int | None = None


class PlannedEvaluation(Record):
    """Where the answers of an arm and seed are logged, for one cell of a sweep ("" and {} without a sweep).

    With a `fold`, these are the answers to it of a model that was trained on the others. `name` is the arm's in a
    report of several cells. `left_out` are the arm's stages that need labels, where `shots: 0` allows none.
    """

    cell: str
    values: dict[str, Any]
    arm: str
    seed: int
    output: Path
    fit: PlannedFit | None = None
    fold: int | None = None
    name: str = ""
    left_out: tuple[str, ...] = ()


class PlanRecord(Record):
    """What a run scores. Several cells or arms may share an output."""

    arms: tuple[str, ...]
    scored: tuple[PlannedEvaluation, ...]


def read_record(run: Path, step: str) -> StepRecord | None:
    """A step's last success; None if it never succeeded. Raises RbftError for a damaged record, as all that follow."""
    return _read(layout.record_file(run, step), StepRecord)


def read_start(run: Path, step: str) -> StepRecord | None:
    """A start that did not end in success (yet); None if there is none."""
    return _read(layout.started_file(run, step), StepRecord)


def records(run: Path) -> list[StepRecord]:
    """All successes of a run's steps, in the order of their starts."""
    found = [read for path in _record_files(run, started=False) if (read := _read(path, StepRecord))]
    return sorted(found, key=lambda record: record.began)


def all_records() -> list[StepRecord]:
    """Those of every run of the workspace."""
    return [record for steps in sorted(layout.run_folder("").glob("*/steps")) for record in records(steps.parent)]


def unfinished(run: Path) -> list[str]:
    """Slugs of the steps that were started and have not succeeded, but for the report, which asks for them."""
    paths = _record_files(run, started=True)
    starts = {path.name.removesuffix(".started.json"): _read(path, StepRecord) for path in paths}
    return [slug for slug, start in starts.items() if start and start.kind != "report"]


def _record_files(run: Path, started: bool) -> Iterator[Path]:
    return (p for p in sorted(run.glob("steps/*.json")) if p.name.endswith(".started.json") == started)


def read_plan(run: Path) -> PlanRecord | None:
    return _read(layout.plan_file(run), PlanRecord)


def read_choices(run: Path) -> ChoiceRecord | None:
    """What `select` chose in a run; None if it has chosen nothing."""
    return _read(layout.choices_file(run), ChoiceRecord)


R = TypeVar("R", bound=Record)


def _read(path: Path, model: type[R]) -> R | None:
    if not path.is_file():
        return None
    try:
        return model.model_validate(files.read_json(path))
    except ValidationError as error:
        raise RbftError(
            f"{path}: not as this version of rbft writes it ({error.errors()[0]['msg']}); remove it, and `rbft run` "
            "makes it again"
        ) from None


def write(path: Path, record: Record) -> None:
    files.write_json(path, record.model_dump(mode="json"))
