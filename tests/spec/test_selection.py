"""selection: what `select` of a recipe may say, and what is said when it says something else."""

from __future__ import annotations

from typing import Any

import pytest

from rbft_plugin.errors import ProblemsError
from rbft_plugin.spec.recipe import Recipe
from rbft_plugin.spec.selection import Select
from rbft_plugin.spec.yaml_models import validated

RATE, STEPS = "training.stages.label.overrides.learning_rate", "training.stages.rationale.overrides.max_steps"


def recipe(select: dict[str, Any], **changes: Any) -> Recipe:
    content = {
        "run": "r",
        "dataset": "mine",
        "base_model": "base",
        "arms": {"zero_shot": [], "direct_sft": ["label"]},
        "training": {
            "overrides": {"bf16": False},
            "stages": {
                "label": {"rows": "label", "recipe": "stage2.yaml", "overrides": {"max_steps": 5}},
                "rationale": {"rows": "rationale", "recipe": "stage1.yaml"},
            },
        },
        "select": select,
    }
    return validated("r.yaml", Recipe, content | changes)


def problems(select: dict[str, Any], **changes: Any) -> list[str]:
    with pytest.raises(ProblemsError) as raised:
        recipe(select, **changes)
    return raised.value.problems


def test_all_keys_have_defaults() -> None:
    assert recipe({}).select == Select(
        on="val", metric="macro_f1", budget=8, checkpoints=True, skip_last=True, seeds=(0,), seed=0, settings={},
        keep="best",
    )  # fmt: skip


def test_every_mistake_is_said_with_its_key() -> None:
    wrong = {"on": "test", "metric": "f1", "budget": 0, "seeds": [], "keep": "none", "tries": 3}
    wrong["settings"] = {"shots": [1, 2], RATE: [], STEPS: [5, 6, 5], "training.adapters": ["fresh"]}
    names = "'accuracy', 'macro_f1', 'balanced_accuracy', 'weighted_f1', 'no_answer', 'auroc', 'average_precision', "
    only = "arms differ only in what begins with training.overrides. or training.stages."
    assert problems(wrong) == [
        "select.on: Input should be 'val' or 'folds'",
        f"select.metric: Input should be {names}'brier' or 'calibration_error'",
        "select.budget: Input should be greater than or equal to 1",
        "select.seeds: needs a seed",
        f"select.settings.shots: {only}",
        f"select.settings.{RATE}: has no values",
        f"select.settings.{STEPS}: lists a value twice",
        f"select.settings.training.adapters: {only}",
        "select.keep: Input should be 'best' or 'all'",
        "select.tries: unknown key",
    ]


@pytest.mark.parametrize(
    ("select", "changes", "problem"),
    [
        ({}, {"arms": {"zero_shot": []}}, "select: no arm has a stage, so there is nothing to choose"),
        ({"settings": {STEPS: [5, 6]}}, {}, f"select.settings.{STEPS}: no arm has a stage rationale"),
        (
            {"settings": {"training.overrides.max_steps": [5, 6]}},
            {},
            "select.settings.training.overrides.max_steps: has no effect, since each stage sets max_steps itself",
        ),
        (
            {},
            {"sweep": {RATE: [1e-4, 2e-4]}},
            f"sweep.{RATE}: with `select`, settings of trainings stand in select.settings",
        ),
        (
            {},
            {"training": {"stages": {"label": {"rows": "label", "recipe": "stage2.yaml", "checkpoint": 5}}}},
            "training.stages.label.checkpoint: not with `select`, which chooses checkpoints",
        ),
    ],
)
def test_what_does_not_fit_the_rest_of_the_recipe(
    select: dict[str, Any], changes: dict[str, Any], problem: str
) -> None:
    assert problems(select, **changes) == [f"the file: {problem}"]
