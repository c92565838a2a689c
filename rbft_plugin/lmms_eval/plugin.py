"""Entry point of group `lmms_eval.models`: the model `rbft_vl`, and our tasks without `--include_path`.

lmms-eval has no entry point for tasks. This one is called before its arguments are parsed and its tasks are indexed,
so it also puts right what the shell made of an unquoted rbft_*, and wraps `TaskManager.initialize_tasks`. That is a
private part of lmms-eval 0.7.3; a test fails when its signature changes. So is what `cache` wraps. Nothing here may
raise: lmms-eval would go on without the models of any plugin.
"""

from __future__ import annotations

import ast
import glob
import inspect
import sys
import textwrap
from collections.abc import Callable
from fnmatch import fnmatch
from functools import wraps
from pathlib import Path
from typing import Any

from rbft_plugin.lmms_eval import response_cache as cache
from rbft_plugin.spec.names import LABEL_BASE, TASK_KINDS, task_dataset, task_kind

PATTERN = "rbft_*"


def manifests() -> list[Any]:
    """What lmms-eval registers. Called once, at its import."""
    from lmms_eval.models.registry_v2 import ModelManifest

    try:
        sys.argv[:] = restored_pattern(sys.argv)
        _wrap_task_index()
        cache.install(_only_ours())
    except Exception as error:  # see above; without the wrapper, --include_path task_configs still works
        print(f"rbft: tasks are not registered ({type(error).__name__}: {error})", file=sys.stderr)
    return [ModelManifest("rbft_vl", simple_class_path="rbft_plugin.lmms_eval.rbft_vl.RbftVL")]


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
            _adopt(index, self.model_name)
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


def _adopt(index: dict, model: str | None) -> None:
    """Note the workspaces of our tasks, and take out those that would end the whole run, naming them if asked for.

    These are tasks whose data is not there, and those that score likelihoods where the model gives none.
    """
    from lmms_eval.utils import load_yaml_config
    from loguru import logger

    from rbft_plugin.data.prepared import read_jsonl
    from rbft_plugin.lmms_eval import tasks

    ours = [kind.tag for kind in TASK_KINDS.values()]
    tags = {name: entry for name, entry in index.items() if name in ours and entry["type"] == "tag"}
    left_out: dict[str, list[str]] = {}
    scores = None  # whether the model gives likelihoods; found out when it matters, since it imports the model
    for name, task in list(index.items()):
        if not (name.startswith("rbft_") and task["type"] == "task"):
            continue
        path = Path(task["yaml_path"]).absolute()
        if not (path.parent / LABEL_BASE).is_file():
            continue  # somebody else's task
        if path.parent.parent not in tasks.workspaces:
            tasks.workspaces.append(path.parent.parent)
        config = load_yaml_config(str(path), mode="simple")
        named = config.get("dataset_kwargs", {}).get("data_files", {}).get("test", "")
        data = path.parent / named  # a task that names no file is for its author to judge
        mine = [name, *(tag for tag, entry in tags.items() if name in entry["task"])]
        asked = not _asked() or any(fnmatch(one, pattern) for one in mine for pattern in _asked())
        why = None
        if not data.exists():
            why = f"{data.parent.resolve()} is not prepared (`rbft prepare {task_dataset(name)}`)"
        elif asked and TASK_KINDS[task_kind(name)].hinted:
            if not any(row.get("hinted_prompt") for row in read_jsonl(data)):
                why = f"{data.resolve()} has no hinted prompt, which samples with a label have"
        elif asked and config.get("output_type") == "multiple_choice":
            scores = gives_likelihoods(model) if scores is None else scores
            why = None if scores else f"--model {model} gives no likelihoods (rbft_vl does)"
        if why:
            del index[name]
            for entry in tags.values():
                entry["task"] = [one for one in entry["task"] if one != name]
            if asked:
                left_out.setdefault(why, []).append(name)
    for why, names in left_out.items():
        logger.warning(f"rbft: left out, since {why}: {', '.join(sorted(names))}")
    for tag, entry in tags.items():  # a tag that a wildcard matches would load its tasks a second time
        if not entry["task"] or (tag not in _asked() and any(fnmatch(tag, pattern) for pattern in _asked())):
            del index[tag]


def gives_likelihoods(model: str | None) -> bool:
    """Whether an lmms-eval model has a `loglikelihood` that does more than raise; chat models' are never called.

    True also for what lmms-eval cannot import: it says so itself.
    """
    from lmms_eval.models import MODEL_REGISTRY_V2

    if model is None:  # lmms-eval used from Python, with a model object
        return True
    simple = "--force_simple" in sys.argv
    try:
        if MODEL_REGISTRY_V2.resolve(model, force_simple=simple).model_type == "chat":
            return False
        source = inspect.getsource(MODEL_REGISTRY_V2.get_model_class(model, force_simple=simple).loglikelihood)
    except Exception:  # whatever importing somebody else's model may raise
        return True
    function: Any = ast.parse(textwrap.dedent(source)).body[0]
    body = function.body[ast.get_docstring(function) is not None :]
    return bool(body) and not isinstance(body[0], ast.Raise | ast.Assert)
