"""What lmms-eval makes of our entry point: real shells, and its real TaskManager (imported once for this module)."""

from __future__ import annotations

import inspect
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import QUIET, prepare, read_jsonl, small_dataset, small_yaml, write_yaml

from rbft_plugin.cli.registrations import register
from rbft_plugin.lmms_eval import evaluation, plugin, tasks
from rbft_plugin.spec.dataset import load
from rbft_plugin.spec.names import TASK_KINDS, task_name

pytestmark = pytest.mark.torch

SHOW = (
    "import json, sys; from rbft_plugin.lmms_eval.plugin import restored_pattern as r; "
    "print(json.dumps(r(sys.argv)[1:]))"
)


def typed(options: str, folder: Path, *names: str) -> list[str]:
    """The arguments after our repair, where a shell in `folder`, which holds `names`, was given `options`."""
    for name in names:
        (folder / name).mkdir(exist_ok=True)
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(SHOW)} {options}"
    done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("options", "names", "expected"),
    [
        ("--tasks rbft_*", ["rbft_plugin"], ["--tasks", "rbft_*"]),
        ("--tasks rbft_*", ["rbft_plugin", "rbft_a", "rbft_b"], ["--tasks", "rbft_*"]),
        ("--tasks rbft_* --limit 2", ["rbft_plugin", "rbft_a"], ["--tasks", "rbft_*", "--limit", "2"]),
        ("--model rbft_vl --tasks rbft_*", ["rbft_plugin"], ["--model", "rbft_vl", "--tasks", "rbft_*"]),
        ("--tasks 'rbft_*'", ["rbft_plugin"], ["--tasks", "rbft_*"]),
        ("--tasks rbft_*", [], ["--tasks", "rbft_*"]),
        ("--tasks=rbft_*", ["rbft_plugin"], ["--tasks=rbft_*"]),
        ("--tasks rbft_demo", ["rbft_plugin"], ["--tasks", "rbft_demo"]),
        ("--tasks rbft_plugin", ["rbft_plugin", "rbft_a"], ["--tasks", "rbft_plugin"]),
        ("--tasks mmmu,rbft_*", ["rbft_plugin"], ["--tasks", "mmmu,rbft_*"]),
        ("--output_path rbft_*", ["rbft_plugin"], ["--output_path", "rbft_plugin"]),
        ("--tasks", ["rbft_plugin"], ["--tasks"]),
        ("", ["rbft_plugin"], []),
    ],
)
def test_a_pattern_that_the_shell_expanded_is_restored_and_all_else_kept(
    tmp_path: Path, options: str, names: list[str], expected: list[str]
) -> None:
    assert typed(options, tmp_path, *names) == expected


def test_the_name_of_a_task_stays_one_where_a_folder_is_named_so(tmp_path: Path) -> None:
    (tmp_path / "task_configs").mkdir()
    (tmp_path / "task_configs/rbft_demo.yaml").touch()
    assert typed("--tasks rbft_demo --limit 2", tmp_path, "rbft_demo") == [
        *("--tasks", "rbft_demo,rbft_demo", "--limit", "2")
    ]
    assert typed("--tasks rbft_demo", tmp_path, "rbft_demo", "rbft_out") == ["--tasks", "rbft_demo,rbft_demo"]
    assert typed("--tasks rbft_*", tmp_path, "rbft_demo", "rbft_out") == ["--tasks", "rbft_*"]


def test_the_shell_does_expand_the_pattern_in_such_a_folder(tmp_path: Path) -> None:
    for name in ("rbft_plugin", "rbft_other"):
        (tmp_path / name).mkdir()
    done = subprocess.run(["bash", "-c", "echo rbft_*"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "rbft_other rbft_plugin\n"


@pytest.mark.parametrize(
    ("argv", "names", "ours"),
    [
        (["--tasks", "rbft_*"], ["rbft_*"], True),
        (["--tasks=rbft_a,rbft_b"], ["rbft_a", "rbft_b"], True),
        (["--tasks", "rbft_a,mme"], ["rbft_a", "mme"], False),
        (["--tasks", "list"], ["list"], False),
        (["--tasks", "mme", "--tasks", "rbft_a"], ["rbft_a"], True),
        (["--tasks"], [], False),
        (["--model", "x"], [], False),
    ],
)
def test_tasks_asked_for_are_read_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], names: list[str], ours: bool
) -> None:
    monkeypatch.setattr(sys, "argv", ["lmms-eval", *argv])
    assert plugin._asked() == names
    assert plugin._only_ours() is ours


@pytest.fixture(scope="module")
def manager_class() -> Any:
    import lmms_eval.models  # as its command line does first: this loads the plugins
    from lmms_eval.tasks import TaskManager

    assert lmms_eval.models
    return TaskManager


Found = tuple[Any, list[str]]


@pytest.fixture
def index(manager_class: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Found]]:
    """Call it with a command line: a TaskManager as lmms-eval makes it, and our messages in its log."""
    from loguru import logger

    messages: list[str] = []
    sink = logger.add(lambda m: messages.append(m.record["message"]), level="WARNING")
    monkeypatch.setattr(tasks, "workspaces", [Path()])

    def make(*argv: str, **options: Any) -> Found:
        monkeypatch.setattr(sys, "argv", ["lmms-eval", *argv])
        manager = manager_class("INFO", **options)
        return manager, [m for m in messages if m.startswith("rbft: ")]

    yield make
    logger.remove(sink)


def test_the_function_that_we_wrap_has_the_signature_that_we_wrap(manager_class: Any) -> None:
    wrapper = manager_class.initialize_tasks
    assert wrapper.__module__ == "lmms_eval.tasks" and wrapper.__code__.co_filename == plugin.__file__
    theirs = inspect.signature(wrapper.__wrapped__).parameters.values()
    ours = inspect.signature(wrapper, follow_wrapped=False).parameters.values()
    expected = [("self", inspect.Parameter.empty), ("include_path", None), ("include_defaults", True)]
    assert [(p.name, p.default) for p in theirs] == expected
    assert [(p.name, p.default, p.kind) for p in ours] == [(p.name, p.default, p.kind) for p in theirs]


def test_lmms_eval_knows_our_model(manager_class: Any) -> None:
    from lmms_eval.models import get_model

    assert get_model("rbft_vl").__module__ == "rbft_plugin.lmms_eval.rbft_vl"


@pytest.fixture
def workspace(ws: Path) -> Path:
    """The current folder: `mine` is prepared; `other` and the shipped datasets are only registered."""
    small_dataset("mine", {"train": 2, "val": 0, "test": 2})
    prepare(load("mine"), QUIET)
    write_yaml(small_yaml("other"))
    register(load("other"))
    return ws


MINE = ["rbft_mine", "rbft_mine_ll", "rbft_mine_novideo", "rbft_mine_rationale", "rbft_mine_rationale_hinted"]
OTHER_SPLITS = ["rbft_mine_ll_train", "rbft_mine_novideo_train", "rbft_mine_train"]  # of `mine`, which has no val
TAGGED = {"rbft_labels", "rbft_likelihoods", "rbft_novideos", "rbft_rationales", "rbft_rationales_hinted"}


def test_prepared_tasks_alone_are_offered_and_the_others_named(workspace: Path, index: Callable[..., Found]) -> None:
    manager, messages = index("--tasks", "rbft_*")
    assert (
        manager.all_tasks == MINE
    )  # no tags, which would load tasks twice, and none of lmms-eval's own, which it takes long to index
    shipped = ("demo", "multihateclip_en", "multihateclip_zh", "smarthome", "smarthome_binary")
    assert sorted(messages) == sorted(
        f"rbft: left out, since {workspace}/data/{name} is not prepared (`rbft prepare {name}`): "
        + ", ".join(task_name(name, kind) for kind in TASK_KINDS)
        for name in (*shipped, "other")
    )


@pytest.mark.parametrize("argv", [["--tasks", "rbft_mine,rbft_other"], ["--tasks=rbft_mine,rbft_other"]])
def test_only_tasks_that_were_asked_for_are_warned_of(
    workspace: Path, index: Callable[..., Found], argv: list[str]
) -> None:
    manager, messages = index(*argv)
    assert manager.all_subtasks == sorted(MINE + OTHER_SPLITS)
    assert messages == [
        f"rbft: left out, since {workspace}/data/other is not prepared (`rbft prepare other`): rbft_other"
    ]


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ("rbft_*_train", OTHER_SPLITS),
        ("rbft_mine_*train*", OTHER_SPLITS),
        ("rbft_mine_ll*,rbft_mine_train", ["rbft_mine_ll", "rbft_mine_train"]),
        ("rbft_mine_*", MINE[1:]),
        ("rbft_labels", MINE[:1]),
        ("rbft_mine_val", []),
    ],
)
def test_patterns_and_tags_take_other_splits_only_where_they_name_them(
    workspace: Path, index: Callable[..., Found], asked: str, taken: list[str]
) -> None:
    manager, _ = index("--tasks", asked)
    names = manager.match_tasks(asked.split(","))
    assert sorted(manager.load_task_or_group(names) if names else []) == taken


@pytest.mark.parametrize(
    ("asked", "dataset", "ending", "by_chance"),
    [
        ("rbft_mine*", "mine", {"fold": 0}, True),
        ("rbft_mine_*", "mine", {"fold": 0}, True),
        ("rbft_mine_fold*", "mine", {"fold": 0}, False),
        ("rbft_*_fold1", "mine", {"fold": 1}, False),
        ("rbft_manifold*", "manifold", {"fold": 0}, True),
        ("rbft_training*", "training", {"split": "train"}, True),
        ("rbft_valley*", "valley", {"split": "val"}, True),
        ("rbft_valley_val", "valley", {"split": "val"}, False),
    ],
)
def test_a_pattern_names_a_fold_or_split_only_behind_the_name_of_the_dataset(
    monkeypatch: pytest.MonkeyPatch, asked: str, dataset: str, ending: dict[str, Any], by_chance: bool
) -> None:
    monkeypatch.setattr("sys.argv", ["lmms-eval", "--tasks", asked])
    assert plugin._matches_by_chance(task_name(dataset, "label", **ending)) == by_chance


def test_a_task_of_the_training_split_takes_its_labelled_samples_alone(
    workspace: Path, index: Callable[..., Found]
) -> None:
    train = Path("data/mine/train.jsonl")
    rows = read_jsonl(train)
    train.write_text("".join(json.dumps(row) + "\n" for row in [rows[0] | {"label": None}, rows[1]]))
    manager, _ = index("--tasks", "rbft_mine_train")
    task = manager.load_task_or_group("rbft_mine_train")["rbft_mine_train"]
    assert [doc["id"] for doc in task.test_docs()] == [rows[1]["id"]]
    train.write_text(json.dumps(rows[0] | {"label": None}) + "\n")
    manager, messages = index("--tasks", "rbft_mine_train")
    assert messages == [f"rbft: left out, since {train.resolve()} has no sample with a label: rbft_mine_train"]


def test_a_file_names_the_samples_of_a_task_of_another_split(
    workspace: Path, index: Callable[..., Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Path("rows.jsonl")
    monkeypatch.setenv("RBFT_SAMPLES", str(rows))
    rows.write_text('{"id": "train1"}\n{"id": "train0"}\n{"id": "train1"}\n')
    manager, messages = index("--tasks", "rbft_mine_train")
    task = manager.load_task_or_group("rbft_mine_train")["rbft_mine_train"]
    order = evaluation.chosen_samples(["train0", "train1"], rows)
    assert ([doc["id"] for doc in task.test_docs()], messages) == (order, [])
    rows.write_text('{"id": "train1"}\n')
    task = manager.load_task_or_group("rbft_mine_train")["rbft_mine_train"]
    assert [doc["id"] for doc in task.test_docs()] == ["train1"]
    rows.write_text('{"id": "test0"}\n')
    none = "RBFT_SAMPLES: rows.jsonl: it names none of the 2 labelled samples of the split"
    assert index("--tasks", "rbft_mine_train")[1] == [f"rbft: left out, since {none}: rbft_mine_train"]
    ours = "RBFT_SAMPLES is set, which only tasks that end in a split take"
    assert index("--tasks", "rbft_mine")[1][1:] == [f"rbft: left out, since {ours}: rbft_mine"]


def test_a_tag_stands_for_all_prepared_tasks_of_a_kind(workspace: Path, index: Callable[..., Found]) -> None:
    manager, messages = index("--tasks", "rbft_novideos")
    assert set(manager.all_tags) == TAGGED
    assert list(manager.load_task_or_group(manager.match_tasks(["rbft_novideos"]))) == ["rbft_mine_novideo"]
    (left_out,) = [m for m in messages if "data/other " in m]
    assert left_out.endswith(": rbft_other_novideo")


NONE_GIVEN = "gives no likelihoods (rbft_vl does): rbft_mine_ll"


@pytest.mark.parametrize(
    ("model", "options", "scores"),
    [
        ("rbft_vl", [], True),
        (None, [], True),
        ("openai", [], False),  # a chat model
        ("openai_compatible", [], False),
        ("openai", ["--force_simple"], False),  # its loglikelihood raises
        ("batch_gpt4", [], False),  # its loglikelihood says assert False
        ("dummy", [], True),
        ("no_such_model", [], True),  # lmms-eval says so itself
    ],
)
def test_likelihoods_are_left_out_where_the_model_gives_none(
    workspace: Path, index: Callable[..., Found], model: str | None, options: list[str], scores: bool
) -> None:
    manager, messages = index("--tasks", "rbft_mine*", *options, model_name=model)
    assert manager.all_subtasks == (MINE if scores else [name for name in MINE if not name.endswith("_ll")])
    assert messages == ([] if scores else [f"rbft: left out, since --model {model} {NONE_GIVEN}"])


def test_a_task_that_was_asked_for_by_name_and_left_out_is_not_found(
    workspace: Path, index: Callable[..., Found]
) -> None:
    """lmms-eval then says "Tasks not found" and runs none."""
    for asked in ("rbft_mine_ll", "rbft_likelihoods"):
        manager, messages = index("--tasks", f"rbft_mine,{asked}", model_name="openai")
        assert manager.match_tasks(["rbft_mine", asked]) == ["rbft_mine"]
        assert f"rbft: left out, since --model openai {NONE_GIVEN}" in messages


def test_hinted_rationales_are_of_samples_with_a_label(workspace: Path, index: Callable[..., Found]) -> None:
    train = Path("data/mine/train.jsonl")
    rows = read_jsonl(train)
    train.write_text("".join(json.dumps(row | {"hinted_prompt": None}) + "\n" for row in rows[:1]) + "\n")
    manager, messages = index("--tasks", "rbft_mine_*")
    assert manager.all_subtasks == MINE[:-1]
    assert messages == [
        f"rbft: left out, since {train.resolve()} has no hinted prompt, which samples with a label have: {MINE[-1]}"
    ]
    train.write_text("".join(json.dumps(row) + "\n" for row in [rows[0] | {"hinted_prompt": None}, rows[1]]))
    manager, _ = index("--tasks", "rbft_mine_rationale_hinted")
    (name,) = manager.load_task_or_group("rbft_mine_rationale_hinted")
    task = manager.load_task_or_group(name)[name]
    assert [task.doc_to_text(doc) for doc in task.test_docs()] == [rows[1]["hinted_prompt"]]
    assert "class" in rows[1]["hinted_prompt"]


def test_a_likelihood_task_asks_for_each_label_after_the_prompt(
    workspace: Path, index: Callable[..., Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    manager, _ = index("--tasks", "rbft_mine_ll")
    task = manager.load_task_or_group("rbft_mine_ll")["rbft_mine_ll"]
    task.build_all_requests(limit=None, rank=0, world_size=1)
    rows = read_jsonl("data/mine/test.jsonl")
    asked = [(one.request_type, one.args[0], one.args[1]) for one in task.instances]
    assert asked == [("loglikelihood", row["label_prompt"], label) for row in rows for label in ("calm", "busy")]


def test_another_task_that_names_no_file_is_left_to_its_author(workspace: Path, index: Callable[..., Found]) -> None:
    Path("task_configs/rbft_a_hub.yaml").write_text("task: rbft_a_hub\ndataset_path: lmms-lab/MME\n")
    manager, messages = index("--tasks", "rbft_a_hub,rbft_mine,rbft_other")
    assert manager.all_subtasks == ["rbft_a_hub", *sorted(MINE + OTHER_SPLITS)]
    assert [m.split(": ")[-1] for m in messages] == ["rbft_other"]


def test_a_task_gives_its_prompts_and_clips_to_lmms_eval(workspace: Path, index: Callable[..., Found]) -> None:
    manager, _ = index("--tasks", "rbft_*")
    prompts = {"rationale": "rationale_prompt", "rationale_hinted": "hinted_prompt"}
    for kind in TASK_KINDS:
        name, split = task_name("mine", kind), TASK_KINDS[kind].splits[0]
        task = manager.load_task_or_group(name)[name]
        rows = read_jsonl(f"data/mine/{split}.jsonl")
        docs = list(task.test_docs())
        assert [d["id"] for d in docs] == [r["id"] for r in rows] == [f"{split}0", f"{split}1"]
        assert [task.doc_to_text(d) for d in docs] == [r[prompts.get(kind, "label_prompt")] for r in rows]
        assert [task.doc_to_visual(d) for d in docs] == [[] if kind == "novideo" else [r["video"]] for r in rows]
        assert task.VERSION == 1
        assert kind == "ll" or task.config.generation_kwargs["until"] == []
    scored = manager.load_task_or_group("rbft_mine")["rbft_mine"]
    assert scored.process_results(next(iter(scored.test_docs())), ["calm"])["accuracy"] == 1.0


def test_include_path_from_another_folder_works_and_clips_are_found(
    workspace: Path, index: Callable[..., Found], tmp_path_factory: pytest.TempPathFactory, monkeypatch: Any
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    manager, messages = index("--tasks", "rbft_mine", include_path=str(workspace / "task_configs"))
    assert manager.all_subtasks == sorted(MINE + OTHER_SPLITS) and messages == []
    (row, _) = read_jsonl(workspace / "data/mine/test.jsonl")
    assert tasks.doc_to_visual(row) == [str(workspace / row["video"])]
    task = manager.load_task_or_group("rbft_mine")["rbft_mine"]
    assert [d["id"] for d in task.test_docs()] == ["test0", "test1"]


def test_outside_a_workspace_nothing_is_added(
    index: Callable[..., Found], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task_configs").mkdir()
    (tmp_path / "task_configs/rbft_strange.yaml").write_text("task: rbft_strange\n")  # not beside our base file
    manager, messages = index("--tasks", "rbft_*")
    assert (manager.all_tasks, messages) == ([], [])
    assert tasks.workspaces == [Path()]


@pytest.mark.e2e
def test_a_built_in_task_is_still_found_beside_ours(workspace: Path, index: Callable[..., Found]) -> None:
    manager, messages = index("--tasks", "mme,rbft_mine")
    assert manager.match_tasks(["mme", "rbft_mine"]) == ["mme", "rbft_mine"]
    assert messages == []


def test_a_failure_of_ours_does_not_stop_lmms_eval(
    workspace: Path, index: Callable[..., Found], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(index: dict, model: str | None) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr(plugin, "_adopt", broken)
    manager, _ = index("--tasks", "rbft_*")
    assert set(MINE) < set(manager.all_tasks)
    assert capsys.readouterr().err == "rbft: tasks are not checked (RuntimeError: oops)\n"
    monkeypatch.setattr(plugin, "_wrap_task_index", lambda: broken({}, None))
    (manifest,) = plugin.manifests()
    assert manifest.model_id == "rbft_vl"
    assert capsys.readouterr().err == "rbft: tasks are not registered (RuntimeError: oops)\n"
    monkeypatch.setattr(plugin, "_wrap_task_index", lambda: None)
    monkeypatch.setattr(plugin.response_cache, "install", lambda only_ours: None)
    monkeypatch.setattr(plugin.scorings, "install", lambda: broken({}, None))
    assert len(plugin.manifests()) == 1
    assert capsys.readouterr().err == "rbft: scorings of a test split are not counted (RuntimeError: oops)\n"
