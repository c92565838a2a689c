"""recipe: what a runner recipe may say, and the whole text of what is said when it says something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rbft_plugin import workspace
from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.spec import recipe
from rbft_plugin.spec.filters import Filters

STAGES = {
    "rationale": {"rows": "rationale", "recipe": "recipes/stage1.yaml"},
    "label": {"rows": "label", "recipe": "recipes/stage2.yaml"},
}


def content(**changes: Any) -> dict[str, Any]:
    return {
        "run": "mine",
        "dataset": "mine",
        "base_model": "Qwen/base",
        "arms": {"zero_shot": [], "rbft": ["rationale", "label"]},
        "training": {"stages": STAGES},
    } | changes


def load(tmp_path: Path, **changes: Any) -> recipe.Recipe:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content(**changes), sort_keys=False), encoding="utf-8")
    return recipe.load(tmp_path / "r.yaml")


def said(tmp_path: Path, **changes: Any) -> list[str]:
    with pytest.raises(ProblemsError) as raised:
        load(tmp_path, **changes)
    return raised.value.problems


def test_a_recipe_of_required_keys_alone_has_defaults_for_the_others(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert loaded.arms == {"zero_shot": (), "rbft": ("rationale", "label")}
    assert loaded.seeds == (0,)
    assert loaded.training.overrides == {} and loaded.training.stages["label"].overrides == {}
    assert loaded.evaluation == recipe.EvaluationSettings(tasks=("label",), batch_size=1, model_args={}, args={})
    assert loaded.filters == Filters(keep=(), min_words=3, max_words=None, max_share=0.2)


def test_mistakes_in_how_rationales_are_written_and_models_scored(tmp_path: Path) -> None:
    filters = {"keep": ["leak", "lang"], "min_words": -1, "max_share": 2, "drop": 1}
    problems = said(tmp_path, filters=filters, evaluation={"tasks": ["ll", "other"]})
    assert [problem.split(":")[0] for problem in problems] == [
        "filters.keep[1]",
        "filters.min_words",
        "filters.max_share",
        "filters.drop",
        "evaluation.tasks[1]",
    ]
    assert said(tmp_path, filters={"keep": ["empty"]}) == [
        "filters.keep[0]: Input should be 'truncated', 'refusal', 'leak', 'language', 'repetitive', 'short', 'long' or "
        "'generic'"
    ]
    assert said(tmp_path, evaluation={"tasks": ["ll"]}) == [
        "evaluation.tasks: must hold 'label', which the report compares"
    ]
    assert said(tmp_path, evaluation={"tasks": ["label", "label"]}) == ["evaluation.tasks: lists a task twice"]


def test_arms_keep_the_order_of_the_file(tmp_path: Path) -> None:
    arms: dict[str, list[str]] = {"z": ["label"], "a": [], "m": ["label", "rationale"]}
    assert list(load(tmp_path, arms=arms).arms) == ["z", "a", "m"]


def test_overrides_are_passed_on_as_they_stand_with_numbers_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    text = yaml.safe_dump(content() | {"training": None})
    path.write_text(
        text.replace("training: null\n", "")
        + "training:\n"
        + "  overrides: {learning_rate: 1e-4, bf16: false, deepspeed: null, freeze: [a, b], save_strategy: 'no'}\n"
        + "  stages:\n    rationale: {rows: rationale, recipe: a.yaml}\n    label: {rows: label, recipe: b.yaml}\n",
        encoding="utf-8",
    )
    assert recipe.load(path).training.overrides == {
        **{"learning_rate": 0.0001, "bf16": False, "deepspeed": None, "freeze": ["a", "b"], "save_strategy": "no"}
    }


@pytest.mark.parametrize("name", ["rbft", "demo"])
def test_a_shipped_recipe_loads_and_names_files_that_are_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace.shipped())
    loaded = recipe.load(Path(f"recipes/{name}.yaml"))
    assert loaded.arms == {"zero_shot": (), "direct_sft": ("label",), "rbft": ("rationale", "label")}
    assert all(stage.recipe.is_file() for stage in loaded.training.stages.values())
    assert Path(f"dataset_info/{loaded.dataset}.yaml").is_file()


def test_all_that_is_wrong_is_said_at_once_each_with_its_key(tmp_path: Path) -> None:
    changes = {
        "run": "../mine",
        "arms": {"rb ft": ["rationale", "labels"]},
        "seeds": ["one"],
        "training": {"stages": {"rationale": {"recipe": "a.yaml", "override": {}, "rows": "labels"}}},
        "evaluation": {"batch_size": 0},
        "steps": 10,
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(content(**changes), sort_keys=False), encoding="utf-8")
    with pytest.raises(ProblemsError) as raised:
        recipe.load(tmp_path / "r.yaml")
    assert str(raised.value) == (
        f"{tmp_path / 'r.yaml'}: 7 problems\n"
        "  - run: String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$'\n"
        "  - arms.rb ft: String should match pattern '^[A-Za-z0-9][A-Za-z0-9_-]*$'\n"
        "  - seeds[0]: Input should be a valid integer, unable to parse string as an integer\n"
        "  - training.stages.rationale.rows: Input should be 'rationale', 'rationale_hinted', "
        "'rationale_shuffled', 'rationale_file', 'label', 'label_balanced' or 'rationale_label'\n"
        "  - training.stages.rationale.override: unknown key\n"
        "  - evaluation.batch_size: Input should be greater than or equal to 1\n"
        "  - steps: unknown key"
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"arms": {}}, "arms: needs an arm"),
        ({"arms": {"a/b": []}}, "arms.a/b: String should match pattern '^[A-Za-z0-9][A-Za-z0-9_-]*$'"),
        ({"arms": {"rows": []}}, "arms: 'rows': a run's own files are in a folder of that name"),
        ({"arms": {"rows_hinted": []}}, "arms: 'rows_hinted': a run's own files are in a folder of that name"),
        (
            {"arms": {"a": ["rationale", "labels"]}},
            "the file: arms name stages that are not in training.stages (rationale, label): labels",
        ),
        ({"shots": [4, 8]}, "shots: must be one value; for several: `sweep: {shots: [4, 8]}`"),
        ({"shots": 4, "train_fraction": 0.5}, "the file: give 'shots' or 'train_fraction', not both"),
        ({"launch": {"nodes": 2}}, "launch: 'nodes' needs 'processes', how many each node starts"),
        (
            {"arms": {"a": ["label", "label"]}},
            "the file: arms.a: lists label twice; only a stage with `rows: rationale` has rounds",
        ),
        (
            {"arms": {"a": ["rationale", "label", "rationale"]}},
            "the file: arms.a: the rounds of rationale must follow each other",
        ),
        (
            {"shots": 0, "filters": {"right": True}},
            "the file: filters.right: compares rationales with labels, and `shots: 0` uses none",
        ),
        ({"arms": {"a": ["label"], "b": ["label"]}}, "arms: two arms have the same stages"),
        ({"seeds": []}, "seeds: needs a seed"),
        ({"seeds": [0, 1, 0]}, "seeds: lists a seed twice"),
    ],
)
def test_arms_and_seeds_are_some_and_each_is_there_once(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    assert said(tmp_path, **changes) == [problem]


def test_rows_of_a_file_need_one_and_others_take_none(tmp_path: Path) -> None:
    plain = {"recipe": "recipes/stage1.yaml"}
    stages = {"rationale": plain | {"rows": "rationale_file"}, "label": plain | {"rows": "label", "file": "a.jsonl"}}
    assert said(tmp_path, training={"stages": stages}) == [
        "training.stages.rationale: rows: rationale_file needs `file`, JSON lines with the 'id' of a sample and its "
        "'text'",
        "training.stages.label: file: rows: label are not made of a file; rationale_file are",
    ]


@pytest.mark.parametrize("name", ["rationale-2", "rationale-2_rows"])
def test_no_stage_has_the_name_of_a_folder_of_rounds(tmp_path: Path, name: str) -> None:
    stages = content()["training"]["stages"]
    changes = {"training": {"stages": stages | {name: stages["label"]}}}
    assert said(tmp_path, arms={"a": ["rationale", "rationale", name]}, **changes) == [
        f"the file: arms.a: {name} is the name of a folder of the rounds of rationale; rename it"
    ]
    load(tmp_path, arms={"a": ["rationale", "rationale", "label"], "b": [name]}, **changes)  # in another arm it may


def test_the_same_stages_in_another_order_are_another_arm(tmp_path: Path) -> None:
    arms = {"a": ["label", "rationale"], "b": ["rationale", "label"]}
    assert len(load(tmp_path, arms=arms).arms) == 2


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RbftError) as raised:
        recipe.load(tmp_path / "r.yaml")
    assert str(raised.value) == f"{tmp_path / 'r.yaml'}: no such recipe"
