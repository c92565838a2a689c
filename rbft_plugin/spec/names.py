"""TASK_KINDS, and the names that are made of a dataset's name: of tasks, of LLaMA-Factory's datasets, of metrics."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

STAGES = ("rationale", "label")  # each has a file of rows, and a dataset of that name in LLaMA-Factory
CLASS_METRICS = ("f1", "precision", "recall", "support")  # computed from each sample's tp, fp, fn or tn


@dataclass(frozen=True)
class TaskKind:
    """What the tasks of one kind share.

    `tag` is lmms-eval's name for all of them. `bases` are the YAML files in task_configs/ that each of them includes;
    the first overrides the second. `scores` says what is scored against the label, or None. The prompt of a `hinted`
    task shows the label, so that it takes only samples that have one.
    """

    tag: str
    bases: tuple[str, ...]
    split: Literal["train", "test"] = "test"
    scores: Literal["answers", "likelihoods"] | None = None
    hinted: bool = False


# A task is named rbft_<dataset> for the kind "label", and rbft_<dataset>_<kind> for other kinds.
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
    """LLaMA-Factory's name for the rows of a dataset."""
    return f"{dataset}_{stage}"


def task_name(dataset: str, kind: str) -> str:
    """lmms-eval's name for the task of a dataset."""
    return f"rbft_{dataset}" if kind == "label" else f"rbft_{dataset}_{kind}"


def task_kind(task: str) -> str:
    """The kind of a task. The longest kind that fits is taken, and no name of a dataset ends as a kind does."""
    kinds = sorted(TASK_KINDS, key=len, reverse=True)
    return next((kind for kind in kinds if task.endswith(f"_{kind}") and kind != "label"), "label")


def task_dataset(task: str) -> str:
    """The dataset of a task."""
    return task.removeprefix("rbft_").removesuffix(f"_{task_kind(task)}")


def reserved_suffixes() -> list[str]:
    """The last words that the name of a dataset must not have, because names of tasks end in them."""
    return list(dict.fromkeys(kind.rsplit("_", 1)[-1] for kind in TASK_KINDS if kind != "label"))


def class_metric(metric: str, label: str) -> str:
    """lmms-eval's name for a metric of a label. It has no punctuation, because a comma would end it."""
    return f"{metric}_" + re.sub(r"\W+", "_", label).strip("_")
