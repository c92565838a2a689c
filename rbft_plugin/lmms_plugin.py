"""Entry point of group `lmms_eval.models`: the model `rbft_vl`, and our tasks without `--include_path`.

lmms-eval has no entry point for tasks. This one is called before its arguments are parsed and its tasks are indexed,
so it also puts right what the shell made of an unquoted rbft_*, and wraps `TaskManager.initialize_tasks`. That is a
private part of lmms-eval 0.7.3; a test fails when its signature changes. Nothing here may raise: lmms-eval would go
on without the models of any plugin.
"""

from __future__ import annotations

import glob
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from functools import wraps
from pathlib import Path
from typing import Any

from rbft_plugin.registry import LABEL_BASE

PATTERN = "rbft_*"


def manifests() -> list[Any]:
    """What lmms-eval registers. Called once, at its import."""
    from lmms_eval.models.registry_v2 import ModelManifest

    try:
        sys.argv[:] = restored_pattern(sys.argv)
        _wrap_task_index()
    except Exception as error:  # see above; without the wrapper, --include_path task_configs still works
        print(f"rbft: tasks are not registered ({type(error).__name__}: {error})", file=sys.stderr)
    return [ModelManifest("rbft_vl", simple_class_path="rbft_plugin.model.RbftVL")]


def restored_pattern(argv: list[str]) -> list[str]:
    """`--tasks` with the pattern that was typed, where the shell put the files in its place that it matches here.

    In a checkout of rbft, an unquoted rbft_* becomes rbft_plugin, which lmms-eval would take for a folder of tasks:
    it runs none and exits 0. The same would happen to a task's name where an output folder has that name.
    """
    matches = set(glob.glob(PATTERN))
    if "--tasks" not in argv or not matches:
        return argv
    start = argv.index("--tasks") + 1
    end = start
    while end < len(argv) and argv[end] in matches:
        end += 1
    if end == start + 1 and (Path("task_configs") / f"{argv[start]}.yaml").is_file():
        # One task's own name, beside a file or folder that is named so: said twice, it is no path.
        return [*argv[:start], f"{argv[start]},{argv[start]}", *argv[end:]]
    return [*argv[:start], PATTERN, *argv[end:]] if set(argv[start:end]) == matches else argv


def _wrap_task_index() -> None:
    from lmms_eval.tasks import TaskManager

    original: Callable[..., dict] = TaskManager.initialize_tasks

    @wraps(original)
    def initialize_tasks(self: Any, include_path: Any = None, include_defaults: bool = True) -> dict:
        paths = [include_path] if isinstance(include_path, str) else list(include_path or [])
        if (Path("task_configs") / LABEL_BASE).is_file():
            paths.append("task_configs")
        index = original(self, include_path=paths or None, include_defaults=include_defaults and not _only_ours())
        try:
            _adopt(index)
        except Exception as error:  # the run itself may well succeed without the check
            print(f"rbft: tasks are not checked ({type(error).__name__}: {error})", file=sys.stderr)
        return index

    TaskManager.initialize_tasks = initialize_tasks


def _asked() -> list[str]:
    """The names and patterns of --tasks; [] where there are none (lmms-eval used from Python, or with --config)."""
    given = [value for option, value in zip(sys.argv, sys.argv[1:], strict=False) if option == "--tasks"]
    given += [a.removeprefix("--tasks=") for a in sys.argv if a.startswith("--tasks=")]
    return given[-1].split(",") if given else []


def _only_ours() -> bool:
    """Whether every task asked for is one of ours: then lmms-eval need not index its own, which takes 6 s."""
    return bool(_asked()) and all(name.startswith("rbft_") for name in _asked())


def _adopt(index: dict) -> None:
    """Note the workspaces of our tasks, and take out those whose data is not there, which would end the whole run."""
    from lmms_eval.utils import load_yaml_config
    from loguru import logger

    from rbft_plugin import tasks

    for name, task in list(index.items()):
        if not (name.startswith("rbft_") and task["type"] == "task"):
            continue
        path = Path(task["yaml_path"]).absolute()
        if not (path.parent / LABEL_BASE).is_file():
            continue  # somebody else's task
        if path.parent.parent not in tasks.workspaces:
            tasks.workspaces.append(path.parent.parent)
        files = load_yaml_config(str(path), mode="simple").get("dataset_kwargs", {}).get("data_files", {})
        data = path.parent / files.get("test", "")  # a task that names no file is for its author to judge
        if not data.exists():
            del index[name]
            if any(fnmatch(name, pattern) for pattern in _asked() or [name]):
                logger.warning(f"rbft: {name} is left out: {data.resolve()} is missing; run `rbft prepare` first")
