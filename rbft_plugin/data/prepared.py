"""Prepared data in data/<name>: the paths, manifest, samples and training rows that `rbft prepare` makes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SerializerFunctionWrapHandler, ValidationError, model_serializer

from rbft_plugin import files
from rbft_plugin.errors import RbftError
from rbft_plugin.spec.dataset import ClipSettings, Dataset
from rbft_plugin.spec.dataset_sources import SPLITS, Split

ROOT = Path("data")
REGISTRATION_LOCK = ROOT / ".registrations.lock"
MEDIA_MARK = "<video>"  # LLaMA-Factory puts the video's tokens in its place


class DataFolder:
    """Every path of a dataset's data, relative to the workspace."""

    def __init__(self, dataset: str) -> None:
        self.path = ROOT / dataset
        self.clips = self.path / "clips"
        self.clip_index = self.path / "sources"  # a folder; its files say from which video each clip was made
        self.source = self.path / "source"  # videos that rbft writes: the demo's, and those that come as bytes
        self.manifest = self.path / "manifest.json"
        self.unusable_videos = self.path / "missing.txt"  # all of them, where a message names only some
        self.lock = self.path / ".prepare.lock"
        self.test_scorings = self.path / "test_scorings.jsonl"  # a line for each time that the test split was scored
        self.test_scorings_lock = self.path / ".test_scorings.lock"

    def samples(self, split: str) -> Path:
        return self.path / f"{split}.jsonl"

    def rows(self, stage: str) -> Path:
        """The training rows of a stage, "rationale" or "label", or the rows of its validation, "label_val"."""
        return self.path / f"{stage}.jsonl"


class ClipMeta(BaseModel, frozen=True):
    """The video and start of a sample, and its clip. Sizes are in pixels, times in seconds."""

    source: str
    start: float
    seconds: float
    frames: int
    width: int
    height: int


class PreparedSample(BaseModel, frozen=True):
    """A sample of a prepared split. `label` is None if it has none. `hinted_prompt` shows the label.

    `fold` is the one whose models must not be trained on it; None if there is none, and then not in the file.
    """

    id: str
    video: str
    label: str | None
    labels: tuple[str, ...]
    rationale_prompt: str
    hinted_prompt: str | None
    label_prompt: str
    after_video: str
    meta: ClipMeta
    fold: int | None = None

    @model_serializer(mode="wrap")
    def _without_no_fold(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = dump(self)
        return {key: value for key, value in content.items() if key != "fold" or value is not None}

    def training_row(self, prompt: str, answer: str) -> TrainingRow:
        """A row that trains a model to answer `prompt` about this sample's clip with `answer`."""
        return TrainingRow(self.id, f"{MEDIA_MARK}{self.after_video}{prompt}", answer, self.video)


@dataclass(frozen=True)
class TrainingRow:
    """A row of LLaMA-Factory's sharegpt format. `message` is the user's, and has MEDIA_MARK for the video."""

    id: str
    message: str
    answer: str
    video: str

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> TrainingRow:
        """The row that a JSON value holds. Raises KeyError, IndexError, TypeError or ValueError if it holds none."""
        user, assistant = row["messages"]
        return cls(str(row.get("id", "")), user["content"], assistant["content"], row["videos"][0])

    def as_json(self) -> dict[str, Any]:
        messages = [{"role": "user", "content": self.message}, {"role": "assistant", "content": self.answer}]
        return {"id": self.id, "messages": messages, "videos": [self.video]}


class MissingSample(BaseModel):
    """A sample that was left out, because its video cannot be used."""

    id: str
    split: str | None
    label: str | None
    video: str
    reason: str


class Missing(BaseModel):
    """The samples that were left out, and their numbers by split and label."""

    counts: dict[str, dict[str, int]] = {}
    samples: list[MissingSample] = []


class Manifest(BaseModel):
    """What `rbft prepare` made. `counts` are by split and label ("" for none), `sha256` by the name of the file.

    With folds, the splits are train, of the samples that every fold trains on, and fold0, fold1, ...
    """

    dataset: str
    counts: dict[str, dict[str, int]]
    missing: Missing = Missing()
    display: dict[str, str] = {}
    clips: ClipSettings
    largest_clip_pixels: int
    most_frames: int
    sha256: dict[str, str]

    def in_file(self, split: str) -> Counter[str]:
        """Numbers of samples by label in the file of a split, such as test, or fold0."""
        if "test" in self.counts or split not in ("train", "test", "val"):
            return Counter(self.counts[split])
        parts = {"train": list(self.counts), "test": [name for name in self.counts if name != "train"], "val": []}
        total = sum((Counter(self.counts[name]) for name in parts[split]), Counter[str]())
        return Counter({label: n for label, n in total.items() if label or split == "train"})


def read_manifest(name: str) -> Manifest:
    """The manifest of a prepared dataset. Raises RbftError if it is missing or damaged."""
    path = DataFolder(name).manifest
    if not path.is_file():
        raise RbftError(f"{path} is missing: run `rbft prepare {name}` first")
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise RbftError(f"{path}: damaged ({_first_problem(error)}); run `rbft prepare {name}` again") from None


def splits_with_labels(dataset: Dataset) -> tuple[Split, ...]:
    """The splits that can be scored. Until the dataset is prepared, its YAML decides whether there is a split val.

    With folds, test is all of them.
    """
    try:
        labelled = any(n for label, n in read_manifest(dataset.name).counts.get("val", {}).items() if label)
    except RbftError:  # it is not prepared, or will be again
        labelled = True
    return tuple(split for split in SPLITS if split != "val" or (labelled and dataset.may_validate))


def read_split(name: str, split: str) -> list[PreparedSample]:
    """The samples of a prepared split. Raises RbftError if the dataset is not prepared, or a line is damaged."""
    read_manifest(name)
    path = DataFolder(name).samples(split)
    samples = []
    for number, row in numbered_values(path):
        try:
            samples.append(PreparedSample.model_validate(row))
        except ValidationError as error:
            problem = _first_problem(error)
            raise RbftError(f"{path}: line {number}: {problem}; run `rbft prepare {name}` again") from None
    return samples


def read_training_rows(path: Path) -> list[TrainingRow]:
    """Training rows, such as `rbft collect` writes. Raises RbftError for the first line that is no row."""
    rows = []
    for number, row in numbered_values(path):
        try:
            rows.append(TrainingRow.from_json(row))
        except (KeyError, IndexError, TypeError, ValueError):
            raise RbftError(f"{path}: line {number}: not a row with 'messages' and 'videos'") from None
    return rows


def read_jsonl(path: Path) -> list[Any]:
    """The values of a file of JSON lines. Raises RbftError for the first line that is no JSON."""
    return [value for _, value in numbered_values(path)]


def write_training_rows(path: Path, rows: Iterable[TrainingRow]) -> str:
    """Write training rows. Returns the sha256 of the file."""
    return write_jsonl(path, (row.as_json() for row in rows))


def write_jsonl(path: Path, values: Iterable[dict[str, Any]]) -> str:
    """Write JSON lines. Returns the sha256 of the file."""
    return files.write_lines(path, map(json_line, values))


def json_line(value: dict[str, Any]) -> str:
    """A value as a line of a file of JSON lines."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def numbered_values(path: Path) -> Iterator[tuple[int, Any]]:
    """(number of the line, value) of a file of JSON lines. Raises RbftError for the first line that is no JSON."""
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except json.JSONDecodeError as error:
                    raise RbftError(f"{path}: line {number}: not JSON ({error.msg})") from None


def _first_problem(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
