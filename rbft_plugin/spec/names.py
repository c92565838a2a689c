"""Names made of a dataset's name: lmms-eval's tasks, LLaMA-Factory's datasets, metrics of a label."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

STAGES = ("rationale", "label")  # each has a file of rows, and a dataset of that name in LLaMA-Factory
CLASS_METRICS = ("f1", "precision", "recall", "support")  # made of each sample's tp, fp, fn or tn


@dataclass(frozen=True)
class TaskKind:
    """What the tasks of one kind share.

    `bases` are the YAMLs in task_configs/ that each of them includes; of two, the first one overrides the second.
    `tag` is lmms-eval's name for all of them. `scores` says what is scored against the label, if anything. `hinted`
    tasks show the label, and so take only the samples that have one.
    """

    tag: str
    bases: tuple[str, ...]
    split: Literal["train", "test"] = "test"
    scores: Literal["answers", "likelihoods"] | None = None
    hinted: bool = False


# The task of a dataset is rbft_<name> for the first kind, and rbft_<name>_<kind> for the others.
TASK_KINDS: dict[str, TaskKind] = {
    "label": TaskKind("rbft_labels", ("_rbft_label_base.yaml",), scores="answers"),
    "ll": TaskKind("rbft_likelihoods", ("_rbft_ll_base.yaml",), scores="likelihoods"),
    "novideo": TaskKind("rbft_novideos", ("_rbft_novideo_base.yaml", "_rbft_label_base.yaml"), scores="answers"),
    "rationale": TaskKind("rbft_rationales", ("_rbft_rationale_base.yaml",), "train"),
    "rationale_hinted": TaskKind(
        "rbft_rationales_hinted",
        ("_rbft_rationale_hinted_base.yaml", "_rbft_rationale_base.yaml"),
        "train",
        hinted=True,
    ),
}
LABEL_BASE = TASK_KINDS["label"].bases[0]


def llamafactory_name(dataset: str, stage: str) -> str:
    """LLaMA-Factory's name for a dataset's rows."""
    return f"{dataset}_{stage}"


def task_name(dataset: str, kind: str) -> str:
    """lmms-eval's name for a dataset's task of a kind."""
    return f"rbft_{dataset}" if kind == "label" else f"rbft_{dataset}_{kind}"


def task_kind(task: str) -> str:
    """The kind of a task. The longest kind wins; no dataset's own name ends in a kind."""
    kinds = sorted(TASK_KINDS, key=len, reverse=True)
    return next((kind for kind in kinds if task.endswith(f"_{kind}") and kind != "label"), "label")


def task_dataset(task: str) -> str:
    """The dataset of a task, the inverse of `task_name`."""
    return task.removeprefix("rbft_").removesuffix(f"_{task_kind(task)}")


def reserved_suffixes() -> list[str]:
    """Last words that a dataset's name must not have, since tasks are named so."""
    return list(dict.fromkeys(kind.rsplit("_", 1)[-1] for kind in TASK_KINDS if kind != "label"))


def class_metric(metric: str, label: str) -> str:
    """The name of a label's metric in lmms-eval's table, where a comma would end a metric's name."""
    return f"{metric}_" + re.sub(r"\W+", "_", label).strip("_")
