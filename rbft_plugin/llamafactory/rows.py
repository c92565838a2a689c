"""LLaMA-Factory rows of one kind, for all of the training split or a part of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from rbft_plugin.data.prepared import (
    PreparedSample,
    TrainingRow,
    numbered_values,
    read_split,
    read_training_rows,
    write_training_rows,
)
from rbft_plugin.data.prompts import without_conclusion
from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.llamafactory.registry import register_rows
from rbft_plugin.scoring.answers import conclusion
from rbft_plugin.spec.dataset_sources import SPLITS
from rbft_plugin.spec.row_kinds import LABEL_MARK, ROW_KINDS, RowKind


def rows(
    samples: Sequence[PreparedSample],
    kind: RowKind,
    rationales: Sequence[TrainingRow] = (),
    labelled: bool = False,
    seed: int = 0,
) -> list[TrainingRow]:
    """Rows of one kind for training samples, in the order of the samples or, without a label, of the rationales.

    `rationales` are collected rows. A row with a label has its sample's rationale if one was kept. `labelled` leaves
    out samples without a label.
    """
    kept = {s.id: s for s in samples if s.label is not None or not (labelled or kind.labelled_only)}
    given = [row for row in rationales if row.id in kept]
    if kind.shuffled:
        given = _shuffled(given, seed)
    if kind.label:
        texts = {row.id: conclusion(row.answer, kept[row.id].labels)[0] + LABEL_MARK for row in given}
        mark = LABEL_MARK.lstrip() if kind.rationales else ""
        made = [s.training_row(_prompt(s, kind), f"{texts.get(s.id, mark)}{s.label}") for s in kept.values()]
    elif kind.prompt == "rationale":
        made = given  # they ask what the writer of the rationales was asked
    else:
        made = [kept[row.id].training_row(_prompt(kept[row.id], kind), row.answer) for row in given]
    return _balanced(made, {s.id: s.label for s in samples}) if kind.balanced else made


def _prompt(sample: PreparedSample, kind: RowKind) -> str:
    prompts = {
        "rationale": sample.rationale_prompt,
        "hinted": sample.hinted_prompt or "",
        "label": sample.label_prompt,
    }
    return prompts[kind.prompt]


def _balanced(rows: list[TrainingRow], labels: dict[str, str | None]) -> list[TrainingRow]:
    by_label: dict[str | None, list[TrainingRow]] = {}
    for row in rows:
        by_label.setdefault(labels[row.id], []).append(row)
    most = max(map(len, by_label.values()), default=0)
    return [group[i % len(group)] for i in range(most) for group in by_label.values()]


def _shuffled(given: list[TrainingRow], seed: int) -> list[TrainingRow]:
    """The rows with other answers than their own: each takes that of the next row in a random ring."""
    ring = random.Random(seed).sample(range(len(given)), len(given))
    taken = dict(zip(ring, ring[1:] + ring[:1], strict=True))
    return [replace(row, answer=given[taken[i]].answer) for i, row in enumerate(given)]


def subset(
    samples: Sequence[PreparedSample],
    shots: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
    folds: Collection[int] = (),
) -> list[PreparedSample]:
    """A part of the training samples, in their order: `shots` labelled ones of each class and all unlabelled ones, or
    a fraction of each class and of the unlabelled ones (at least one of each). Samples of `folds` are left out before.

    The samples are drawn by the seed, whatever their order. 8 shots contain the 4 shots of the same seed.
    Raises ProblemsError if a class has fewer samples than `shots`.
    """
    samples = [sample for sample in samples if sample.fold is None or sample.fold not in folds]
    groups: dict[str | None, list[str]] = {}
    for sample in samples:
        groups.setdefault(sample.label, []).append(sample.id)
    if shots and (too_small := [f"'{n}' has {len(g)}" for n, g in groups.items() if n is not None and len(g) < shots]):
        raise ProblemsError(f"shots: {shots} labelled training samples of each class are asked for", too_small)
    chosen: set[str] = set()
    for label, ids in groups.items():
        order = sorted(ids)
        random.Random(f"{seed}/{label}").shuffle(order)
        count = len(order)
        if shots and label is not None:
            count = shots
        if fraction:
            count = max(1, round(fraction * len(order)))
        chosen.update(order[:count])
    return [s for s in samples if s.id in chosen]


def read_texts(path: Path) -> dict[str, str]:
    """{id of a sample: its text}, from JSON lines {"id": ..., "text": ...}. Raises RbftError with each bad line."""
    if not path.is_file():
        raise RbftError(f"{path}: no such file; it has the texts of rows of kind rationale_file")
    texts: dict[str, str] = {}
    problems = []
    for number, value in numbered_values(path):
        given = value if isinstance(value, dict) else {}
        name, text = given.get("id"), given.get("text")
        if not (isinstance(name, str) and isinstance(text, str) and text.strip()):
            problems.append(f"line {number}: must be an object with 'id' and 'text', which are texts and not empty")
        elif name in texts:
            problems.append(f"line {number}: '{name}' has a text already")
        else:
            texts[name] = text.strip()
    if problems:
        raise ProblemsError(str(path), problems)
    return texts


def _of_file(path: Path, dataset: str) -> list[TrainingRow]:
    """Rows of the texts of a file, of all training samples that have one. Those of other splits are not used."""
    texts = read_texts(path)
    samples = {sample.id: sample for split in SPLITS for sample in read_split(dataset, split)}
    if unknown := [name for name in texts if name not in samples]:
        problems = [f"'{name}' is no sample of {dataset}" for name in unknown]
        raise ProblemsError(str(path), problems, f"data/{dataset}/*.jsonl have the ids of the samples.")
    train = [sample for sample in read_split(dataset, "train") if sample.id in texts]
    return [sample.training_row(without_conclusion(sample.rationale_prompt), texts[sample.id]) for sample in train]


def write(
    dataset: str,
    kind: str,
    output: Path,
    rationales: Path | None = None,
    labelled: bool = False,
    shots: int | None = None,
    fraction: float | None = None,
    seed: int = 0,
    folds: Collection[int] = (),
) -> Counter[str]:
    """Write rows of a prepared dataset to `output` and register them beside it; returns the samples by label.

    No row is of a sample of `folds`. Raises RbftError if there is no such kind or fold, if it needs rationales and
    there are none, or if nothing is left.
    """
    if kind not in ROW_KINDS:
        raise RbftError(f"there are no rows of kind '{kind}'; the kinds are {', '.join(ROW_KINDS)}")
    of_file = ROW_KINDS[kind].rationales == "file"
    if ROW_KINDS[kind].rationales and rationales is None:
        maker = "JSON lines with 'id' and 'text'" if of_file else "from `rbft collect`"
        raise RbftError(f"rows of kind {kind} are made of rationales: give --rationales FILE, {maker}")
    if rationales is not None and not of_file and not rationales.is_file():
        raise RbftError(f"{rationales}: no such file; `rbft collect` makes it")
    existing = read_split(dataset, "train")
    if unknown := sorted({*folds} - {sample.fold for sample in existing}):
        known = ", ".join(map(str, sorted({sample.fold for sample in existing if sample.fold is not None}))) or "none"
        raise RbftError(
            f"{dataset}: there is no fold {unknown[0]}; its folds are: {known} (`splits.folds` in its YAML)"
        )
    samples = subset(existing, shots, fraction, seed, folds)
    written: Sequence[TrainingRow] = ()
    if rationales:
        written = _of_file(rationales, dataset) if of_file else read_training_rows(rationales)
    made = rows(samples, ROW_KINDS[kind], written, labelled, seed)
    if not made:
        raise RbftError(f"{dataset}: no training sample is left for rows of kind {kind}")
    write_training_rows(output, made)
    register_rows(dataset, output)
    label_of = {s.id: s.label or "" for s in samples}
    return Counter(label_of[row.id] for row in made)
