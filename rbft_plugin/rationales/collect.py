"""Logged generations -> rows of stage 1. Whatever is left out is counted by reason."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rbft_plugin.data.prepared import (
    DataFolder,
    TrainingRow,
    json_line,
    read_split,
    write_jsonl,
    write_training_rows,
)
from rbft_plugin.errors import RbftError
from rbft_plugin.llamafactory.registry import dataset_entry, write_entries
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.rationales import filters
from rbft_plugin.rationales.filters import Written
from rbft_plugin.spec.filters import REASONS as FILTER_REASONS
from rbft_plugin.spec.filters import Filters
from rbft_plugin.spec.names import TASK_KINDS, llamafactory_name, task_dataset, task_kind

REASONS = FILTER_REASONS | {
    "unlabelled": "it has no label, and so no hinted prompt",
    "missing": "the log does not have it",
}


@dataclass(frozen=True)
class Collection:
    """What `collect` made: the rows, and what it left out: {"id", "reason", "text" (None where there is none)}."""

    dataset: str
    mode: str  # plain, or hinted: the writer was shown the label
    rows: list[TrainingRow]
    dropped: list[dict[str, Any]]
    uncounted: int = 0  # texts of which the log does not tell whether they were truncated
    further: int = 0  # texts that are not used, since the log has several of a video

    def by_reason(self) -> dict[str, list[dict[str, Any]]]:
        """What was left out, in the order of REASONS."""
        found = defaultdict(list)
        for one in self.dropped:
            found[one["reason"]].append(one)
        return {reason: found[reason] for reason in REASONS if reason in found}


def collect(output: Path, chosen: Filters | None = None) -> Collection:
    """Rows from the one log of rationales below `output`; raises RbftError if it is not of the prepared data.

    A row asks what was asked; one of a hinted log the plain rationale prompt, for the trained model is shown no label.
    """
    log = evaluation.only_log(output, "rationales")
    task = evaluation.task_of(log)
    dataset, hinted = task_dataset(task), TASK_KINDS[task_kind(task)].hinted
    samples = {sample.id: sample for sample in read_split(dataset, "train")}
    logged = evaluation.read_log(log)
    ids = [row.sample_id or "" for row in logged]
    strange = sorted(set(ids) - set(samples))
    if strange or len(set(ids)) < len(ids):
        what = f"samples that are not in the training split, such as '{strange[0]}'" if strange else "samples twice"
        raise RbftError(f"{log}: it has {what}; was {dataset} prepared anew since? Generate again")
    limit = evaluation.generation_settings(log).get("max_new_tokens")
    written, uncounted, further = [], 0, 0
    for row, sample in zip(logged, (samples[i] for i in ids), strict=True):
        tokens = row.output_tokens
        uncounted += limit is None or tokens is None
        further += row.further_answers
        prompt = sample.rationale_prompt if hinted else row.prompt or sample.rationale_prompt
        label = sample.label if hinted else None
        text = row.answer.strip()
        written.append(Written(text, prompt, bool(limit and tokens and tokens >= limit), label))
    rows: list[TrainingRow] = []
    dropped: list[dict[str, Any]] = []
    for i, one, reason in zip(ids, written, filters.reasons(written, chosen or Filters()), strict=True):
        if reason:
            dropped.append({"id": i, "reason": reason, "text": one.text})
        else:
            rows.append(samples[i].training_row(one.prompt, one.text))
    for i in samples.keys() - set(ids):
        reason = "unlabelled" if hinted and samples[i].label is None else "missing"  # or lmms-eval had a --limit
        dropped.append({"id": i, "reason": reason, "text": None})
    order = {i: position for position, i in enumerate(samples)}
    dropped.sort(key=lambda one: order[one["id"]])
    return Collection(dataset, "hinted" if hinted else "plain", rows, dropped, uncounted, further)


def write(collection: Collection, folder: Path, overwrite: bool = False) -> Path:
    """Write the rows to `folder`/rationale.jsonl, and what was left out to rationale.dropped.jsonl beside it.

    Other rows that are there already are kept: then RbftError, unless `overwrite`. A folder outside data/ gets a
    dataset_info.json of its own.
    """
    if not collection.rows:
        raise RbftError(f"{collection.dataset}: no rationale is left to train on; see the counts above")
    target = folder / "rationale.jsonl"
    text = "".join(json_line(row.as_json()) for row in collection.rows)
    if not overwrite and target.is_file() and target.read_text(encoding="utf-8") != text:
        raise RbftError(f"{target} holds rows of another generation; give --overwrite to replace them, or --rows DIR")
    write_training_rows(target, collection.rows)
    write_jsonl(folder / "rationale.dropped.jsonl", collection.dropped)
    if folder != DataFolder(collection.dataset).path:
        name = llamafactory_name(collection.dataset, "rationale")
        write_entries(folder, {name: dataset_entry("rationale.jsonl")})
    return target
