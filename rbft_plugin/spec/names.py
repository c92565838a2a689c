"""Names that are made of a dataset's name: lmms-eval's tasks, LLaMA-Factory's datasets, metrics of a class."""

from __future__ import annotations

import re
from typing import Literal, get_args

STAGES = ("rationale", "label")  # each has a file of rows, and a dataset of that name in LLaMA-Factory
# lmms-eval's tasks of a dataset: rbft_<name>, and rbft_<name>_<kind> for the others.
TaskKind = Literal["label", "ll", "novideo", "rationale", "rationale_hinted"]
KINDS: tuple[TaskKind, ...] = get_args(TaskKind)
# What a task shares with all others of its kind, in task_configs/; of two, the first has the last word.
BASES: dict[str, tuple[str, ...]] = {
    "label": ("_rbft_label_base.yaml",),
    "ll": ("_rbft_ll_base.yaml",),
    "novideo": ("_rbft_novideo_base.yaml", "_rbft_label_base.yaml"),
    "rationale": ("_rbft_rationale_base.yaml",),
    "rationale_hinted": ("_rbft_rationale_hinted_base.yaml", "_rbft_rationale_base.yaml"),
}
LABEL_BASE = BASES["label"][0]
OF_A_CLASS = ("f1", "precision", "recall", "support")  # made of each sample's tp, fp, fn or tn


def llamafactory_name(dataset: str, stage: str) -> str:
    return f"{dataset}_{stage}"


def task_name(dataset: str, kind: str) -> str:
    """lmms-eval's task: rbft_<name> scores answers, rbft_<name>_ll likelihoods, rbft_<name>_rationale writes ..."""
    return f"rbft_{dataset}" if kind == "label" else f"rbft_{dataset}_{kind}"


def task_kind(task: str) -> TaskKind:
    """What a task is for; no dataset's own name ends in a kind."""
    return next((kind for kind in reversed(KINDS) if task.endswith(f"_{kind}") and kind != "label"), "label")


def task_dataset(task: str) -> str:
    """The dataset of a task, the inverse of `task_name`."""
    return task.removeprefix("rbft_").removesuffix(f"_{task_kind(task)}")


def task_split(kind: str) -> str:
    """The split that a kind of task runs on."""
    return "train" if kind.startswith("rationale") else "test"


def class_metric(figure: str, label: str) -> str:
    """Name of a figure of a label in lmms-eval's table, where a comma would end a metric's name."""
    return f"{figure}_" + re.sub(r"\W+", "_", label).strip("_")
