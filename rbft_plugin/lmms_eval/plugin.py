"""The entry point of the group `lmms_eval.models`: it gives lmms-eval the model `rbft_vl`, and also our tasks.

lmms-eval has no entry point for tasks. But it calls this one before it parses its arguments and indexes its tasks. So
this one can restore an unquoted rbft_* that the shell has expanded, and can wrap `TaskManager.initialize_tasks`. That
method is a private part of lmms-eval 0.7.3, as are those that `response_cache` and `scorings` wrap; tests fail when
their signatures change. Nothing here may raise an exception, since lmms-eval would then go on without the models of any
plugin.
"""

from __future__ import annotations

import ast
import glob
import inspect
import os
import sys
import textwrap
from collections.abc import Callable
from fnmatch import fnmatch
from functools import cache, wraps
from pathlib import Path
from typing import Any

from rbft_plugin.lmms_eval import response_cache, scorings
from rbft_plugin.spec.names import LABEL_BASE, TASK_KINDS, parse_task, task_name

PATTERN = "rbft_*"


def manifests() -> list[Any]:
    """The models that lmms-eval registers. It calls this once, when it is imported."""
    from lmms_eval.models.registry_v2 import ModelManifest

    try:
        sys.argv[:] = restored_pattern(sys.argv)
        _wrap_task_index()
        response_cache.install(_only_ours())
    except Exception as error:  # see above; --include_path task_configs still works
        print(f"rbft: tasks are not registered ({type(error).__name__}: {error})", file=sys.stderr)
    try:
        scorings.install()
    except Exception as error:
        print(f"rbft: scorings of a test split are not counted ({type(error).__name__}: {error})", file=sys.stderr)
    return [ModelManifest("rbft_vl", simple_class_path="rbft_plugin.lmms_eval.rbft_vl.RbftVL")]


def restored_pattern(argv: list[str]) -> list[str]:
    """The arguments with `--tasks rbft_*` as it was typed, if the shell has replaced the pattern with names of files.

    In a checkout of rbft, an unquoted rbft_* becomes rbft_plugin. lmms-eval takes that for a folder of tasks, runs none
    and exits 0. It does the same with the name of a task if a folder has that name.
    """
    matches = set(glob.glob(PATTERN))
    if "--tasks" not in argv or not matches:
        return argv
    start = argv.index("--tasks") + 1
    end = start
    while end < len(argv) and argv[end] in matches:
        end += 1
    if end == start + 1 and (Path("task_configs") / f"{argv[start]}.yaml").is_file():
        # The name of one task, and of a file or folder here. Given twice, lmms-eval does not take it for a path.
        return [*argv[:start], f"{argv[start]},{argv[start]}", *argv[end:]]
    return [*argv[:start], PATTERN, *argv[end:]] if set(argv[start:end]) == matches else argv


def _wrap_task_index() -> None:
    from lmms_eval.tasks import TaskManager

    original: Callable[..., dict[str, Any]] = TaskManager.initialize_tasks

    @wraps(original)
    def initialize_tasks(self: Any, include_path: Any = None, include_defaults: bool = True) -> dict[str, Any]:
        paths = [include_path] if isinstance(include_path, str) else list(include_path or [])
        if (Path("task_configs") / LABEL_BASE).is_file():
            paths.append("task_configs")
        index = original(self, include_path=paths or None, include_defaults=include_defaults and not _only_ours())
        try:
            _adopt(index, self.model_name)
        except Exception as error:  # the evaluation may well succeed without the check
            print(f"rbft: tasks are not checked ({type(error).__name__}: {error})", file=sys.stderr)
        return index

    TaskManager.initialize_tasks = initialize_tasks


def _asked() -> list[str]:
    """The names and patterns of --tasks; [] if there are none, as with --config, or when Python calls lmms-eval."""
    given = [value for option, value in zip(sys.argv, sys.argv[1:], strict=False) if option == "--tasks"]
    given += [a.removeprefix("--tasks=") for a in sys.argv if a.startswith("--tasks=")]
    return given[-1].split(",") if given else []


def _is_asked(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in _asked())


def _matches_by_chance(name: str) -> bool:
    """Whether a task of one fold, or of another split than its kind's first, is only matched by patterns that do not
    name the fold or split. A pattern that also matches the task without that ending does not: rbft_training*.
    """
    of = parse_task(name)
    whole = task_name(of.dataset, of.kind)
    if name == whole or not _is_asked(name):
        return False
    ending = of.split if of.fold is None else "fold"
    matching = [pattern for pattern in _asked() if fnmatch(name, pattern) and not fnmatch(whole, pattern)]
    return not any(ending in pattern.rsplit("_", 1)[-1] for pattern in matching)


def _only_ours() -> bool:
    """Whether every task of --tasks is ours. Then lmms-eval need not index its own tasks, which takes 6 s."""
    return bool(_asked()) and all(name.startswith("rbft_") for name in _asked())


def _adopt(index: dict[str, Any], model: str | None) -> None:
    """Note the workspaces of our tasks, and take those tasks out of the index that would end the whole evaluation.

    Tasks that are taken out although they were asked for are named in a warning.
    """
    from loguru import logger

    from rbft_plugin.lmms_eval import tasks

    our_tags = {kind.tag for kind in TASK_KINDS.values()}
    tags = {name: entry for name, entry in index.items() if name in our_tags and entry["type"] == "tag"}
    left_out: dict[str, list[str]] = {}
    for name, entry in list(index.items()):
        if not (name.startswith("rbft_") and entry["type"] == "task"):
            continue
        path = Path(entry["yaml_path"]).absolute()
        if not (path.parent / LABEL_BASE).is_file():
            continue  # somebody else's task
        if path.parent.parent not in tasks.workspaces:
            tasks.workspaces.append(path.parent.parent)
        if _matches_by_chance(name):
            del index[name]
            continue
        names = [name, *(tag for tag, tagged in tags.items() if name in tagged["task"])]
        asked = not _asked() or any(map(_is_asked, names))
        if reason := _unusable(name, path, model, asked):
            del index[name]
            for tagged in tags.values():
                tagged["task"] = [one for one in tagged["task"] if one != name]
            if asked:
                left_out.setdefault(reason, []).append(name)
    for reason, names in left_out.items():
        logger.warning(f"rbft: left out, since {reason}: {', '.join(sorted(names))}")
    for tag, tagged in tags.items():  # a tag that a wildcard matches would load its tasks a second time
        if not tagged["task"] or (tag not in _asked() and _is_asked(tag)):
            del index[tag]


def _unusable(task: str, path: Path, model: str | None, asked: bool) -> str | None:
    """Why a task would end the whole evaluation, or None. What takes longer is only looked at if it is asked for."""
    from lmms_eval.utils import load_yaml_config

    from rbft_plugin.data.prepared import read_jsonl
    from rbft_plugin.errors import RbftError
    from rbft_plugin.lmms_eval.evaluation import SAMPLES, chosen_samples

    config = load_yaml_config(str(path), mode="simple")
    # The author of a task that names no file has to see to its data: then this is a folder, which exists.
    data = path.parent / config.get("dataset_kwargs", {}).get("data_files", {}).get("test", "")
    if not data.exists():
        return f"{data.parent.resolve()} is not prepared (`rbft prepare {parse_task(task).dataset}`)"
    if not asked:
        return None
    kind = TASK_KINDS[parse_task(task).kind]
    if kind.scores and data.is_file() and not any(row.get("label") for row in read_jsonl(data)):
        return f"{data.resolve()} has no sample with a label"
    if file := os.environ.get(SAMPLES):
        if parse_task(task).split == kind.splits[0]:
            return f"{SAMPLES} is set, which only tasks that end in a split take"
        try:
            chosen_samples((row["id"] for row in read_jsonl(data) if row.get("label")), Path(file))
        except RbftError as error:
            return str(error)
    if kind.hinted and not any(row.get("hinted_prompt") for row in read_jsonl(data)):
        return f"{data.resolve()} has no hinted prompt, which samples with a label have"
    if config.get("output_type") == "multiple_choice" and not _gives_likelihoods(model, "--force_simple" in sys.argv):
        return f"--model {model} gives no likelihoods (rbft_vl does)"
    return None


@cache
def _gives_likelihoods(model: str | None, simple: bool) -> bool:
    """Whether an lmms-eval model has a `loglikelihood` that does more than raise; that of a chat model is never called.

    It is True for a model that lmms-eval cannot import, since lmms-eval then says so itself.
    """
    from lmms_eval.models import MODEL_REGISTRY_V2

    if model is None:  # Python has called lmms-eval with a model object
        return True
    try:
        if MODEL_REGISTRY_V2.resolve(model, force_simple=simple).model_type == "chat":
            return False
        source = inspect.getsource(MODEL_REGISTRY_V2.get_model_class(model, force_simple=simple).loglikelihood)
    except Exception:  # importing somebody else's model may raise anything
        return True
    function: Any = ast.parse(textwrap.dedent(source)).body[0]
    body = function.body[ast.get_docstring(function) is not None :]
    return bool(body) and not isinstance(body[0], ast.Raise | ast.Assert)
