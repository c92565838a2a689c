"""Registers datasets with both harnesses: dataset_info/dataset_info.json and task_configs/rbft_<name>*.yaml.

All paths in them are relative, so they can be committed and a workspace can be moved.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, get_args

from filelock import FileLock

from rbft_plugin import files
from rbft_plugin.dataset import Dataset, path_of
from rbft_plugin.errors import RbftError
from rbft_plugin.workspace import shipped

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


def kind_of(task: str) -> TaskKind:
    """What a task is for; no dataset's own name ends in a kind."""
    return next((kind for kind in reversed(KINDS) if task.endswith(f"_{kind}") and kind != "label"), "label")


def dataset_of(task: str) -> str:
    """The dataset of a task, the inverse of `task_name`."""
    return task.removeprefix("rbft_").removesuffix(f"_{kind_of(task)}")


def split_of(kind: str) -> str:
    """The split that a kind of task runs on."""
    return "train" if kind.startswith("rationale") else "test"


def class_metric(figure: str, label: str) -> str:
    """Name of a figure of a label in lmms-eval's table, where a comma would end a metric's name."""
    return f"{figure}_" + re.sub(r"\W+", "_", label).strip("_")


def entry(file: str) -> dict:
    """A LLaMA-Factory dataset of sharegpt rows with videos (keys that it does not know it ignores without a word)."""
    return {
        "file_name": file,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "videos": "videos"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    }


def write_entries(folder: Path, entries: dict[str, dict]) -> None:
    """Add or replace entries of `folder`/dataset_info.json; all others stay as they are.

    Only one process of a workspace does this at a time: entries that another one adds meanwhile would be lost.
    """
    with locked():
        files.write_text(folder / "dataset_info.json", _entries_text(folder / "dataset_info.json", entries))


@contextmanager
def locked() -> Iterator[None]:
    """Keeps other processes of the workspace from its registrations; may be entered again by the one that holds it."""
    Path("data").mkdir(exist_ok=True)
    with FileLock(Path("data") / ".registrations.lock", is_singleton=True):
        yield


def register(dataset: Dataset) -> None:
    """Write what both harnesses need to know of a dataset; works before its data is prepared."""
    with locked():
        for path, text in generated(dataset).items():
            files.write_text(path, text)


def generated(dataset: Dataset) -> dict[Path, str]:
    """The files that `register` writes, and what they should hold: dataset_info.json with the dataset's entries
    beside those that it has now, the task YAMLs, and the bases that these include where they are not there.

    Raises RbftError if dataset_info.json cannot be read.
    """
    info = Path("dataset_info/dataset_info.json")
    entries = {llamafactory_name(dataset.name, s): entry(f"../{dataset.folder.as_posix()}/{s}.jsonl") for s in STAGES}
    tasks = {Path("task_configs") / f"{task_name(dataset.name, kind)}.yaml": _task(dataset, kind) for kind in KINDS}
    bases = {Path("task_configs") / base for bases in BASES.values() for base in bases}
    missing = {base: (shipped() / base).read_text(encoding="utf-8") for base in bases if not base.exists()}
    return {info: _entries_text(info, entries)} | missing | tasks


def _entries_text(path: Path, entries: dict[str, dict]) -> str:
    known = {}
    if path.is_file():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise RbftError(f"{path}: not JSON (line {error.lineno}: {error.msg}); mend or remove it") from None
        if not isinstance(known, dict):
            raise RbftError(f"{path}: must be a JSON object of datasets; mend or remove it")
    return files.json_text(dict(sorted((known | entries).items())))


def _task(dataset: Dataset, kind: str) -> str:
    bases = BASES[kind]
    return (
        f"# Made by `rbft prepare {dataset.name}`: change {path_of(dataset.name).as_posix()}, not this.\n"
        f"include: {bases[0] if len(bases) == 1 else '[' + ', '.join(bases) + ']'}\n"
        f"task: {task_name(dataset.name, kind)}\n"
        "dataset_kwargs:\n"
        "  data_files:\n"
        f"    test: ../{dataset.folder.as_posix()}/{split_of(kind)}.jsonl\n"
    ) + ("" if kind.startswith("rationale") else _metrics(dataset, kind))


def _metrics(dataset: Dataset, kind: str) -> str:
    """The metric_list of a task that scores; each metric is a key of what its process_results returns."""
    of_answers = [("accuracy", "mean", "true"), ("no_answer", "mean", "false")]
    of_likelihoods = [
        *[("accuracy", "mean", "true"), ("accuracy_norm", "mean", "true")],
        *[(name, f"!function rbft_plugin.tasks.{name}", "true") for name in ("auroc", "average_precision")],
        *[(name, f"!function rbft_plugin.tasks.{name}", "false") for name in ("brier", "calibration_error")],
    ]
    of_both = ("balanced_accuracy", "macro_f1", "weighted_f1", "majority_accuracy")
    metrics = of_likelihoods if kind == "ll" else of_answers
    metrics += [(name, f"!function rbft_plugin.tasks.{name}", "true") for name in of_both]
    metrics += [
        (class_metric(figure, name), f"!function rbft_plugin.tasks.class_{figure}", _up(figure))
        for figure in (*OF_A_CLASS, "confusion")
        for name in dataset.label_names
    ]
    lines = [
        f"  - metric: {json.dumps(name, ensure_ascii=False)}\n    aggregation: {how}\n    higher_is_better: {up}\n"
        for name, how, up in metrics
    ]
    return "metric_list:\n" + "".join(lines)


def _up(figure: str) -> str:
    """Whether more of a figure of a class is better; counts are neither."""
    return "null" if figure in ("support", "confusion") else "true"
