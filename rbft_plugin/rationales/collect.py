"""Logged rationales -> training rows. What is left out is counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from rbft_plugin import files
from rbft_plugin.data import prompts
from rbft_plugin.data.prepared import (
    DataFolder,
    TrainingRow,
    json_line,
    read_split,
    write_jsonl,
    write_training_rows,
)
from rbft_plugin.errors import RbftError
from rbft_plugin.llamafactory.registry import register_rows
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.rationales.filters import FILTERS, RationaleRow, reasons
from rbft_plugin.scoring.answers import conclusion
from rbft_plugin.spec.filters import Filters
from rbft_plugin.spec.names import TASK_KINDS, parse_task
from rbft_plugin.spec.row_kinds import LABEL_MARK

REASONS = {name: one.description for name, one in FILTERS.items()} | {
    "unlabelled": "it has no label, and so no hinted prompt",
    "missing": "the log does not have it",
}


@dataclass(frozen=True)
class Dropped:
    """A training sample whose rationale is left out, and why; `text` is None where there is no rationale."""

    id: str
    reason: str  # a key of REASONS
    text: str | None


SUMMARY = "rationale.summary.json"  # beside the rows


class Conclusions(BaseModel, frozen=True):
    """What the rationales conclude. Of the samples with a label: how many there are, and of how many the conclusion is
    the label, of all written and of the kept ones. Of all: the numbers by concluded class.
    """

    labelled: int
    right: int
    labelled_kept: int
    right_kept: int
    classes: dict[str, int]
    classes_kept: dict[str, int]


class RationaleSummary(BaseModel, frozen=True):
    """How many rationales were written and kept, how many were left out for each reason, and what they conclude."""

    mode: Literal["plain", "hinted"]
    written: int
    kept: int
    dropped: dict[str, int]
    conclusions: Conclusions | None


@dataclass(frozen=True)
class Collection:
    """The rows, in the order of the log, and what was left out, in the order of the training split."""

    dataset: str
    mode: Literal["plain", "hinted"]  # hinted: the writer was shown the label
    rows: list[TrainingRow]
    dropped: list[Dropped]
    uncounted: int = 0  # rationales of which the log does not tell whether they were truncated
    further: int = 0  # rationales that are not used, since the log has several of a video
    conclusions: Conclusions | None = None  # None where the rationales have none

    def summary(self) -> RationaleSummary:
        dropped = {reason: len(ones) for reason, ones in self.by_reason().items()}
        written = len(self.rows) + len(self.dropped)
        return RationaleSummary(
            mode=self.mode, written=written, kept=len(self.rows), dropped=dropped, conclusions=self.conclusions
        )

    def by_reason(self) -> dict[str, list[Dropped]]:
        """What was left out, in the order of REASONS."""
        found = {reason: [one for one in self.dropped if one.reason == reason] for reason in REASONS}
        return {reason: dropped for reason, dropped in found.items() if dropped}


def collect(output: Path, chosen: Filters | None = None) -> Collection:
    """Rows from the one log of rationales below `output`; raises RbftError if it is not of the prepared data.

    A row has the prompt of the log. If that was hinted, it has the plain rationale prompt, since it must not show the
    label.
    """
    log = evaluation.only_log(output, "rationales")
    dataset, kind, *_ = parse_task(evaluation.task_of(log))
    hinted = TASK_KINDS[kind].hinted
    samples = {sample.id: sample for sample in read_split(dataset, "train")}
    logged = evaluation.read_log(log)
    ids = [row.sample_id or "" for row in logged]
    strange = sorted(set(ids) - set(samples))
    if strange or len(set(ids)) < len(ids):
        what = f"samples that are not in the training split, such as '{strange[0]}'" if strange else "samples twice"
        raise RbftError(f"{log}: it has {what}; was {dataset} prepared anew since? Generate again")
    limit = evaluation.generation_settings(log).get("max_new_tokens")
    filters = chosen or Filters()
    written = []
    for row, sample_id in zip(logged, ids, strict=True):
        sample, tokens = samples[sample_id], row.output_tokens
        prompt = sample.rationale_prompt if hinted else row.prompt or sample.rationale_prompt
        asked = prompts.CONCLUSION in prompt and not hinted
        text, concluded = conclusion(row.answer.strip(), sample.labels) if asked else (row.answer.strip(), None)
        if (filters.right or filters.concluded) and not asked:
            raise RbftError(
                f"{log}: the prompt of '{sample_id}' asks for no conclusion, so the filters `right` and `concluded` "
                "have nothing to read; have {conclusion} in prompts.rationale of the dataset's YAML, and generate again"
            )
        written.append(
            RationaleRow(
                sample_id,
                text,
                prompt,
                truncated=bool(limit and tokens and tokens >= limit),
                label=sample.label if hinted else None,
                target=sample.label,
                concluded=concluded,
            )
        )
    rows, kept, left_out = [], [], {}
    for one, reason in zip(written, reasons(written, filters), strict=True):
        if reason:
            left_out[one.sample_id] = Dropped(one.sample_id, reason, one.text)
        else:
            kept.append(one)
            rows.append(samples[one.sample_id].training_row(*_trained(one, filters)))
    for sample_id in samples.keys() - set(ids):  # they had no prompt, or lmms-eval had a --limit
        reason = "unlabelled" if hinted and samples[sample_id].label is None else "missing"
        left_out[sample_id] = Dropped(sample_id, reason, None)
    return Collection(
        dataset,
        "hinted" if hinted else "plain",
        rows,
        [left_out[sample_id] for sample_id in samples if sample_id in left_out],
        uncounted=sum(limit is None or row.output_tokens is None for row in logged),
        further=sum(row.further_answers for row in logged),
        conclusions=_conclusions(written, kept) if any(one.concluded for one in written) else None,
    )


def _trained(row: RationaleRow, filters: Filters) -> tuple[str, str]:
    """(prompt, answer) of a training row. Without its conclusion, a rationale is not asked for one."""
    if filters.conclusion == "drop":
        return prompts.without_conclusion(row.prompt), row.text
    return row.prompt, row.text + (LABEL_MARK + row.concluded if row.concluded else "")


def _conclusions(written: Sequence[RationaleRow], kept: Sequence[RationaleRow]) -> Conclusions:
    of_kept = {one.sample_id for one in kept}
    labelled = [one for one in written if one.target is not None]
    right = [one for one in labelled if one.concluded == one.target]
    return Conclusions(
        labelled=len(labelled),
        right=len(right),
        labelled_kept=sum(one.sample_id in of_kept for one in labelled),
        right_kept=sum(one.sample_id in of_kept for one in right),
        classes=dict(Counter(one.concluded for one in written if one.concluded).most_common()),
        classes_kept=dict(Counter(one.concluded for one in kept if one.concluded)),
    )


def write(collection: Collection, folder: Path, overwrite: bool = False) -> Path:
    """Write the rows to `folder`/rationale.jsonl, beside it what was left out, and a summary.

    Raises RbftError if the file already has other rows, unless `overwrite`. A folder outside data/ gets a
    dataset_info.json of its own.
    """
    if not collection.rows:
        raise RbftError(f"{collection.dataset}: no rationale is left to train on; see the counts above")
    target = folder / "rationale.jsonl"
    text = "".join(json_line(row.as_json()) for row in collection.rows)
    if not overwrite and target.is_file() and target.read_text(encoding="utf-8") != text:
        raise RbftError(f"{target} holds rows of another generation; give --overwrite to replace them, or --rows DIR")
    write_training_rows(target, collection.rows)
    write_jsonl(folder / "rationale.dropped.jsonl", map(asdict, collection.dropped))
    files.write_json(folder / SUMMARY, collection.summary().model_dump())
    if folder != DataFolder(collection.dataset).path:
        register_rows(collection.dataset, target)
    return target
