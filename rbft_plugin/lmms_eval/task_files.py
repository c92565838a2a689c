"""The task YAMLs of a dataset, task_configs/rbft_<name>*.yaml, and the bases that they include."""

from __future__ import annotations

import json
from pathlib import Path

from rbft_plugin.data.prepared import DataFolder, splits_with_labels
from rbft_plugin.scoring.answers import RULES
from rbft_plugin.scoring.metrics import METRICS, Metric
from rbft_plugin.spec.dataset import Dataset, path_of
from rbft_plugin.spec.dataset_sources import Split
from rbft_plugin.spec.names import CLASS_METRICS, TASK_KINDS, TaskKind, class_metric, fold_name, rule_metric, task_name
from rbft_plugin.workspace import shipped

FOLDER = Path("task_configs")


def task_files(dataset: Dataset) -> dict[Path, str]:
    """{path: content} of a dataset's task YAMLs, and of the bases that the workspace lacks."""
    splits = splits_with_labels(dataset)
    tasks = {
        _path(dataset, kind, split): _task(dataset, kind)
        if split == of_kind.splits[0]
        else _of_split(dataset, kind, split)
        for kind, of_kind in TASK_KINDS.items()
        for split in of_kind.splits
        if split in splits
    }
    tasks |= {
        _path(dataset, kind, fold=fold): _of_split(dataset, kind, fold=fold)
        for kind, of_kind in TASK_KINDS.items()
        for fold in range(dataset.folds if of_kind.scores else 0)
    }
    bases = {FOLDER / base for kind in TASK_KINDS.values() for base in kind.bases}
    missing = {base: (shipped() / base).read_text(encoding="utf-8") for base in bases if not base.exists()}
    return missing | tasks


def unneeded_files(dataset: Dataset) -> list[Path]:
    """Task YAMLs that were made for a split that the dataset does not have any more. Files of other authors stay."""
    needed = task_files(dataset)
    paths = [_path(dataset, name, split) for name, kind in TASK_KINDS.items() for split in kind.splits]
    paths += [
        path for kind in TASK_KINDS for path in sorted(FOLDER.glob(f"{task_name(dataset.name, kind)}_fold*.yaml"))
    ]
    return [p for p in paths if p not in needed and p.is_file() and p.read_text("utf-8").startswith(_head(dataset))]


def _path(dataset: Dataset, kind: str, split: Split | None = None, fold: int | None = None) -> Path:
    return FOLDER / f"{task_name(dataset.name, kind, split, fold)}.yaml"


def _head(dataset: Dataset) -> str:
    return f"# Made by `rbft prepare {dataset.name}`: change {path_of(dataset.name).as_posix()}, not this.\n"


def _task(dataset: Dataset, name: str) -> str:
    kind = TASK_KINDS[name]
    return (
        f"{_head(dataset)}"
        f"include: {kind.bases[0] if len(kind.bases) == 1 else '[' + ', '.join(kind.bases) + ']'}\n"
        f"task: {task_name(dataset.name, name)}\n"
        f"{_data(dataset, kind.splits[0])}"
    ) + (_metric_list(dataset, kind) if kind.scores else "")


def _of_split(dataset: Dataset, kind: str, split: Split | None = None, fold: int | None = None) -> str:
    """The same task on another split or fold. It has no tag, so that tags stand for the same tasks as wildcards."""
    file = split or fold_name(fold or 0)
    return (
        f"{_head(dataset)}"
        f"include: {_path(dataset, kind, TASK_KINDS[kind].splits[0]).name}\n"
        f"task: {task_name(dataset.name, kind, split, fold)}\n"
        "tag: []\n"
        f"{_data(dataset, file)}"
        f"process_docs: {_function('labelled')}\n"
    )


def _data(dataset: Dataset, split: str) -> str:
    path = DataFolder(dataset.name).samples(split).as_posix()
    return f"dataset_kwargs:\n  data_files:\n    test: ../{path}\n"  # "test" is lmms-eval's word for the scored split


def _metric_list(dataset: Dataset, kind: TaskKind) -> str:
    """The metric_list of a task that scores. Each metric is a key of what the task's process_results returns."""
    likelihoods = kind.scores == "likelihoods"
    metrics = [_entry(name, metric) for name, metric in METRICS.items() if likelihoods or metric.of_counts]
    metrics += [("accuracy_norm", "mean", "true")] if likelihoods else []
    if not likelihoods:
        metrics.append(("accuracy_rule_1", "mean", "true"))
        metrics += [(rule_metric(rule), "mean", "true" if rule == 1 else "null") for rule in RULES]
    metrics.append(("majority_accuracy", _function("majority_accuracy"), "true"))
    for metric in (*CLASS_METRICS, "confusion"):
        better = "null" if metric in ("support", "confusion") else "true"  # more of a count is neither better nor worse
        for label in dataset.label_names:
            metrics.append((class_metric(metric, label), _function(f"class_{metric}"), better))
    return "metric_list:\n" + "".join(
        f"  - metric: {json.dumps(name, ensure_ascii=False)}\n"
        f"    aggregation: {aggregation}\n    higher_is_better: {better}\n"
        for name, aggregation, better in metrics
    )


def _entry(name: str, metric: Metric) -> tuple[str, str, str]:
    """A metric's name, aggregation and direction. lmms-eval gives a standard error only for its own mean of samples."""
    return name, "mean" if metric.share else _function(name), str(metric.higher_is_better).lower()


def _function(name: str) -> str:
    return f"!function rbft_plugin.lmms_eval.tasks.{name}"
