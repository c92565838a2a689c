"""Registers datasets with both harnesses: dataset_info/dataset_info.json and task_configs/rbft_<name>*.yaml.

All paths in them are relative, so they can be committed and a workspace can be moved.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from rbft_plugin import files
from rbft_plugin.dataset import Dataset, path_of
from rbft_plugin.errors import RbftError

STAGES = ("rationale", "label")  # each has a file of rows, and a dataset of that name in LLaMA-Factory
LABEL_BASE, RATIONALE_BASE = "_rbft_label_base.yaml", "_rbft_rationale_base.yaml"


def llamafactory_name(dataset: str, stage: str) -> str:
    return f"{dataset}_{stage}"


def task_name(dataset: str, stage: str) -> str:
    """lmms-eval's task: rbft_<name> scores labels, rbft_<name>_rationale writes rationales."""
    return f"rbft_{dataset}" if stage == "label" else f"rbft_{dataset}_{stage}"


def dataset_of(task: str) -> str:
    """The dataset of a task, the inverse of `task_name`; no dataset's own name ends in a stage."""
    return task.removeprefix("rbft_").removesuffix("_rationale")


def f1_metric(label: str) -> str:
    """Name of a label's F1 in lmms-eval's table, where a comma would end a metric's name."""
    return "f1_" + re.sub(r"\W+", "_", label).strip("_")


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
    beside those that it has now, and the task YAMLs. Raises RbftError if dataset_info.json cannot be read.
    """
    info = Path("dataset_info/dataset_info.json")
    entries = {llamafactory_name(dataset.name, s): entry(f"../{dataset.folder.as_posix()}/{s}.jsonl") for s in STAGES}
    texts = {"label": _label_task(dataset), "rationale": _rationale_task(dataset)}
    tasks = {Path("task_configs") / f"{task_name(dataset.name, kind)}.yaml": text for kind, text in texts.items()}
    return {info: _entries_text(info, entries)} | tasks


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


def _label_task(dataset: Dataset) -> str:
    metrics = [("accuracy", "mean", "true"), ("macro_f1", "!function rbft_plugin.tasks.macro_f1", "true")]
    metrics += [("no_answer", "mean", "false")]
    metrics += [(f1_metric(n), "!function rbft_plugin.tasks.class_f1", "true") for n in dataset.label_names]
    lines = [
        f"  - metric: {json.dumps(name, ensure_ascii=False)}\n    aggregation: {how}\n    higher_is_better: {up}"
        for name, how, up in metrics
    ]
    return _task(dataset, "label", LABEL_BASE, "test") + "metric_list:\n" + "\n".join(lines) + "\n"


def _rationale_task(dataset: Dataset) -> str:
    return _task(dataset, "rationale", RATIONALE_BASE, "train")


def _task(dataset: Dataset, stage: str, base: str, split: str) -> str:
    return (
        f"# Made by `rbft prepare {dataset.name}`: change {path_of(dataset.name).as_posix()}, not this.\n"
        f"include: {base}\n"
        f"task: {task_name(dataset.name, stage)}\n"
        "dataset_kwargs:\n"
        "  data_files:\n"
        f"    test: ../{dataset.folder.as_posix()}/{split}.jsonl\n"
    )
