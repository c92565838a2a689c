"""choose: the best candidate of each arm by the logs of the validation split, and the recipe of these."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import prepared_sample, small_yaml, write_prepared, write_yaml
from hypothesis import given
from hypothesis import strategies as st

from rbft_plugin.errors import RbftError
from rbft_plugin.model import checkpoint
from rbft_plugin.run import choose, plan, records
from rbft_plugin.run.records import ScoredCandidate
from rbft_plugin.run.steps import Plan
from rbft_plugin.spec.dataset import load as load_dataset
from rbft_plugin.spec.recipe import load

RATE = "training.stages.label.overrides.learning_rate"
RECIPE = Path("recipes/rbft.yaml")
TARGETS = {"v0": "calm", "v1": "calm", "v2": "busy", "v3": "busy"}


def candidate(metric: float, log_likelihood: float = 0.0, steps: int = 1) -> ScoredCandidate:
    return ScoredCandidate(
        cell="", values={}, arm="a", stages=("label",), settings={}, steps=steps, outputs={}, metric=metric,
        per_seed={0: metric}, log_likelihood=log_likelihood,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "given", "chosen"),
    [
        ("accuracy", [candidate(0.5), candidate(0.7), candidate(0.6)], 1),
        ("brier", [candidate(0.5), candidate(0.7), candidate(0.4)], 2),  # lower is better
        ("accuracy", [candidate(0.7, -0.5), candidate(0.7, -0.2)], 1),
        ("accuracy", [candidate(0.7, -0.2, 60), candidate(0.7, -0.2, 40)], 1),
        ("accuracy", [candidate(0.7), candidate(0.7)], 0),
        ("auroc", [candidate(math.nan, 0.0), candidate(0.1, -9.0)], 1),  # undefined is the worst
        ("brier", [candidate(math.nan, 0.0), candidate(1.9, -9.0)], 1),
    ],
)
def test_the_best_metric_then_likelihood_then_fewer_steps(metric: str, given: list[Any], chosen: int) -> None:
    assert choose.best(given, metric) == chosen


@given(st.lists(st.tuples(st.sampled_from([0.4, 0.5]), st.sampled_from([-1.0, -2.0]), st.integers(1, 3)), min_size=1))
def test_no_candidate_is_better_than_the_best(values: list[tuple[float, float, int]]) -> None:
    best = choose.best([candidate(*one) for one in values], "macro_f1")
    assert all(
        (m, likelihood, -n) <= (values[best][0], values[best][1], -values[best][2]) for m, likelihood, n in values
    )


@pytest.fixture
def planned(ws: Path) -> Plan:
    """A plan whose candidates have not been scored, of a prepared dataset without clips."""
    write_yaml(small_yaml())
    samples = [prepared_sample(name, label) for name, label in TARGETS.items()] + [prepared_sample("v4", None)]
    write_prepared(train=[], val=samples, test=[])
    content = yaml.safe_load(RECIPE.read_text()) | {"run": "r", "dataset": "mine", "base_model": "base"}
    content["select"] = {"metric": "accuracy", "seeds": [0, 1], "settings": {RATE: [1e-4, 2e-4]}}
    content["training"]["stages"]["label"]["overrides"] = {"max_steps": 100}
    content["evaluation"]["fit"] = 0
    RECIPE.write_text(yaml.safe_dump(content, sort_keys=False))
    return plan.make(load(RECIPE), load_dataset("mine"), RECIPE)


def score(output: Path, right: int, probability: float = 0.6) -> None:
    """The logs of a model that is right on the first `right` samples."""
    output.mkdir(parents=True)
    answers, likelihoods = [], []
    for place, (sample, label) in enumerate(TARGETS.items()):
        other = {"calm": "busy", "busy": "calm"}[label]
        prediction = label if place < right else other
        answers.append({"sample_id": sample, "prediction": prediction, "resps": [[prediction]]})
        likelihoods.append({"sample_id": sample, "probabilities": {label: probability, other: 1 - probability}})
    for task, rows in (("rbft_mine_val", answers), ("rbft_mine_ll_val", likelihoods)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (output / f"20260101_000000_samples_{task}.jsonl").write_text(text)


def score_all(made: Plan, right: dict[tuple[str, Any, int | None], tuple[int, int]]) -> None:
    """Score each candidate; of those in `right` (stages, rate, checkpoint) so many are right by seed, of others 1."""
    for one in (candidate.planned for candidate in made.candidates):
        counts = right.get((" ".join(one.stages), one.settings.get(RATE), one.checkpoint), (1, 1))
        for seed, output in one.outputs.items():
            score(output, counts[seed])


def test_each_arm_takes_the_best_mean_over_seeds(planned: Plan) -> None:
    score_all(
        planned,
        {
            ("label", 2e-4, None): (3, 3),
            ("label", 1e-4, 50): (4, 1),
            ("rationale", None, None): (3, 4),
            ("rationale label", 1e-4, None): (4, 2),
        },
    )
    record = choose.choose(planned)
    assert [(c.arm, c.tried, c.possible, len(c.candidates)) for c in record.choices] == [
        ("direct_sft", 2, 2, 4),
        ("rbft", 2, 2, 5),
    ]
    direct, rbft = (choice.candidates[choice.chosen] for choice in record.choices)
    assert (direct.settings, direct.checkpoint, direct.metric, direct.per_seed) == (
        {RATE: 2e-4},
        None,
        0.75,
        {0: 0.75, 1: 0.75},
    )
    assert (rbft.stages, rbft.left_out, rbft.metric) == (("rationale",), "label", 0.875)
    assert rbft.log_likelihood == pytest.approx(math.log(0.6))
    (written,) = choose.write(planned, RECIPE, record)
    assert records.read_choices(Path("runs/r")) == record
    text = written.read_text()
    assert text.splitlines()[:2] == [
        "# Made by `rbft choose recipes/rbft.yaml`: change that recipe, not this one.",
        "# Each arm has the settings with the best accuracy on the validation split.",
    ]
    made = yaml.safe_load(text)
    assert (made["run"], made["dataset"], "select" in made) == ("r_chosen", "mine", False)
    assert made["arms"] == {"zero_shot": [], "direct_sft": ["direct_sft_label"], "rbft": ["rbft_rationale"]}
    assert made["training"]["stages"] == {
        "direct_sft_label": {
            "recipe": "recipes/stage2.yaml",
            "rows": "label",
            "overrides": {"max_steps": 100, "save_total_limit": None, "learning_rate": 2e-4},
        },
        "rbft_rationale": {"recipe": "recipes/stage1.yaml", "rows": "rationale"},
    }


def test_the_chosen_recipe_takes_what_was_trained_already_and_trains_the_other_seeds(planned: Plan) -> None:
    score_all(planned, {("label", 1e-4, 50): (4, 4), ("rationale label", 2e-4, None): (4, 4)})
    choose.write(planned, RECIPE, choose.choose(planned))
    added = plan.add_chosen(planned, choose.read_chosen(planned))
    assert [step.name for step in added] == [
        *("score zero_shot seed 0", "score direct_sft seed 0", "score rbft seed 0", "report"),
    ]
    direct, rbft = (step.model for step in added[1:3])
    assert direct and direct.adapters == ("runs/r/learning_rate-0.0001/direct_sft/seed-0/label/checkpoint-50",)
    assert rbft and rbft.adapters == (
        "runs/r/rbft/seed-0/rationale",
        "runs/r/learning_rate-0.0002/rbft/seed-0/label",
    )
    chosen = choose.read_chosen(planned)[""].model_copy(update={"seeds": (0, 7)})
    more = [step for step in plan.add_chosen(planned, {"": chosen}) if step.kind == "train"]
    assert [step.name for step in more] == [
        *("train direct_sft seed 7 direct_sft_label", "train rbft seed 7 rbft_rationale"),
        "train rbft seed 7 rbft_label",
    ]
    assert "learning_rate=0.0001" in more[0].argv and "learning_rate=0.0002" in more[2].argv


def test_the_chosen_recipe_is_one_that_runs_by_itself(planned: Plan) -> None:
    score_all(planned, {("label", 1e-4, 50): (4, 4)})
    (path,) = choose.write(planned, RECIPE, choose.choose(planned))
    alone = plan.make(load(path), load_dataset("mine"), path)
    (scored,) = [step for step in alone.steps if step.name == "score direct_sft seed 0"]
    assert scored.model
    assert scored.model.adapters == ("runs/r_chosen/direct_sft/seed-0/direct_sft_label/checkpoint-50",)


def test_labels_of_the_test_take_no_part(planned: Plan) -> None:
    score_all(planned, {("label", 1e-4, None): (3, 3)})
    before = choose.choose(planned)
    write_prepared(
        train=[], val=[prepared_sample(*one) for one in TARGETS.items()], test=[prepared_sample("t", "busy")]
    )
    assert choose.choose(planned) == before


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda log: log.unlink(), "needs one log of rbft_mine_val, but has 0; score the candidate again"),
        (
            lambda log: log.write_text(log.read_text().replace("v3", "v9")),
            "it has 4 answers, not those of the 4 validation samples with a label; score the model again",
        ),
    ],
)
def test_a_candidate_without_all_answers_is_no_candidate(planned: Plan, spoil: Any, problem: str) -> None:
    score_all(planned, {})
    output = planned.candidates[0].planned.outputs[0]
    spoil(output / "20260101_000000_samples_rbft_mine_val.jsonl")
    with pytest.raises(RbftError) as raised:
        choose.choose(planned)
    assert str(raised.value) == f"{output}: {problem}"


def test_without_labels_in_val_nothing_can_be_chosen(planned: Plan) -> None:
    write_prepared(train=[], val=[prepared_sample("v0", None)], test=[])
    with pytest.raises(RbftError, match="mine: there is no validation sample with a label"):
        choose.choose(planned)


def test_weights_of_the_others_are_removed_but_their_fingerprints_stay(planned: Plan) -> None:
    folders = {}
    for one in planned.candidates:
        for model in one.models.values():
            folder = Path(model.adapters[-1])
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "adapter_model.safetensors").write_text(str(folder))
            folders[folder] = checkpoint.fingerprint(str(folder))
    score_all(planned, {("label", 1e-4, 50): (4, 4), ("rationale label", 2e-4, None): (4, 4)})
    choose.write(planned, RECIPE, choose.choose(planned))
    choose.remove_others(planned)
    kept = {folder for folder in folders if (folder / "adapter_model.safetensors").is_file()}
    assert kept == {
        *(Path(f"runs/r/learning_rate-0.0001/direct_sft/seed-{seed}/label/checkpoint-50") for seed in (0, 1)),
        *(Path(f"runs/r/learning_rate-0.0002/rbft/seed-{seed}/label") for seed in (0, 1)),
        *(Path(f"runs/r/rbft/seed-{seed}/rationale") for seed in (0, 1)),  # trainings start from them
    }
    assert {folder: checkpoint.fingerprint(str(folder)) for folder in folders} == folders
    assert all(checkpoint.removed(str(folder)) for folder in folders.keys() - kept)


def test_nothing_is_removed_if_the_recipe_keeps_all(planned: Plan) -> None:
    path = Path(planned.candidates[0].models[0].adapters[-1]) / "adapter_model.safetensors"
    path.parent.mkdir(parents=True)
    path.write_text("weights")
    score_all(planned, {("label", 2e-4, None): (4, 4)})
    assert planned.recipe.select
    keeping = planned.recipe.model_copy(update={"select": planned.recipe.select.model_copy(update={"keep": "all"})})
    made = plan.make(keeping, planned.dataset, RECIPE)
    choose.write(made, RECIPE, choose.choose(made))
    choose.remove_others(made)
    assert path.read_text() == "weights"
