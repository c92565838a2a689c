"""sweep: the cells of a recipe, and what a sweep must not change."""

from __future__ import annotations

from typing import Any

import pytest

from rbft_plugin.errors import ProblemsError
from rbft_plugin.run.sweep import cells
from rbft_plugin.spec.recipe import Recipe


def recipe(**changes: Any) -> Recipe:
    content = {
        "run": "r",
        "dataset": "mine",
        "base_model": "base",
        "arms": {"zero_shot": [], "direct_sft": ["label"]},
        "training": {"overrides": {"bf16": False}, "stages": {"label": {"rows": "label", "recipe": "stage2.yaml"}}},
    }
    return Recipe.model_validate(content | changes)


def test_without_a_sweep_there_is_one_cell_without_a_folder() -> None:
    (cell,) = cells(recipe())
    assert (cell.name, cell.values, cell.recipe) == ("", {}, recipe())
    assert cell.part(["shots"]) == ""


def test_every_combination_is_a_cell_with_its_values_set() -> None:
    key = "training.overrides.learning_rate"
    made = cells(recipe(sweep={"shots": [4, 8], key: [1e-4, 2e-4]}))
    assert [cell.name for cell in made] == [
        *("shots-4_learning_rate-0.0001", "shots-4_learning_rate-0.0002"),
        *("shots-8_learning_rate-0.0001", "shots-8_learning_rate-0.0002"),
    ]
    assert made[1].values == {"shots": 4, key: 2e-4}
    assert made[1].recipe == recipe(
        shots=4,
        training={
            "overrides": {"bf16": False, "learning_rate": 2e-4},
            "stages": {"label": {"rows": "label", "recipe": "stage2.yaml"}},
        },
    )
    assert made[1].part(["shots", key]) == "shots-4_learning_rate-0.0002"


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ([], ""),
        (["dataset"], ""),
        (["shots"], "shots-4"),
        (["training.overrides"], "learning_rate-0.1"),
        (["training.overrides.learning_rate", "shots"], "shots-4_learning_rate-0.1"),
        (["training.overrides.lora_rank", "training.stages.label"], ""),
        (["evaluation.args.x"], "evaluation-args-x-1"),
    ],
)
def test_cells_that_do_not_differ_in_some_keys_share_a_name_for_them(keys: list[str], name: str) -> None:
    swept = {"shots": [4], "training.overrides.learning_rate": [0.1], "evaluation": [{"args": {"x": 1}}]}
    (cell,) = cells(recipe(sweep=swept))
    assert cell.part(keys) == name


def test_values_that_are_no_names_make_names_of_folders() -> None:
    assert [c.name for c in cells(recipe(sweep={"base_model": ["a/b c", "d"]}))] == ["base_model-a-b-c", "base_model-d"]


@pytest.mark.parametrize(
    ("sweep", "problems"),
    [
        ({"shots": []}, ["sweep.shots: has no values"]),
        ({"dataset": ["a", "b"]}, ["sweep.dataset: is the same for a whole run"]),
        ({"arms.rbft": [[]]}, ["sweep.arms.rbft: is the same for a whole run"]),
        ({"base_model": ["a/b", "a b"]}, ["sweep: several cells would be named base_model-a-b"]),
        (
            {"shots": [4, -1], "training.overides": [{}]},
            [
                "sweep (shots-4_overides-none): training.overides: unknown key",
                "sweep (shots-1_overides-none): shots: Input should be greater than or equal to 0",
                "sweep (shots-1_overides-none): training.overides: unknown key",
            ],
        ),
    ],
)
def test_keys_and_values_that_cannot_be_swept_are_all_said(sweep: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(ProblemsError) as raised:
        cells(recipe(sweep=sweep))
    assert raised.value.problems == problems


def test_a_cell_does_not_share_its_folder_with_an_arm() -> None:
    with pytest.raises(ProblemsError) as raised:
        cells(recipe(arms={"shots-4": []}, sweep={"shots": [4]}))
    assert raised.value.problems == ["sweep: a cell and an arm have the same name: shots-4"]
    with pytest.raises(ProblemsError):  # nor does what several cells share
        cells(recipe(arms={"shots-4": []}, sweep={"evaluation.batch_size": [1, 2], "shots": [4]}))
