"""Which samples a dataset goes on with, once it is known which of their videos can be used."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from rbft_plugin import files
from rbft_plugin.annotations import Sample
from rbft_plugin.dataset import SPLITS, Dataset
from rbft_plugin.errors import ProblemsError, shortened
from rbft_plugin.journal import Made

MOST_LINES = 50  # of an error message about videos


def counts(dataset: Dataset, found: list[Sample]) -> dict[str, dict[str, int]]:
    """Samples by split and label; those without a label count under "" (last)."""
    names = [*dataset.label_names, *([""] if any(s.label is None for s in found) else [])]
    table = {split: Counter(s.label or "" for s in found if s.split == split) for split in SPLITS}
    return {split: {name: table[split][name] for name in names} for split in SPLITS}


def parted(
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


def described(missing: list[tuple[Sample, str]]) -> list[dict[str, Any]]:
    return [
        {"id": s.id, "split": s.split, "label": s.label, "video": s.video.as_posix(), "reason": reason}
        for s, reason in missing
    ]


def _leaks(used: list[tuple[Sample, Made]]) -> list[str]:
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
