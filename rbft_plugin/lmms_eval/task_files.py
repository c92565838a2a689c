"""The task YAMLs of a dataset, task_configs/rbft_<name>*.yaml, and the bases that they include."""

from __future__ import annotations

import json
from pathlib import Path

from rbft_plugin.data.prepared import DataFolder
from rbft_plugin.scoring.metrics import METRICS, Metric
from rbft_plugin.spec.dataset import Dataset, path_of
from rbft_plugin.spec.names import CLASS_METRICS, TASK_KINDS, TaskKind, class_metric, task_name
from rbft_plugin.workspace import shipped

FOLDER = Path("task_configs")


def task_files(dataset: Dataset) -> dict[Path, str]:
    """{path: content} of a dataset's task YAMLs, and of the bases that the workspace lacks."""
    tasks = {FOLDER / f"{task_name(dataset.name, kind)}.yaml": _task(dataset, kind) for kind in TASK_KINDS}
    bases = {FOLDER / base for kind in TASK_KINDS.values() for base in kind.bases}
    missing = {base: (shipped() / base).read_text(encoding="utf-8") for base in bases if not base.exists()}
    return missing | tasks


def _task(dataset: Dataset, name: str) -> str:
    kind = TASK_KINDS[name]
    return (
        f"# Made by `rbft prepare {dataset.name}`: change {path_of(dataset.name).as_posix()}, not this.\n"
        f"include: {kind.bases[0] if len(kind.bases) == 1 else '[' + ', '.join(kind.bases) + ']'}\n"
        f"task: {task_name(dataset.name, name)}\n"
        "dataset_kwargs:\n"
        "  data_files:\n"
        f"    test: ../{DataFolder(dataset.name).samples(kind.split).as_posix()}\n"
    ) + (_metric_list(dataset, kind) if kind.scores else "")


def _metric_list(dataset: Dataset, kind: TaskKind) -> str:
    """The metric_list of a task that scores. Each metric is a key of what the task's process_results returns."""
    likelihoods = kind.scores == "likelihoods"
    metrics = [_entry(name, metric) for name, metric in METRICS.items() if likelihoods or metric.of_counts]
    metrics += [("accuracy_norm", "mean", "true")] if likelihoods else []
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
