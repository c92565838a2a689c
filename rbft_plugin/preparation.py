"""`rbft check` and `rbft prepare`: annotations and videos -> clips, splits, training rows, registrations."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from rbft_plugin import files, making, prompts, registry, splits
from rbft_plugin.annotations import Sample, samples
from rbft_plugin.dataset import SPLITS, Dataset
from rbft_plugin.errors import ProblemsError, RbftError, shortened
from rbft_plugin.journal import Made
from rbft_plugin.making import Progress, Shard

MOST_LINES = 50  # of an error message about videos


def counts(dataset: Dataset, found: list[Sample]) -> dict[str, dict[str, int]]:
    """Samples by split and label; those without a label count under "" (last)."""
    names = [*dataset.label_names, *([""] if any(s.label is None for s in found) else [])]
    table = {split: Counter(s.label or "" for s in found if s.split == split) for split in SPLITS}
    return {split: {name: table[split][name] for name in names} for split in SPLITS}


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
            used, missing = _parted(dataset, found, outcome.of)
        except RbftError:
            manifest_file.unlink(missing_ok=True)
            raise
        texts = _texts(dataset, used)
        manifest = {
            "dataset": dataset.name,
            "counts": counts(dataset, [s for s, _ in used]),
            "missing": {"counts": counts(dataset, [s for s, _ in missing]), "samples": _described(missing)},
            "display": {label.name: label.display for label in dataset.labels if label.display},
            "clips": dataset.clips.model_dump(),
            "largest_clip_pixels": max(m.width * m.height for _, m in used),
            "most_frames": max(m.frames for _, m in used),
            "sha256": {name: hashlib.sha256(text).hexdigest() for name, text in texts.items()},
        }
        registry.register(dataset)
        if not _is_there(dataset.folder, manifest, texts):
            manifest_file.unlink(missing_ok=True)  # its presence means that all else is complete
            for name, text in texts.items():
                files.write_text(dataset.folder / name, text.decode())
            files.write_json(manifest_file, manifest)
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
    text = rows_text(rows)
    files.write_text(path, text)
    return hashlib.sha256(text.encode()).hexdigest()


def rows_text(rows: Iterable[dict[str, Any]]) -> str:
    """The content of a file of JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def training_row(row: dict[str, Any], prompt: str, answer: str) -> dict[str, Any]:
    """A LLaMA-Factory sharegpt row: the clip, the prompt, the answer to learn."""
    messages = [{"role": "user", "content": f"<video>{prompt}"}, {"role": "assistant", "content": answer}]
    return {"id": row["id"], "messages": messages, "videos": [row["video"]]}


def _parted(
    dataset: Dataset, found: list[Sample], made: list[Made | str]
) -> tuple[list[tuple[Sample, Made]], list[tuple[Sample, str]]]:
    """Samples with their clips, and those without with the reason; raises ProblemsError if one must not go on so."""
    pairs = list(zip(found, made, strict=True))
    used = [(s, m) for s, m in pairs if isinstance(m, Made)]
    missing = [(s, m) for s, m in pairs if isinstance(m, str)]
    if len(missing) > dataset.max_missing:
        raise ProblemsError(
            f"{dataset.name}: videos that cannot be used", _shortened(dataset.folder, missing), _hint(dataset)
        )
    before, after = counts(dataset, found), counts(dataset, [s for s, _ in used])
    emptied = [
        f"split '{split}' has no sample " + (f"of label '{name}' " if name else "without a label ") + "that can be used"
        for split in ("train", "test")
        for name, count in before[split].items()
        if count and not after[split].get(name)
    ]
    if emptied:
        raise ProblemsError(dataset.name, emptied, "Get their videos; then prepare again.")
    if leaks := _leaks(used):
        raise ProblemsError(f"{dataset.name}: the same video in two splits", leaks, "Remove all but one of its rows.")
    return used, missing


def _hint(dataset: Dataset) -> str:
    allowed = f" (max_missing in its YAML allows {dataset.max_missing})" if dataset.max_missing else ""
    return f"Mend them, or remove their rows{allowed}; then prepare again."


def _shortened(folder: Path, missing: list[tuple[Sample, str]]) -> list[str]:
    """A line a video; where there are many, a line a kind of reason, and a file of all."""
    lines = [s.problem(reason) for s, reason in missing]
    if len(lines) <= MOST_LINES:
        return lines
    groups: dict[str, list[tuple[Sample, str]]] = {}
    for sample, reason in missing:
        groups.setdefault(re.sub(r"\d+(\.\d+)?", "N", reason), []).append((sample, reason))
    file = folder / "missing.txt"
    files.write_text(file, "".join(f"{line}\n" for line in lines))
    said = [
        f"{len(group)} videos: {group[0][1] if len(group) == 1 else kind}, such as "
        + shortened([f"{s.named}: {s.video}" for s, _ in group], 3)
        for kind, group in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]
    return [*said, f"all {len(lines)} are listed in {file}"]


def _described(missing: list[tuple[Sample, str]]) -> list[dict[str, Any]]:
    return [
        {"id": s.id, "split": s.split, "label": s.label, "video": s.video.as_posix(), "reason": reason}
        for s, reason in missing
    ]


def _leaks(used: list[tuple[Sample, Made]]) -> list[str]:
    """Videos of the same content in different splits: a model would be tested on what it was trained on."""
    first: dict[str, Sample] = {}
    said = []
    for sample, made in used:
        other = first.setdefault(made.source, sample)
        if other.split != sample.split:
            both = " and ".join(f"{s.where} (id '{s.id}', {s.split})" for s in (other, sample))
            said.append(f"{both}: {sample.video}")
    return said


def _texts(dataset: Dataset, used: list[tuple[Sample, Made]]) -> dict[str, bytes]:
    """The files of rows."""
    rows = [(s.split, _row(dataset, s, m)) for s, m in used]
    contents = {f"{split}.jsonl": [r for of, r in rows if of == split] for split in SPLITS}
    contents["label.jsonl"] = [
        training_row(r, r["label_prompt"], r["label"]) for r in contents["train.jsonl"] if r["label"] is not None
    ]
    return {name: rows_text(rs).encode() for name, rs in contents.items()}


def _is_there(folder: Path, manifest: dict[str, Any], texts: dict[str, bytes]) -> bool:
    """Whether all files say already what they are to say."""
    try:
        said = json.loads((folder / "manifest.json").read_bytes())
        return said == manifest and all((folder / name).read_bytes() == text for name, text in texts.items())
    except (OSError, ValueError):
        return False


def _unused(folder: Path, used: set[str]) -> tuple[int, int]:
    """How many files of the folder no sample uses, and their bytes."""
    sizes = [entry.stat().st_size for entry in os.scandir(folder) if entry.name not in used]
    return len(sizes), sum(sizes)


def _row(dataset: Dataset, sample: Sample, made: Made) -> dict[str, Any]:
    hinted = sample.label is not None and sample.split == "train"
    return {
        "id": sample.id,
        "video": (dataset.folder / "clips" / made.clip).as_posix(),
        "label": sample.label,
        "labels": list(dataset.label_names),
        "rationale_prompt": prompts.rationale(dataset, sample.context),
        "hinted_prompt": prompts.hinted(dataset, sample.label, sample.context) if hinted else None,
        "label_prompt": prompts.label(dataset, sample.context),
        "meta": {
            "source": sample.video.as_posix(),
            "start": float(sample.part.start),
            "seconds": round(made.frames / made.fps, 3),
            "frames": made.frames,
            "width": made.width,
            "height": made.height,
        },
    }
