"""Logged generations -> rows of stage 1. Whatever is left out is counted by reason."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rbft_plugin import evaluation, files, registry
from rbft_plugin.errors import RbftError
from rbft_plugin.preparation import read_jsonl, read_split, rows_text, training_row, write_rows

REASONS = {
    "empty": "the model wrote nothing",
    "truncated": "it was cut at the limit of new tokens",
    "repetitive": "it says the same over and over",
    "markup": "it holds <video> or <image>, which training would take for media",
    "missing": "the log does not have it",
}


@dataclass(frozen=True)
class Collection:
    """What `collect` made: the rows, and the ids it left out by reason."""

    dataset: str
    rows: list[dict[str, Any]]
    dropped: dict[str, list[str]]
    counted_tokens: bool  # whether the log tells truncated generations


def collect(output: Path) -> Collection:
    """Rows from the one log of rationales below `output`; raises RbftError if it is not of the prepared data."""
    log = evaluation.only_log(output, "_rationale")
    dataset = registry.dataset_of(evaluation.task_of(log))
    samples = {row["id"]: row for row in read_split(dataset, "train")}
    logged = read_jsonl(log)
    ids = [str(row.get("sample_id")) for row in logged]
    strange = sorted(set(ids) - set(samples))
    if strange or len(set(ids)) < len(ids):
        what = f"samples that are not in the training split, such as '{strange[0]}'" if strange else "samples twice"
        raise RbftError(f"{log}: it has {what}; was {dataset} prepared anew since? Generate again")
    limit = evaluation.generation_settings(log).get("max_new_tokens")
    rows, dropped, counted = [], defaultdict[str, list[str]](list), True
    for row, sample in zip(logged, (samples[i] for i in ids), strict=True):
        tokens = next((c.get("output_tokens") for c in row.get("token_counts") or [] if c), None)
        counted = counted and limit is not None and tokens is not None
        text = evaluation.answer_text(row).strip()
        reason = why_not(text, truncated=bool(limit and tokens and tokens >= limit))
        if reason:
            dropped[reason].append(sample["id"])
        else:
            rows.append(training_row(sample, row.get("input") or sample["rationale_prompt"], text))
    done = set(ids)
    if lost := [i for i in samples if i not in done]:  # lmms-eval was given a --limit
        dropped["missing"] = lost
    return Collection(dataset, rows, dict(dropped), counted)


def why_not(text: str, truncated: bool) -> str | None:
    """The reason, a key of REASONS, for which a text is no rationale to learn from; None if it is one."""
    if not text:
        return "empty"
    if truncated:
        return "truncated"
    if "<video>" in text or "<image>" in text:
        return "markup"
    return "repetitive" if _repetitive(text) else None


def _repetitive(text: str) -> bool:
    """Whether a run of words stands there four times in a row, or a long sentence three times anywhere."""
    words = re.findall(r"\w+", text.casefold())
    for size in range(1, len(words) // 4 + 1):
        same = 0
        for i in range(size, len(words)):
            same = same + 1 if words[i] == words[i - size] else 0
            if same >= 3 * size:
                return True
    sentences = [s.strip() for s in re.split(r"[.!?\n。！？]+", text.casefold()) if len(s.split()) >= 5]
    return any(sentences.count(s) >= 3 for s in set(sentences))


def write(collection: Collection, folder: Path, overwrite: bool = False) -> Path:
    """Write the rows to `folder`/rationale.jsonl, and what was left out to rationale.dropped.json beside it.

    Other rows that are there already are kept: then RbftError, unless `overwrite`. A folder outside data/ gets a
    dataset_info.json of its own.
    """
    if not collection.rows:
        raise RbftError(f"{collection.dataset}: no rationale is left to train on; see the counts above")
    target = folder / "rationale.jsonl"
    if target.is_file() and target.read_text(encoding="utf-8") != rows_text(collection.rows) and not overwrite:
        raise RbftError(f"{target} holds rows of another generation; give --overwrite to replace them, or --rows DIR")
    write_rows(target, collection.rows)
    files.write_json(folder / "rationale.dropped.json", collection.dropped)
    if folder != Path("data") / collection.dataset:
        name = registry.llamafactory_name(collection.dataset, "rationale")
        registry.write_entries(folder, {name: registry.entry("rationale.jsonl")})
    return target
