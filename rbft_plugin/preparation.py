"""`rbft check` and `rbft prepare`: annotations and videos -> clips, splits, training rows, registrations."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from rbft_plugin import clips, files, prompts, registry, splits
from rbft_plugin.annotations import Sample, samples
from rbft_plugin.dataset import SPLITS, Dataset
from rbft_plugin.errors import ProblemsError, RbftError

Progress = Callable[[Iterable[Any], int, str], Iterable[Any]]


def counts(dataset: Dataset, found: list[Sample]) -> dict[str, dict[str, int]]:
    """Samples by split and label; those without a label count under "" (last)."""
    names = [*dataset.label_names, *([""] if any(s.label is None for s in found) else [])]
    table = {split: Counter(s.label or "" for s in found if s.split == split) for split in SPLITS}
    return {split: {name: table[split][name] for name in names} for split in SPLITS}


def prepare(dataset: Dataset, progress: Progress) -> dict[str, Any]:
    """Make all that training and evaluation read, and the registrations; returns the manifest.

    Clips that are there already are kept. Raises ProblemsError naming every sample whose video cannot be used; the
    clips of the others stay, and nothing else is written then.
    """
    found = splits.assign(samples(dataset), dataset.splits)
    if empty := [f"split '{s}' has no sample" for s in ("train", "test") if not any(f.split == s for f in found)]:
        raise ProblemsError(dataset.name, empty, "See `splits` in its YAML.")
    manifest_file = dataset.folder / "manifest.json"
    known = _known_sources(manifest_file, dataset)
    manifest_file.unlink(missing_ok=True)  # its presence means that all else is complete
    making: dict[str, Lock] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda s: _clip(dataset, s, known, making), found)
        made = list(progress(results, len(found), f"clips of {dataset.name}"))
    bad = [s.problem(m) for s, m in zip(found, made, strict=True) if isinstance(m, str)]
    if bad:
        raise ProblemsError(
            f"{dataset.name}: videos that cannot be used", bad, "Mend them, or remove their rows; then prepare again."
        )
    rows = [_row(dataset, s, m) for s, m in zip(found, made, strict=True) if not isinstance(m, str)]
    if leaks := _leaks(found, rows):
        raise ProblemsError(f"{dataset.name}: the same video in two splits", leaks, "Remove all but one of its rows.")
    contents = {split: [r for r, s in zip(rows, found, strict=True) if s.split == split] for split in SPLITS}
    labelled = [_label_row(r) for r in contents["train"] if r["label"] is not None]
    hashes = {f"{split}.jsonl": write_rows(dataset.folder / f"{split}.jsonl", rs) for split, rs in contents.items()}
    hashes["label.jsonl"] = write_rows(dataset.folder / "label.jsonl", labelled)
    registry.register(dataset)
    manifest = {
        "dataset": dataset.name,
        "counts": counts(dataset, found),
        "clips": dataset.clips.model_dump(),
        "largest_clip_pixels": max(r["meta"]["width"] * r["meta"]["height"] for r in rows),
        "most_frames": max(r["meta"]["frames"] for r in rows),
        "sha256": hashes,
        "sources": {s.id: m["source"] for s, m in zip(found, made, strict=True) if not isinstance(m, str)},
    }
    files.write_json(manifest_file, manifest)
    return manifest


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


def _label_row(row: dict[str, Any]) -> dict[str, Any]:
    return training_row(row, row["label_prompt"], row["label"])


def _known_sources(manifest_file: Path, dataset: Dataset) -> dict[str, dict[str, Any]]:
    """What the last manifest says of the sources, so that unchanged ones need not be read to find their clips."""
    if not manifest_file.is_file():
        return {}
    last = files.read_json(manifest_file)
    return last.get("sources", {}) if last.get("clips") == dataset.clips.model_dump() else {}


def _clip(
    dataset: Dataset, sample: Sample, known: dict[str, dict[str, Any]], making: dict[str, Lock]
) -> dict[str, Any] | str:
    """The sample's clip, made if it is not there yet: where it is and what it came from; or what is wrong."""
    try:
        clips.probe(sample.video)
        stat = sample.video.stat()
        source = {"path": sample.video.as_posix(), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        last = known.get(sample.id, {})
        name = last.get("clip") if source == {k: last.get(k) for k in source} else None
        name = name or clips.clip_name(sample.video, dataset.clips)
        target = dataset.folder / "clips" / name
        with making.setdefault(name, Lock()):  # videos of the same content share a clip
            clip = _whole(target)
            if clip is None:
                clips.make(sample.video, target, dataset.clips)
                clip = clips.probe(target)
        return {"clip": clip, "file": target, "source": source | {"clip": name}}
    except clips.VideoError as error:
        return str(error)


def _leaks(found: list[Sample], rows: list[dict[str, Any]]) -> list[str]:
    """Videos of the same content in different splits: a model would be tested on what it was trained on."""
    first: dict[str, Sample] = {}
    said = []
    for sample, row in zip(found, rows, strict=True):
        other = first.setdefault(row["video"], sample)
        if other.split != sample.split:
            both = " and ".join(f"{s.where} (id '{s.id}', {s.split})" for s in (other, sample))
            said.append(f"{both}: {sample.video}")
    return said


def _whole(file: Path) -> clips.Clip | None:
    """A clip, if it is there and can be opened; a copy of a workspace may have cut it off."""
    try:
        clip = clips.probe(file)
    except clips.VideoError:
        return None
    return clip if clip.frames else None


def _row(dataset: Dataset, sample: Sample, made: dict[str, Any]) -> dict[str, Any]:
    clip: clips.Clip = made["clip"]
    return {
        "id": sample.id,
        "video": made["file"].as_posix(),
        "label": sample.label,
        "labels": list(dataset.label_names),
        "rationale_prompt": prompts.rationale(dataset),
        "label_prompt": prompts.label(dataset),
        "meta": {
            "source": sample.video.as_posix(),
            "frames": clip.frames,
            "width": clip.width,
            "height": clip.height,
            "seconds": round(clip.frames / clip.fps, 3),
        },
    }
