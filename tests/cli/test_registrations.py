"""registry: what is committed is what would be written, and both harnesses read it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from builders import prepare, small_dataset, small_yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from rbft_plugin import workspace
from rbft_plugin.cli.registrations import register
from rbft_plugin.cli.registrations import registrations as generated
from rbft_plugin.errors import RbftError
from rbft_plugin.spec import dataset
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.names import TASK_KINDS, Task, class_metric, parse_task, reserved_suffixes, task_name
from rbft_plugin.spec.yaml_models import read_yaml

INFO = Path("dataset_info/dataset_info.json")


def mine(**changes: Any) -> Dataset:
    return Dataset.model_validate(small_yaml(**changes))


def task(name: str) -> dict[str, Any]:
    return read_yaml(Path(f"task_configs/{name}.yaml"), functions=True)


def test_committed_registrations_are_those_that_the_shipped_datasets_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = workspace.shipped()
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shipped / "dataset_info", "dataset_info", ignore=shutil.ignore_patterns("*.json"))
    for name in dataset.available():
        register(dataset.load(name))
    made = {p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.suffix == ".json" or p.match("task_configs/*")}
    committed = {INFO, *(p.relative_to(shipped) for p in (shipped / "task_configs").glob("*.yaml"))}
    assert made == committed
    for path in committed:
        stale = f"{path} is stale: register the shipped datasets again"
        assert (shipped / path).read_text(encoding="utf-8") == path.read_text(encoding="utf-8"), stale


def test_both_stages_of_a_dataset_are_registered_with_both_harnesses(ws: Path) -> None:
    register(mine())
    entry = {
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "videos": "videos"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    }
    info = json.loads(INFO.read_text(encoding="utf-8"))
    assert info["mine_label"] == {"file_name": "../data/mine/label.jsonl"} | entry
    assert info["mine_label_val"] == {"file_name": "../data/mine/label_val.jsonl"} | entry
    assert info["mine_rationale"] == {"file_name": "../data/mine/rationale.jsonl"} | entry
    assert Path("task_configs/rbft_mine_rationale.yaml").read_text(encoding="utf-8") == (
        "# Made by `rbft prepare mine`: change dataset_info/mine.yaml, not this.\n"
        "include: _rbft_rationale_base.yaml\n"
        "task: rbft_mine_rationale\n"
        "dataset_kwargs:\n"
        "  data_files:\n"
        "    test: ../data/mine/train.jsonl\n"
    )
    functions = "rbft_plugin.lmms_eval.tasks."
    assert task("rbft_mine") == {
        "include": "_rbft_label_base.yaml",
        "task": "rbft_mine",
        "dataset_kwargs": {"data_files": {"test": "../data/mine/test.jsonl"}},
        "metric_list": [
            {"metric": "accuracy", "aggregation": "mean", "higher_is_better": True},
            *[
                {"metric": name, "aggregation": f"{functions}{name}", "higher_is_better": True}
                for name in ("macro_f1", "balanced_accuracy", "weighted_f1")
            ],
            {"metric": "no_answer", "aggregation": "mean", "higher_is_better": False},
            {"metric": "accuracy_rule_1", "aggregation": "mean", "higher_is_better": True},
            {"metric": "rule_1", "aggregation": "mean", "higher_is_better": True},
            *[{"metric": f"rule_{n}", "aggregation": "mean", "higher_is_better": None} for n in (2, 3, 4)],
            {
                "metric": "majority_accuracy",
                "aggregation": f"{functions}majority_accuracy",
                "higher_is_better": True,
            },
            *[
                {"metric": f"{name}_{label}", "aggregation": f"{functions}class_{name}", "higher_is_better": True}
                for name in ("f1", "precision", "recall")
                for label in ("calm", "busy")
            ],
            *[
                {"metric": f"{name}_{label}", "aggregation": f"{functions}class_{name}", "higher_is_better": None}
                for name in ("support", "confusion")
                for label in ("calm", "busy")
            ],
        ],
    }
    assert task("rbft_mine_novideo") == task("rbft_mine") | {
        "include": ["_rbft_novideo_base.yaml", "_rbft_label_base.yaml"],
        "task": "rbft_mine_novideo",
    }
    assert task("rbft_mine_rationale_hinted") == task("rbft_mine_rationale") | {
        "include": ["_rbft_rationale_hinted_base.yaml", "_rbft_rationale_base.yaml"],
        "task": "rbft_mine_rationale_hinted",
    }
    down = ("no_answer", "brier", "calibration_error")
    for kind in ("", "_ll", "_novideo"):
        for metric in task(f"rbft_mine{kind}")["metric_list"]:
            counts = metric["metric"].startswith(("support_", "confusion_", "rule_2", "rule_3", "rule_4"))
            assert metric["higher_is_better"] == (None if counts else metric["metric"] not in down)


def test_a_task_of_another_split_is_the_same_on_other_samples_and_has_no_tag(ws: Path) -> None:
    register(mine())
    assert Path("task_configs/rbft_mine_ll_val.yaml").read_text(encoding="utf-8") == (
        "# Made by `rbft prepare mine`: change dataset_info/mine.yaml, not this.\n"
        "include: rbft_mine_ll.yaml\n"
        "task: rbft_mine_ll_val\n"
        "tag: []\n"
        "dataset_kwargs:\n"
        "  data_files:\n"
        "    test: ../data/mine/val.jsonl\n"
        "process_docs: !function rbft_plugin.lmms_eval.tasks.labelled\n"
    )
    assert task("rbft_mine_train")["dataset_kwargs"] == {"data_files": {"test": "../data/mine/train.jsonl"}}


COLUMNS = {"id": "id", "label": "label"}


@pytest.mark.parametrize(
    ("changes", "validates"),
    [
        ({"splits": {"column": "split"}}, True),
        ({"splits": {"ratio": {"train": 0.8, "val": 0.1, "test": 0.1}}}, True),
        ({"splits": {"ratio": {"train": 0.8, "test": 0.2}}}, False),
        ({"splits": {"ratio": {"train": 0.8, "val": 0.0, "test": 0.2}}}, False),
        ({"splits": {"ids": {"val": "v.txt", "test": "t.txt"}}}, True),
        ({"splits": {"ids": {"test": "t.txt"}}}, False),
        ({"annotations": COLUMNS | {"file": {"train": "a.csv", "test": "b.csv"}}, "splits": None}, False),
        (
            {"annotations": COLUMNS | {"file": {"train": "a.csv", "val": "c.csv", "test": "b.csv"}}, "splits": None},
            True,
        ),
        (
            {"annotations": COLUMNS | {"hub": {"path": "a/b", "splits": {"train": "a", "test": "b"}}}, "splits": None},
            False,
        ),
        ({"annotations": COLUMNS | {"hub": {"path": "a/b"}}, "splits": None}, True),
    ],
)
def test_a_dataset_without_a_split_val_has_no_task_and_no_rows_of_it(
    ws: Path, changes: dict[str, Any], validates: bool
) -> None:
    register(mine(**changes))
    made = {path.name for path in Path("task_configs").glob("rbft_mine*_val.yaml")}
    assert made == (
        {"rbft_mine_val.yaml", "rbft_mine_ll_val.yaml", "rbft_mine_novideo_val.yaml"} if validates else set()
    )
    assert ("mine_label_val" in json.loads(INFO.read_text(encoding="utf-8"))) == validates
    assert Path("task_configs/rbft_mine_train.yaml").is_file()


def test_what_was_made_for_a_split_that_is_gone_is_removed_and_nothing_else(ws: Path) -> None:
    register(mine())
    by_hand = Path("task_configs/rbft_mine_novideo_val.yaml")
    by_hand.write_text("task: rbft_mine_novideo_val\n", encoding="utf-8")
    register(mine(splits={"ratio": {"train": 0.8, "test": 0.2}}))
    assert list(Path("task_configs").glob("rbft_mine*_val.yaml")) == [by_hand]
    assert "mine_label_val" not in json.loads(INFO.read_text(encoding="utf-8"))

    register(mine())
    info = json.loads(INFO.read_text(encoding="utf-8"))
    INFO.write_text(json.dumps(info | {"mine_label_val": {"file_name": "own.jsonl"}}), encoding="utf-8")
    register(mine(splits={"ratio": {"train": 0.8, "test": 0.2}}))
    assert json.loads(INFO.read_text(encoding="utf-8"))["mine_label_val"] == {"file_name": "own.jsonl"}


def test_prepared_data_says_whether_there_is_a_split_val(ws: Path) -> None:
    small_dataset("mine", {"train": 2, "val": 0, "test": 2})
    register(mine())
    assert Path("task_configs/rbft_mine_val.yaml").is_file()  # the column may hold it
    prepare(dataset.load("mine"))
    assert not Path("task_configs/rbft_mine_val.yaml").exists()
    assert Path("task_configs/rbft_mine_train.yaml").is_file()


def test_every_kind_of_task_has_a_version_a_tag_of_its_own_and_is_never_cut(ws: Path) -> None:
    register(mine())
    tags = []
    for kind in TASK_KINDS:
        bases = [task(base.removesuffix(".yaml")) for base in TASK_KINDS[kind].bases]
        whole = {key: value for base in reversed(bases) for key, value in base.items()}
        assert whole["metadata"] == {"version": 1}
        tags.append(whole["tag"])
        if kind == "ll":
            assert "generation_kwargs" not in whole and whole["target_delimiter"] == ""
        else:
            assert whole["generation_kwargs"]["until"] == [] and whole["generation_kwargs"]["do_sample"] is False
    assert tags == [kind.tag for kind in TASK_KINDS.values()]


def test_a_tag_is_no_name_of_a_dataset(ws: Path) -> None:
    for tag in [kind.tag for kind in TASK_KINDS.values()]:
        with pytest.raises(ValidationError):
            mine(name=tag.removeprefix("rbft_"))
    with pytest.raises(ValidationError, match="must not be 'labels': rbft_labels stands for all tasks of a kind"):
        mine(name="labels")


@given(st.from_regex(r"[a-z0-9][a-z0-9_-]*", fullmatch=True))
def test_a_task_tells_its_dataset_kind_and_split(name: str) -> None:
    assume(name.split("_")[-1] not in reserved_suffixes())
    tasks = [Task(name, kind, split) for kind, of_kind in TASK_KINDS.items() for split in of_kind.splits]
    names = [task_name(*one) for one in tasks]
    assert len(set(names)) == len(names) == 11
    assert [parse_task(one) for one in names] == tasks


def test_functions_and_bases_that_tasks_name_are_there(ws: Path) -> None:
    from rbft_plugin.lmms_eval import tasks

    register(mine())
    for path in Path("task_configs").glob("*.yaml"):
        content = task(path.stem)
        if "include" in content:
            included = content["include"]
            for base in [included] if isinstance(included, str) else included:
                assert (path.parent / base).is_file()
        named = [
            part.split()[0]
            for part in path.read_text(encoding="utf-8").split("!function rbft_plugin.lmms_eval.tasks.")[1:]
        ]
        assert all(callable(getattr(tasks, function)) for function in named)


def test_bases_that_are_not_there_are_written_and_others_stay(ws: Path) -> None:
    bases = sorted(Path("task_configs").glob("_rbft_*.yaml"))
    kept, gone = bases[0], {path: path.read_text(encoding="utf-8") for path in bases[1:]}
    kept.write_text("mine: 1\n", encoding="utf-8")
    for path in gone:
        path.unlink()
    assert set(gone) < set(generated(mine()))
    register(mine())
    assert {path: path.read_text(encoding="utf-8") for path in gone} == gone
    assert kept.read_text(encoding="utf-8") == "mine: 1\n"


def test_metrics_of_a_task_are_those_that_scoring_an_answer_gives(ws: Path) -> None:
    from rbft_plugin.lmms_eval import tasks

    labels = [{"name": name, "description": "x"} for name in ("Vague: abnormal", "日常", "C++")]
    register(mine(labels=labels))
    names = [label["name"] for label in labels]
    doc = {"id": "a", "label": "C++", "labels": names}
    for kind, scores in {
        "": tasks.process_label(doc, ["C++"]),
        "_novideo": tasks.process_label(doc, ["C++"]),
        "_ll": tasks.process_likelihoods(doc, ["(-1.0, True, 1)"] * 3),
    }.items():
        metrics = [metric["metric"] for metric in task(f"rbft_mine{kind}")["metric_list"]]
        assert set(metrics) <= set(scores)
        assert metrics[-3:] == ["confusion_Vague_abnormal", "confusion_日常", "confusion_C"]


def test_other_entries_and_keys_of_a_users_registration_stay(ws: Path) -> None:
    theirs = {"theirs": {"hf_hub_url": "someone/something"}, "mine_label": {"file_name": "old.json"}, "ä": {}}
    INFO.write_text(json.dumps(theirs), encoding="utf-8")
    register(mine())
    info = json.loads(INFO.read_text(encoding="utf-8"))
    assert list(info) == ["mine_label", "mine_label_val", "mine_rationale", "theirs", "ä"]
    assert info["theirs"] == theirs["theirs"]
    assert info["mine_label"]["file_name"] == "../data/mine/label.jsonl"
    assert '"ä"' in INFO.read_text(encoding="utf-8")


def test_a_registration_that_is_no_json_is_left_alone_and_named(ws: Path) -> None:
    INFO.write_text('{\n "a": 1,\n}', encoding="utf-8")
    with pytest.raises(RbftError) as raised:
        register(mine())
    assert str(raised.value) == (
        "dataset_info/dataset_info.json: not JSON (line 3: Expecting property name enclosed in double quotes); "
        "correct it or remove it"
    )
    assert INFO.read_text(encoding="utf-8") == '{\n "a": 1,\n}'
    INFO.write_text("[]", encoding="utf-8")
    with pytest.raises(RbftError) as raised:
        register(mine())
    assert str(raised.value) == (
        "dataset_info/dataset_info.json: must be a JSON object of datasets; correct it or remove it"
    )


def test_registering_again_touches_no_file(ws: Path) -> None:
    register(mine())
    before = {p: p.stat().st_mtime_ns for top in workspace.FOLDERS for p in (ws / top).rglob("*.*")}
    register(mine())
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_what_is_generated_is_what_is_registered_and_nothing_is_written(ws: Path) -> None:
    before = INFO.read_text(encoding="utf-8")
    wanted = generated(mine())
    assert INFO.read_text(encoding="utf-8") == before and not Path("task_configs/rbft_mine.yaml").exists()
    register(mine())
    assert {path: path.read_text(encoding="utf-8") for path in wanted} == wanted
    assert set(Path("task_configs").glob("rbft_mine*.yaml")) | {INFO} == set(wanted)


def test_datasets_that_are_registered_at_the_same_time_are_all_there(ws: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from rbft_plugin.llamafactory.registry import write_entries\n"
        "for i in range(20): write_entries(Path('dataset_info'), {f'{sys.argv[1]}{i}': {}})"
    )
    started = [subprocess.Popen([sys.executable, "-c", script, name]) for name in "abc"]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert {f"{name}{i}" for name in "abc" for i in range(20)} < set(json.loads(INFO.read_text(encoding="utf-8")))


def test_every_registered_path_is_relative_and_leads_into_the_folder_of_the_dataset(ws: Path) -> None:
    for name in dataset.available():
        register(dataset.load(name))
    info = json.loads(INFO.read_text(encoding="utf-8"))
    tasks = [task(p.stem) for p in Path("task_configs").glob("rbft_*.yaml")]
    paths = [e["file_name"] for e in info.values()] + [t["dataset_kwargs"]["data_files"]["test"] for t in tasks]
    assert len(paths) == (3 + 11) * len(dataset.available())  # datasets of LLaMA-Factory, and tasks
    for path in paths:
        assert PurePosixPath(path).parts[:2] == ("..", "data")
    assert str(ws) not in "".join(p.read_text(encoding="utf-8") for p in ws.rglob("*.*") if p.suffix != ".mp4")


@pytest.mark.torch
def test_llama_factorys_own_parser_reads_the_entries(ws: Path) -> None:
    from llamafactory.data.parser import get_dataset_list

    register(mine())
    label, rationale = get_dataset_list(["mine_label", "mine_rationale"], "dataset_info")
    assert (label.load_from, label.dataset_name) == ("file", "../data/mine/label.jsonl")
    assert (rationale.load_from, rationale.dataset_name) == ("file", "../data/mine/rationale.jsonl")
    for one in (label, rationale):
        assert (one.formatting, one.messages, one.videos) == ("sharegpt", "messages", "videos")
        assert (one.images, one.system, one.tools) == (None, None, None)
        assert (one.role_tag, one.content_tag) == ("role", "content")
        assert (one.user_tag, one.assistant_tag) == ("user", "assistant")


@pytest.mark.parametrize(
    ("label", "metric"),
    [
        ("calm", "f1_calm"),
        ("Vague Abnormal", "f1_Vague_Abnormal"),
        ("a, b", "f1_a_b"),
        ("(x)", "f1_x"),
        ("日", "f1_日"),
    ],
)
def test_a_metric_of_a_label_has_neither_spaces_nor_commas(label: str, metric: str) -> None:
    assert class_metric("f1", label) == metric
