"""The task YAMLs of a dataset, task_configs/rbft_<name>*.yaml, and the bases that they include."""

from __future__ import annotations

import json
from pathlib import Path

from rbft_plugin.spec.dataset import Dataset, path_of
from rbft_plugin.spec.names import BASES, KINDS, OF_A_CLASS, class_metric, task_name, task_split
from rbft_plugin.workspace import shipped


def task_files(dataset: Dataset) -> dict[Path, str]:
    """The task YAMLs, and the bases that they include where these are not there, and what they should hold."""
    tasks = {Path("task_configs") / f"{task_name(dataset.name, kind)}.yaml": _task(dataset, kind) for kind in KINDS}
    bases = {Path("task_configs") / base for bases in BASES.values() for base in bases}
    missing = {base: (shipped() / base).read_text(encoding="utf-8") for base in bases if not base.exists()}
    return missing | tasks


def _task(dataset: Dataset, kind: str) -> str:
    bases = BASES[kind]
    return (
        f"# Made by `rbft prepare {dataset.name}`: change {path_of(dataset.name).as_posix()}, not this.\n"
        f"include: {bases[0] if len(bases) == 1 else '[' + ', '.join(bases) + ']'}\n"
        f"task: {task_name(dataset.name, kind)}\n"
        "dataset_kwargs:\n"
        "  data_files:\n"
        f"    test: ../{dataset.folder.as_posix()}/{task_split(kind)}.jsonl\n"
    ) + ("" if kind.startswith("rationale") else _metrics(dataset, kind))


def _metrics(dataset: Dataset, kind: str) -> str:
    """The metric_list of a task that scores; each metric is a key of what its process_results returns."""
    of_answers = [("accuracy", "mean", "true"), ("no_answer", "mean", "false")]
    of_likelihoods = [
        *[("accuracy", "mean", "true"), ("accuracy_norm", "mean", "true")],
        *[(name, f"!function rbft_plugin.lmms_eval.tasks.{name}", "true") for name in ("auroc", "average_precision")],
        *[(name, f"!function rbft_plugin.lmms_eval.tasks.{name}", "false") for name in ("brier", "calibration_error")],
    ]
    of_both = ("balanced_accuracy", "macro_f1", "weighted_f1", "majority_accuracy")
    metrics = of_likelihoods if kind == "ll" else of_answers
    metrics += [(name, f"!function rbft_plugin.lmms_eval.tasks.{name}", "true") for name in of_both]
    metrics += [
        (class_metric(figure, name), f"!function rbft_plugin.lmms_eval.tasks.class_{figure}", _up(figure))
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
