"""`rbft check` and `rbft prepare`: annotations and videos -> clips, splits, training rows, registrations."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from rbft_plugin import files
from rbft_plugin.data import prompts, splits
from rbft_plugin.data.annotations import Sample, samples
from rbft_plugin.data.clip_index import MadeClip
from rbft_plugin.data.clip_workers import Progress, Shard, make_clips
from rbft_plugin.data.prepared import ClipMeta, DataFolder, Manifest, Missing, MissingSample, PreparedSample, json_line
from rbft_plugin.errors import ProblemsError, RbftError, shortened
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.dataset_sources import SPLITS


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did: the manifest; clips that were new; those that no sample uses any more, and their bytes."""

    manifest: Manifest
    new: int
    unused: int
    unused_bytes: int


def prepare(dataset: Dataset, progress: Progress, workers: int | None = None, overwrite: bool = False) -> Prepared:
    """Make all that training and evaluation read, and the registrations.

    Clips that are there already are kept, unless `overwrite`. Raises ProblemsError naming every sample whose video
    cannot be used, if they are more than `dataset.max_missing`; the clips of the others stay, and nothing else is
    written then.
    """
    annotated = samples_of(dataset)
    clips = make_clips(dataset, annotated, progress, workers, overwrite)
    folder = DataFolder(dataset.name)
    with FileLock(folder.lock):  # two processes write the same files, but not at once
        try:
            used, missing = parted(dataset, annotated, clips.of_samples)
        except RbftError:
            folder.manifest.unlink(missing_ok=True)
            raise
        row_files = [*(folder.samples(split) for split in SPLITS), folder.rows("label")]
        manifest = Manifest(
            dataset=dataset.name,
            counts=counts(dataset, [sample for sample, _ in used]),
            missing=Missing(counts=counts(dataset, [sample for sample, _ in missing]), samples=described(missing)),
            display={label.name: label.display for label in dataset.labels if label.display},
            clips=dataset.clips,
            largest_clip_pixels=max(made.width * made.height for _, made in used),
            most_frames=max(made.frames for _, made in used),
            sha256={path.name: files.sha256_of_lines(_lines(dataset, used, path)) for path in row_files},
        )
        text = files.json_text(manifest.model_dump())
        present = {path.name: files.sha256(path) for path in row_files if path.is_file()}
        if present != manifest.sha256 or not files.holds(folder.manifest, text):
            folder.manifest.unlink(missing_ok=True)
            for path in row_files:
                files.write_lines(path, _lines(dataset, used, path))
            files.write_text(folder.manifest, text)  # last: its presence means that all else is complete
    return Prepared(manifest, clips.new, *_unused(folder.clips, {made.clip for _, made in used}))


def make_shard(
    dataset: Dataset, progress: Progress, shard: Shard, workers: int | None = None, overwrite: bool = False
) -> tuple[int, int, list[str]]:
    """Make the clips of a shard alone: how many it has and how many were new, and the problems with its videos."""
    annotated = samples_of(dataset)
    clips = make_clips(dataset, annotated, progress, workers, overwrite, shard)
    pairs = zip(shard.of(annotated), clips.of_samples, strict=True)
    return len(clips.of_samples), clips.new, [sample.problem(made) for sample, made in pairs if isinstance(made, str)]


def samples_of(dataset: Dataset) -> list[Sample]:
    """All annotated samples with their splits; raises ProblemsError if none would train, or none test."""
    found = splits.assign(samples(dataset), dataset.splits)
    if empty := [f"split '{s}' has no sample" for s in ("train", "test") if not any(f.split == s for f in found)]:
        raise ProblemsError(dataset.name, empty, "See `splits` in its YAML.")
    return found


def _lines(dataset: Dataset, used: list[tuple[Sample, MadeClip]], path: Path) -> Iterator[str]:
    """The lines of a file of samples or of label rows. One at a time, for they are large."""
    labelled_rows = path == DataFolder(dataset.name).rows("label")
    split = "train" if labelled_rows else path.stem
    for sample, made in used:
        if sample.split != split:
            continue
        prepared = _prepared(dataset, sample, made)
        if not labelled_rows:
            yield json_line(prepared.model_dump())
        elif sample.label is not None:
            yield json_line(prepared.training_row(prepared.label_prompt, sample.label).as_json())


def _unused(folder: Path, used: set[str]) -> tuple[int, int]:
    """How many files of the folder no sample uses, and their bytes."""
    sizes = [entry.stat().st_size for entry in os.scandir(folder) if entry.name not in used]
    return len(sizes), sum(sizes)


def _prepared(dataset: Dataset, sample: Sample, made: MadeClip) -> PreparedSample:
    hint = sample.label if sample.split == "train" else None
    return PreparedSample(
        id=sample.id,
        video=(DataFolder(dataset.name).clips / made.clip).as_posix(),
        label=sample.label,
        labels=dataset.label_names,
        rationale_prompt=prompts.rationale(dataset, sample.context),
        hinted_prompt=prompts.hinted(dataset, hint, sample.context) if hint else None,
        label_prompt=prompts.label(dataset, sample.context),
        after_video=dataset.prompts.after_video,
        meta=ClipMeta(
            source=sample.video.as_posix(),
            start=float(sample.part.start),
            seconds=round(made.frames / made.fps, 3),
            frames=made.frames,
            width=made.width,
            height=made.height,
        ),
    )


MOST_LINES = 50  # of an error message about videos


def counts(dataset: Dataset, found: list[Sample]) -> dict[str, dict[str, int]]:
    """Samples by split and label; those without a label count under "" (last)."""
    names = [*dataset.label_names, *([""] if any(s.label is None for s in found) else [])]
    table = {split: Counter(s.label or "" for s in found if s.split == split) for split in SPLITS}
    return {split: {name: table[split][name] for name in names} for split in SPLITS}


def parted(
    dataset: Dataset, found: list[Sample], made: list[MadeClip | str]
) -> tuple[list[tuple[Sample, MadeClip]], list[tuple[Sample, str]]]:
    """Samples with their clips, and those without with the reason; raises ProblemsError if one must not go on so."""
    pairs = list(zip(found, made, strict=True))
    used = [(s, m) for s, m in pairs if isinstance(m, MadeClip)]
    missing = [(s, m) for s, m in pairs if isinstance(m, str)]
    if len(missing) > dataset.max_missing:
        raise ProblemsError(f"{dataset.name}: videos that cannot be used", _shortened(dataset, missing), _hint(dataset))
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


def _shortened(dataset: Dataset, missing: list[tuple[Sample, str]]) -> list[str]:
    """A line a video; where there are many, a line a kind of reason, and a file of all."""
    lines = [s.problem(reason) for s, reason in missing]
    if len(lines) <= MOST_LINES:
        return lines
    groups: dict[str, list[tuple[Sample, str]]] = {}
    for sample, reason in missing:
        groups.setdefault(re.sub(r"\d+(\.\d+)?", "N", reason), []).append((sample, reason))
    file = DataFolder(dataset.name).unusable_videos
    files.write_text(file, "".join(f"{line}\n" for line in lines))
    said = [
        f"{len(group)} videos: {group[0][1] if len(group) == 1 else kind}, such as "
        + shortened([f"{s.named}: {s.video}" for s, _ in group], 3)
        for kind, group in sorted(groups.items(), key=lambda item: -len(item[1]))
    ]
    return [*said, f"all {len(lines)} are listed in {file}"]


def described(missing: list[tuple[Sample, str]]) -> list[MissingSample]:
    return [
        MissingSample(id=s.id, split=s.split, label=s.label, video=s.video.as_posix(), reason=reason)
        for s, reason in missing
    ]


def _leaks(used: list[tuple[Sample, MadeClip]]) -> list[str]:
    """The same moments of one video in different splits: a model would be tested on what it was trained on."""
    seen: dict[str, list[Sample]] = {}
    said = []
    for sample, made in used:
        others = seen.setdefault(made.source, [])
        if other := next((o for o in others if o.split != sample.split and o.part.overlaps(sample.part)), None):
            both = " and ".join(f"{s.where} (id '{s.id}', {s.split})" for s in (other, sample))
            said.append(f"{both}: {sample.video}")
        others.append(sample)
    return said
