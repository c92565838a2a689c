"""`rbft check` and `rbft prepare`: annotations and videos -> clips, splits, training rows, registrations."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from rbft_plugin import files, making, prompts, registry, splits
from rbft_plugin.annotations import Sample, samples
from rbft_plugin.dataset import SPLITS, Dataset
from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.journal import Made
from rbft_plugin.making import Progress, Shard
from rbft_plugin.usable import counts, described, parted


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did: the manifest; clips that were new; those that no sample uses any more, and their bytes."""

    manifest: dict[str, Any]
    new: int
    unused: int
    unused_bytes: int


def prepare(dataset: Dataset, progress: Progress, workers: int | None = None, overwrite: bool = False) -> Prepared:
    """Make all that training and evaluation read, and the registrations.

    Clips that are there already are kept, unless `overwrite`. Raises ProblemsError naming every sample whose video
    cannot be used, if they are more than `dataset.max_missing`; the clips of the others stay, and nothing else is
    written then.
    """
    found = samples_of(dataset)
    outcome = making.make_clips(dataset, found, progress, workers, overwrite)
    with FileLock(dataset.folder / ".prepare.lock"):  # two at the same time write the same, but not at once
        manifest_file = dataset.folder / "manifest.json"
        try:
            used, missing = parted(dataset, found, outcome.of)
        except RbftError:
            manifest_file.unlink(missing_ok=True)
            raise
        made = {name: dataset.folder / name for name in (*(f"{split}.jsonl" for split in SPLITS), "label.jsonl")}
        manifest = {
            "dataset": dataset.name,
            "counts": counts(dataset, [s for s, _ in used]),
            "missing": {"counts": counts(dataset, [s for s, _ in missing]), "samples": described(missing)},
            "display": {label.name: label.display for label in dataset.labels if label.display},
            "clips": dataset.clips.model_dump(),
            "largest_clip_pixels": max(m.width * m.height for _, m in used),
            "most_frames": max(m.frames for _, m in used),
            "sha256": {name: _sha256(_lines(dataset, used, name)) for name in made},
        }
        registry.register(dataset)
        there = {name: files.sha256(path) for name, path in made.items() if path.is_file()}
        if there != manifest["sha256"] or not files.holds(manifest_file, files.json_text(manifest)):
            manifest_file.unlink(missing_ok=True)
            for name, path in made.items():
                files.write_lines(path, _lines(dataset, used, name))
            files.write_json(manifest_file, manifest)  # last: its presence means that all else is complete
    return Prepared(manifest, outcome.new, *_unused(dataset.folder / "clips", {m.clip for _, m in used}))


def make_shard(
    dataset: Dataset, progress: Progress, shard: Shard, workers: int | None = None, overwrite: bool = False
) -> tuple[int, int, list[str]]:
    """Make the clips of a shard alone: how many it has and how many were new, and the problems with its videos."""
    found = samples_of(dataset)
    outcome = making.make_clips(dataset, found, progress, workers, overwrite, shard)
    pairs = zip(shard.of(found), outcome.of, strict=True)
    return len(outcome.of), outcome.new, [s.problem(m) for s, m in pairs if isinstance(m, str)]


def samples_of(dataset: Dataset) -> list[Sample]:
    """All annotated samples with their splits; raises ProblemsError if none would train, or none test."""
    found = splits.assign(samples(dataset), dataset.splits)
    if empty := [f"split '{s}' has no sample" for s in ("train", "test") if not any(f.split == s for f in found)]:
        raise ProblemsError(dataset.name, empty, "See `splits` in its YAML.")
    return found


def manifest(name: str) -> dict[str, Any]:
    """What `prepare` left; raises RbftError if the dataset is not prepared."""
    path = Path("data") / name / "manifest.json"
    if not path.is_file():
        raise RbftError(f"{path} is missing: run `rbft prepare {name}` first")
    return files.read_json(path)


def read_split(name: str, split: str) -> list[dict[str, Any]]:
    """Rows of a prepared split."""
    manifest(name)
    return read_jsonl(Path("data") / name / f"{split}.jsonl")


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """JSON lines; raises RbftError naming the first line that is none (rows may be made by hand)."""
    rows = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                rows += [json.loads(line)] if line.strip() else []
            except json.JSONDecodeError as error:
                raise RbftError(f"{path}: line {number}: not JSON ({error.msg})") from None
    return rows


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    """Write JSON lines; returns their sha256."""
    return files.write_lines(path, map(row_line, rows))


def row_line(row: dict[str, Any]) -> str:
    """A line of a file of JSON lines."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def training_row(row: dict[str, Any], prompt: str, answer: str) -> dict[str, Any]:
    """A LLaMA-Factory sharegpt row: the clip, the prompt, the answer to learn."""
    asked = f"<video>{row.get('after_video', '')}{prompt}"
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return {"id": row["id"], "messages": messages, "videos": [row["video"]]}


def _lines(dataset: Dataset, used: list[tuple[Sample, Made]], name: str) -> Iterator[str]:
    """The lines of a file of rows: of a split, or label.jsonl. One at a time, for they are large."""
    split = "train" if name == "label.jsonl" else name.removesuffix(".jsonl")
    for sample, made in used:
        if sample.split != split:
            continue
        row = _row(dataset, sample, made)
        if name != "label.jsonl":
            yield row_line(row)
        elif sample.label is not None:
            yield row_line(training_row(row, row["label_prompt"], sample.label))


def _sha256(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode())
    return digest.hexdigest()


def _unused(folder: Path, used: set[str]) -> tuple[int, int]:
    """How many files of the folder no sample uses, and their bytes."""
    sizes = [entry.stat().st_size for entry in os.scandir(folder) if entry.name not in used]
    return len(sizes), sum(sizes)


def _row(dataset: Dataset, sample: Sample, made: Made) -> dict[str, Any]:
    hint = sample.label if sample.split == "train" else None
    return {
        "id": sample.id,
        "video": f"{dataset.folder.as_posix()}/clips/{made.clip}",
        "label": sample.label,
        "labels": list(dataset.label_names),
        "rationale_prompt": prompts.rationale(dataset, sample.context),
        "hinted_prompt": prompts.hinted(dataset, hint, sample.context) if hint else None,
        "label_prompt": prompts.label(dataset, sample.context),
        "after_video": dataset.prompts.after_video,
        "meta": {
            "source": sample.video.as_posix(),
            "start": float(sample.part.start),
            "seconds": round(made.frames / made.fps, 3),
            "frames": made.frames,
            "width": made.width,
            "height": made.height,
        },
    }
