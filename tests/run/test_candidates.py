"""candidates: which settings and checkpoints each arm tries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from plans import changed

from rbft_plugin.errors import ProblemsError
from rbft_plugin.run import candidates
from rbft_plugin.run.sweep import cells
from rbft_plugin.spec.recipe import Recipe, load
from rbft_plugin.spec.selection import Select

RATE, LABEL_STEPS = "training.stages.label.overrides.learning_rate", "training.stages.label.overrides.max_steps"
STEPS = "training.stages.rationale.overrides.max_steps"
RBFT = ("rationale", "label")


def shipped(**select: Any) -> Recipe:
    path = Path("recipes/rbft.yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"select": select}))
    return load(path)


def test_an_arm_tries_the_settings_of_its_own_stages(ws: Path) -> None:
    recipe = shipped(settings={RATE: [1e-4, 2e-4], STEPS: [50, 100], "training.overrides.lora_rank": [8]})
    assert recipe.select
    assert candidates.combinations(recipe.select, recipe, ["label"]) == (
        [{RATE: rate, "training.overrides.lora_rank": 8} for rate in (1e-4, 2e-4)],
        2,
    )
    assert candidates.combinations(recipe.select, recipe, RBFT) == (
        [{RATE: r, STEPS: s, "training.overrides.lora_rank": 8} for r in (1e-4, 2e-4) for s in (50, 100)],
        4,
    )
    assert candidates.combinations(Select(), recipe, RBFT) == ([{}], 1)  # the recipe as it is


@given(budget=st.integers(1, 12), seed=st.integers(0, 99), one=st.integers(1, 4), other=st.integers(1, 4))
def test_a_budget_draws_that_many_different_combinations(budget: int, seed: int, one: int, other: int) -> None:
    select = Select(budget=budget, seed=seed, settings={RATE: tuple(range(one)), LABEL_STEPS: tuple(range(other))})
    stages = {"label": {"rows": "label", "recipe": "stage2.yaml"}}
    recipe = Recipe.model_validate(
        {"run": "r", "dataset": "d", "base_model": "b", "arms": {"a": ["label"]}, "training": {"stages": stages}}
    )
    drawn, possible = candidates.combinations(select, recipe, ["label"])
    assert possible == one * other and len(drawn) == min(budget, possible)
    assert drawn == sorted(drawn, key=lambda values: (values[LABEL_STEPS], values[RATE])) or drawn == sorted(
        drawn, key=lambda values: (values[RATE], values[LABEL_STEPS])
    )
    assert all(drawn.count(values) == 1 for values in drawn)
    assert candidates.combinations(select, recipe, ["label"])[0] == drawn  # the same seed draws the same


def test_last_stages_keep_their_checkpoints_only_where_these_are_candidates(ws: Path) -> None:
    limits = {}
    for checkpoints in (True, False):
        (cell,) = cells(shipped(checkpoints=checkpoints))
        base = candidates.base_cell(cell)
        assert base.recipe.select is None
        limits[checkpoints] = {name: stage.overrides for name, stage in base.recipe.training.stages.items()}
    assert limits == {
        True: {"rationale": {}, "label": {"save_total_limit": None}},
        False: {"rationale": {}, "label": {}},
    }


def test_a_combination_that_makes_no_recipe_is_said(ws: Path) -> None:
    (cell,) = cells(recipe := shipped(settings={"training.stages.label.samples": ["all", "some"]}))
    assert recipe.select
    with pytest.raises(ProblemsError) as raised:
        candidates.cells(candidates.base_cell(cell), recipe.select, "direct_sft")
    assert raised.value.problems == [
        "select.settings ({'training.stages.label.samples': 'some'}): training.stages.label.samples: "
        "Input should be 'all' or 'labelled'"
    ]


def test_values_whose_folders_would_have_one_name_are_refused(ws: Path) -> None:
    (cell,) = cells(recipe := shipped(settings={"training.stages.label.overrides.optim": ["a/b", "a b"]}))
    assert recipe.select
    with pytest.raises(ProblemsError) as raised:
        candidates.cells(candidates.base_cell(cell), recipe.select, "direct_sft")
    assert raised.value.problems == ["select.settings: several values would be named optim-a-b"]


def test_candidates_of_a_plan_know_their_models_steps_and_outputs(ws: Path) -> None:
    plan = changed("rbft", {"select": {"settings": {RATE: [1e-4], STEPS: [50]}, "seeds": [0, 1]}, "seeds": [0, 1]})
    of_rbft = [one for one in plan.candidates if one.planned.arm == "rbft"]
    assert [(c.planned.stages, c.planned.left_out, c.planned.checkpoint, c.planned.steps) for c in of_rbft] == [
        (("rationale",), "label", None, 50),
        (RBFT, None, 50, 100),
        (RBFT, None, 100, 150),
        (RBFT, None, None, 200),
    ]
    assert [c.planned.settings for c in of_rbft] == [{STEPS: 50}, *[{RATE: 1e-4, STEPS: 50}] * 3]
    cell = "runs/smarthome/learning_rate-0.0001_max_steps-50/rbft"
    assert of_rbft[1].planned.outputs == {s: (Path(f"{cell}/seed-{s}/eval_val_checkpoint-50"),) for s in (0, 1)}
    assert of_rbft[1].models[1].adapters == (
        "runs/smarthome/max_steps-50/rbft/seed-1/rationale",
        f"{cell}/seed-1/label/checkpoint-50",
    )
    assert of_rbft[0].planned.outputs[0] == (Path("runs/smarthome/max_steps-50/rbft/seed-0/eval_val_rationale"),)
