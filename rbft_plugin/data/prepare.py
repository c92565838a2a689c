"""`rbft prepare`: makes the clips, splits, label rows and manifest of a dataset from its annotations and videos."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from filelock import FileLock

from rbft_plugin import files
from rbft_plugin.data import prompts, splits
from rbft_plugin.data.annotations import Sample, read_annotations
from rbft_plugin.data.clip_index import MadeClip
from rbft_plugin.data.clip_workers import Progress, Shard, make_clips
from rbft_plugin.data.prepared import ClipMeta, DataFolder, Manifest, Missing, MissingSample, PreparedSample, json_line
from rbft_plugin.errors import ProblemsError, RbftError, shortened
from rbft_plugin.spec.dataset import Dataset, path_of
from rbft_plugin.spec.dataset_sources import SPLITS
from rbft_plugin.spec.names import VALIDATION_ROWS, fold_name

MOST_LINES = 50  # of an error message about videos


class Usable(NamedTuple):
    """A sample with its clip."""

    sample: Sample
    made: MadeClip


class Unusable(NamedTuple):
    """A sample whose video cannot be used, and why."""

    sample: Sample
    reason: str


@dataclass(frozen=True)
class Prepared:
    """The result of `prepare`: the manifest, how many clips are new, and how many files in the folder of clips belong
    to no sample any more, with their size in bytes.
    """

    manifest: Manifest
    new: int
    unused: int
    unused_bytes: int


def prepare(dataset: Dataset, progress: Progress, workers: int | None = None, overwrite: bool = False) -> Prepared:
    """Make everything that training and evaluation read. Existing clips are kept, unless `overwrite`.

    Raises ProblemsError that names every sample whose video cannot be used, if they are more than
    `dataset.max_missing`. The clips of the other samples are kept then, but the manifest is removed.
    """
    samples = _annotated_samples(dataset)
    clips = make_clips(dataset, samples, progress, workers, overwrite)
    folder = DataFolder(dataset.name)
    with FileLock(folder.lock):  # another process may prepare the same dataset
        try:
            usable, unusable = _divided(dataset, samples, clips.of_samples)
        except RbftError:
            folder.manifest.unlink(missing_ok=True)
            raise
        # The lines are made when they are needed, and made twice, because together they are large.
        names = [*SPLITS, *map(fold_name, range(dataset.folds))]
        row_files = {folder.samples(split): partial(_split_lines, dataset, usable, split) for split in names}
        row_files[folder.rows("label")] = partial(_label_row_lines, dataset, usable, "train")
        row_files[folder.rows(VALIDATION_ROWS)] = partial(_label_row_lines, dataset, usable, "val")
        manifest = Manifest(
            dataset=dataset.name,
            counts=counts(dataset, [sample for sample, _ in usable]),
            missing=_missing(dataset, unusable),
            display={label.name: label.display for label in dataset.labels if label.display},
            clips=dataset.clips,
            largest_clip_pixels=max(made.clip.width * made.clip.height for _, made in usable),
            most_frames=max(made.clip.frames for _, made in usable),
            sha256={path.name: files.sha256_of_lines(lines()) for path, lines in row_files.items()},
        )
        text = files.json_text(manifest.model_dump())
        existing = {path.name: files.sha256(path) for path in row_files if path.is_file()}
        if existing != manifest.sha256 or not files.holds(folder.manifest, text):
            folder.manifest.unlink(missing_ok=True)
            for path, lines in row_files.items():
                files.write_lines(path, lines())
            files.write_text(folder.manifest, text)  # last, because a manifest means that all files are complete
    used_names = {made.name for _, made in usable}
    unused_sizes = [file.stat().st_size for file in os.scandir(folder.clips) if file.name not in used_names]
    return Prepared(manifest, clips.new, len(unused_sizes), sum(unused_sizes))


def make_shard(
    dataset: Dataset, progress: Progress, shard: Shard, workers: int | None = None, overwrite: bool = False
) -> tuple[int, int, list[str]]:
    """Make only the clips of a shard. Returns its numbers of samples and new clips, and the problems of its videos."""
    samples = _annotated_samples(dataset)
    clips = make_clips(dataset, samples, progress, workers, overwrite, shard)
    results = zip(shard.of(samples), clips.of_samples, strict=True)
    problems = [sample.problem(result) for sample, result in results if isinstance(result, str)]
    return len(clips.of_samples), clips.new, problems


def counts(dataset: Dataset, samples: list[Sample]) -> dict[str, dict[str, int]]:
    """Numbers of samples by split and label. Samples without a label count under "", which comes last."""
    names = [*dataset.label_names, *([""] if any(s.label is None for s in samples) else [])]
    splits = ["train", *map(fold_name, range(dataset.folds))] if dataset.folds else SPLITS
    table = {split: Counter(s.label or "" for s in samples if s.split == split) for split in splits}
    return {split: {name: table[split][name] for name in names} for split in splits}


def _annotated_samples(dataset: Dataset) -> list[Sample]:
    """All annotated samples with their splits. Raises ProblemsError if none is for training, or none for testing."""
    samples = splits.assign(read_annotations(dataset).samples, dataset.splits, f"{path_of(dataset.name)}: splits")
    present = {sample.split for sample in samples}
    needed = () if dataset.folds else ("train", "test")
    if empty := [f"split '{split}' has no sample" for split in needed if split not in present]:
        raise ProblemsError(dataset.name, empty, "See `splits` in its YAML.")
    return samples


def _prepared_samples(dataset: Dataset, usable: list[Usable], split: str) -> Iterator[PreparedSample]:
    for sample, made in usable:
        if not _belongs(dataset, sample, split):
            continue
        clip = made.clip
        hint = sample.label if split == "train" else None
        yield PreparedSample(
            id=sample.id,
            video=(DataFolder(dataset.name).clips / made.name).as_posix(),
            label=sample.label,
            labels=dataset.label_names,
            rationale_prompt=prompts.rationale(dataset, sample.context),
            hinted_prompt=prompts.hinted(dataset, hint, sample.context) if hint else None,
            label_prompt=prompts.label(dataset, sample.context),
            after_video=dataset.prompts.after_video,
            fold=_fold(dataset, sample),
            meta=ClipMeta(
                source=sample.video.as_posix(),
                start=float(sample.part.start),
                seconds=round(clip.frames / clip.fps, 3),
                frames=clip.frames,
                width=clip.width,
                height=clip.height,
            ),
        )


def _fold(dataset: Dataset, sample: Sample) -> int | None:
    names = [fold_name(fold) for fold in range(dataset.folds)]
    return names.index(sample.split) if sample.split in names else None


def _belongs(dataset: Dataset, sample: Sample, split: str) -> bool:
    """Whether a sample is in the file of a split. With folds, all may train, and those with a label are tested."""
    if not dataset.folds:
        return sample.split == split
    return split == "train" or (
        sample.label is not None and sample.split != "train" and split in ("test", sample.split)
    )


def _split_lines(dataset: Dataset, usable: list[Usable], split: str) -> Iterator[str]:
    for sample in _prepared_samples(dataset, usable, split):
        yield json_line(sample.model_dump())


def _label_row_lines(dataset: Dataset, usable: list[Usable], split: str) -> Iterator[str]:
    for sample in _prepared_samples(dataset, usable, split):
        if sample.label is not None:
            yield json_line(sample.training_row(sample.label_prompt, sample.label).as_json())


def _divided(
    dataset: Dataset, samples: list[Sample], results: list[MadeClip | str]
) -> tuple[list[Usable], list[Unusable]]:
    """Samples with a clip, and samples without. Raises ProblemsError if the dataset cannot be used like that."""
    pairs = list(zip(samples, results, strict=True))
    usable = [Usable(sample, result) for sample, result in pairs if isinstance(result, MadeClip)]
    unusable = [Unusable(sample, result) for sample, result in pairs if isinstance(result, str)]
    if len(unusable) > dataset.max_missing:
        allowed = f" (max_missing in its YAML allows {dataset.max_missing})" if dataset.max_missing else ""
        hint = f"Repair them, or remove their rows{allowed}; then prepare again."
        raise ProblemsError(f"{dataset.name}: videos that cannot be used", _video_problems(dataset, unusable), hint)
    before, after = counts(dataset, samples), counts(dataset, [sample for sample, _ in usable])
    emptied = [
        f"split '{split}' has no sample " + (f"of label '{name}' " if name else "without a label ") + "that can be used"
        for split in before
        if split != "val"
        for name, count in before[split].items()
        if count and not after[split].get(name)
    ]
    if emptied:
        raise ProblemsError(dataset.name, emptied, "Get their videos; then prepare again.")
    if leaks := _leaks(usable):
        raise ProblemsError(f"{dataset.name}: the same video in two splits", leaks, "Remove all but one of its rows.")
    return usable, unusable


def _video_problems(dataset: Dataset, unusable: list[Unusable]) -> list[str]:
    """A line for each video. Where these are many: a line for each kind of reason, and a file that lists all."""
    problems = [sample.problem(reason) for sample, reason in unusable]
    if len(problems) <= MOST_LINES:
        return problems
    file = DataFolder(dataset.name).unusable_videos
    files.write_text(file, "".join(f"{problem}\n" for problem in problems))
    by_kind: dict[str, list[Unusable]] = defaultdict(list)
    for sample, reason in unusable:
        by_kind[re.sub(r"\d+(\.\d+)?", "N", reason)].append(Unusable(sample, reason))
    summary = [
        f"{len(group)} videos: {group[0].reason if len(group) == 1 else kind}, such as "
        + shortened([f"{sample.named}: {sample.video}" for sample, _ in group], 3)
        for kind, group in sorted(by_kind.items(), key=lambda item: -len(item[1]))
    ]
    return [*summary, f"all {len(problems)} are listed in {file}"]


def _missing(dataset: Dataset, unusable: list[Unusable]) -> Missing:
    samples = [
        MissingSample(id=s.id, split=s.split, label=s.label, video=s.video.as_posix(), reason=reason)
        for s, reason in unusable
    ]
    return Missing(counts=counts(dataset, [sample for sample, _ in unusable]), samples=samples)


def _leaks(usable: list[Usable]) -> list[str]:
    """Samples of different splits that share moments of a video: a model would be tested on what it was trained on."""
    seen: dict[str, list[Sample]] = defaultdict(list)
    leaks = []
    for sample, made in usable:
        earlier = seen[made.source]
        if other := next((e for e in earlier if e.split != sample.split and e.part.overlaps(sample.part)), None):
            both = " and ".join(f"{s.where} (id '{s.id}', {s.split})" for s in (other, sample))
            leaks.append(f"{both}: {sample.video}")
        earlier.append(sample)
    return leaks
