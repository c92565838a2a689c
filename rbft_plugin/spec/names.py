"""TASK_KINDS, and the names that are made of a dataset's name: of tasks, of LLaMA-Factory's datasets, of metrics."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rbft_plugin.spec.dataset_sources import SPLITS, Split

STAGES = ("rationale", "label")  # each has a file of rows, and a dataset of that name in LLaMA-Factory
VALIDATION_ROWS = "label_val"  # the same for label rows of the split val
CLASS_METRICS = ("f1", "precision", "recall", "support")  # computed from each sample's tp, fp, fn or tn


@dataclass(frozen=True)
class TaskKind:
    """What the tasks of one kind share.

    `tag` is lmms-eval's name for all of them. `bases` are the YAML files in task_configs/ that each of them includes;
    the first overrides the second. `splits` has a task each; that of the first has the plain name and the tag. `scores`
    says what is scored against the label, or None. The prompt of a `hinted` task shows the label, so that it takes only
    samples that have one.
    """

    tag: str
    bases: tuple[str, ...]
    splits: tuple[Split, ...] = ("test", "val", "train")
    scores: Literal["answers", "likelihoods"] | None = None
    hinted: bool = False


# A task is named rbft_<dataset> for the kind "label", and rbft_<dataset>_<kind> for other kinds; then comes _<split>,
# except for the first split of the kind.
TASK_KINDS: dict[str, TaskKind] = {
    "label": TaskKind("rbft_labels", ("_rbft_label_base.yaml",), scores="answers"),
    "ll": TaskKind("rbft_likelihoods", ("_rbft_ll_base.yaml",), scores="likelihoods"),
    "novideo": TaskKind("rbft_novideos", ("_rbft_novideo_base.yaml", "_rbft_label_base.yaml"), scores="answers"),
    "rationale": TaskKind("rbft_rationales", ("_rbft_rationale_base.yaml",), ("train",)),
    "rationale_hinted": TaskKind(
        "rbft_rationales_hinted",
        ("_rbft_rationale_hinted_base.yaml", "_rbft_rationale_base.yaml"),
        ("train",),
        hinted=True,
    ),
}
LABEL_BASE = TASK_KINDS["label"].bases[0]


def stage_name(stages: Sequence[str]) -> str:
    """The last of these stages, with the number of its round if it is repeated: rationale, then rationale-2."""
    number = sum(stage == stages[-1] for stage in stages)
    return stages[-1] if number == 1 else f"{stages[-1]}-{number}"


def llamafactory_name(dataset: str, stage: str) -> str:
    """LLaMA-Factory's name for the rows of a dataset."""
    return f"{dataset}_{stage}"


class Task(NamedTuple):
    """What the name of a task says."""

    dataset: str
    kind: str
    split: Split
    fold: int | None = None  # of which the samples are; of all folds unless given


def task_name(dataset: str, kind: str, split: Split | None = None, fold: int | None = None) -> str:
    """lmms-eval's name for the task of a dataset; `split` is the first one of the kind unless it is given."""
    ending = "" if split in (None, TASK_KINDS[kind].splits[0]) else f"_{split}"
    ending += "" if fold is None else f"_{fold_name(fold)}"
    return f"rbft_{dataset}" + ("" if kind == "label" else f"_{kind}") + ending


def parse_task(task: str) -> Task:
    """The inverse of `task_name`. The longest kind that fits is taken, and no name of a dataset ends as tasks do."""
    task, fold = (found[1], int(found[2])) if (found := re.fullmatch(r"(.+)_fold(\d+)", task)) else (task, None)
    split = next((split for split in SPLITS if task.endswith(f"_{split}")), None)
    name = task.removeprefix("rbft_").removesuffix(f"_{split}")
    kinds = sorted(TASK_KINDS, key=len, reverse=True)
    kind = next((kind for kind in kinds if name.endswith(f"_{kind}") and kind != "label"), "label")
    return Task(name.removesuffix(f"_{kind}"), kind, split or TASK_KINDS[kind].splits[0], fold)


def fold_name(fold: int) -> str:
    """The name of a fold as a split of the annotations, in names of tasks, and of its file of samples."""
    return f"fold{fold}"


def reserved_suffixes() -> list[str]:
    """The last words that the name of a dataset must not have, because names of tasks end in them."""
    return [*dict.fromkeys(kind.rsplit("_", 1)[-1] for kind in TASK_KINDS if kind != "label"), *SPLITS]


def rule_metric(rule: int) -> str:
    """lmms-eval's name for the share of answers that a rule of scoring.answers reads."""
    return f"rule_{rule}"


def class_metric(metric: str, label: str) -> str:
    """lmms-eval's name for a metric of a label. It has no punctuation, because a comma would end it."""
    return f"{metric}_" + re.sub(r"\W+", "_", label).strip("_")
