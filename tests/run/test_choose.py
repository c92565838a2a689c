"""choose: the best candidate of each arm by the logs of the validation split, and the recipe of these."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import prepared_sample, small_yaml, write_prepared, write_yaml
from hypothesis import given
from hypothesis import strategies as st

from rbft_plugin.errors import ProblemsError, RbftError
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
        for seed, (output,) in one.outputs.items():
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
    chosen = choose.read_chosen(planned)["", None].model_copy(update={"seeds": (0, 7)})
    more = [step for step in plan.add_chosen(planned, {("", None): chosen}) if step.kind == "train"]
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
        (lambda log: log.unlink(), "needs one log of a task rbft_mine, but has 0; score the candidate again"),
        (
            lambda log: log.write_text(log.read_text().replace("v3", "v9")),
            "it has 4 answers, not those of the 4 validation samples with a label; score the model again",
        ),
    ],
)
def test_a_candidate_without_all_answers_is_no_candidate(planned: Plan, spoil: Any, problem: str) -> None:
    score_all(planned, {})
    (output,) = planned.candidates[0].planned.outputs[0]
    spoil(output / "20260101_000000_samples_rbft_mine_val.jsonl")
    with pytest.raises(RbftError) as raised:
        choose.choose(planned)
    assert str(raised.value) == f"{output}: {problem}"


def test_all_candidates_that_are_not_scored_are_named(planned: Plan) -> None:
    score_all(planned, {})
    lost = [planned.candidates[place].planned.outputs[1][0] for place in (0, 2)]
    for output in lost:
        shutil.rmtree(output)
    with pytest.raises(ProblemsError) as raised:
        choose.choose(planned)
    assert raised.value.problems == [f"{output}: not scored" for output in lost]


def test_without_labels_in_val_nothing_can_be_chosen(planned: Plan) -> None:
    score_all(planned, {})
    write_prepared(train=[], val=[prepared_sample("v0", None)], test=[])
    with pytest.raises(RbftError, match="mine: there is no validation sample with a label"):
        choose.choose(planned)


def test_weights_of_the_others_are_removed_but_their_fingerprints_stay(planned: Plan) -> None:
    folders = {}
    for one in planned.candidates:
        for model in one.models:
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


@pytest.fixture
def nested(ws: Path) -> Plan:
    """A plan with three folds of two samples, whose settings are chosen within the other folds."""
    write_yaml(small_yaml(splits={"folds": 3}))
    write_prepared(
        train=[], val=[], test=[prepared_sample(f"v{i}", ("calm", "busy")[i % 2], fold=i // 2) for i in range(6)]
    )
    content = yaml.safe_load(RECIPE.read_text()) | {"run": "r", "dataset": "mine", "base_model": "base"}
    content |= {"arms": {"zero_shot": [], "direct_sft": ["label"]}}
    content["select"] = {"on": "folds", "metric": "accuracy", "settings": {RATE: [1e-4, 2e-4]}, "checkpoints": False}
    content["evaluation"]["fit"] = 0
    RECIPE.write_text(yaml.safe_dump(content, sort_keys=False))
    return plan.make(load(RECIPE), load_dataset("mine"), RECIPE)


def test_within_folds_a_pair_is_trained_once_and_answers_both(nested: Plan) -> None:
    trained = [step.name for step in nested.steps if step.kind == "train"]
    assert trained == [
        f"train learning_rate-{rate}/direct_sft seed 0 without fold {pair} label"
        for rate in ("0.0001", "0.0002")
        for pair in ("0, 1", "0, 2", "1, 2")
    ]
    assert sorted(step.name for step in nested.steps if step.kind == "score") == sorted(
        f"score learning_rate-{rate}/direct_sft seed 0 without fold {pair} on fold {fold}"
        for rate in ("0.0001", "0.0002")
        for pair in ("0, 1", "0, 2", "1, 2")
        for fold in pair.split(", ")
    )
    rows = [step.argv for step in nested.steps if step.kind == "rows"]
    assert [[word for word in argv if word.startswith("--fold")] for argv in rows] == [
        *(["--fold=0", "--fold=1"], ["--fold=0", "--fold=2"], ["--fold=1", "--fold=2"]),
    ]


def test_each_fold_takes_what_is_best_on_the_others_and_never_looks_at_its_own(nested: Plan) -> None:
    """The higher rate is right on folds 0 and 1, the lower one on fold 2 alone."""
    for one in (candidate.planned for candidate in nested.candidates):
        for output in one.outputs[0]:
            if output.is_dir():  # both folds of a pair have the model, but each is scored once
                continue
            fold = int(output.name.removeprefix("eval_fold"))
            right = (one.settings[RATE] == 2e-4) == (fold < 2)
            output.mkdir(parents=True)
            answers, likelihoods = [], []
            for sample in range(2 * fold, 2 * fold + 2):
                label, other = ("calm", "busy")[sample % 2], ("busy", "calm")[sample % 2]
                answers.append({"sample_id": f"v{sample}", "prediction": label if right else other, "resps": [["x"]]})
                likelihoods.append({"sample_id": f"v{sample}", "probabilities": {label: 0.6, other: 0.4}})
            for task, rows in ((f"rbft_mine_fold{fold}", answers), (f"rbft_mine_ll_fold{fold}", likelihoods)):
                text = "".join(json.dumps(row) + "\n" for row in rows)
                (output / f"20260101_000000_samples_{task}.jsonl").write_text(text)
    record = choose.choose(nested)
    chosen = {choice.fold: choice.candidates[choice.chosen] for choice in record.choices}
    assert {fold: (one.settings[RATE], one.metric) for fold, one in chosen.items()} == {
        0: (1e-4, 0.5),  # folds 1 and 2 are a draw, and the first is taken
        1: (1e-4, 0.5),
        2: (2e-4, 1.0),
    }
    paths = choose.write(nested, RECIPE, record)
    assert [path.name for path in paths] == [f"chosen-fold-{fold}.yaml" for fold in range(3)]
    last = yaml.safe_load(paths[2].read_text())
    assert (last["run"], last["folds"]) == ("r_chosen_fold-2", [2])
    assert last["training"]["stages"]["direct_sft_label"]["overrides"]["learning_rate"] == 2e-4
    added = plan.add_chosen(nested, choose.read_chosen(nested))
    assert [step.name for step in added] == [
        "score zero_shot seed 0",
        *(
            name
            for fold in range(3)
            for name in (
                f"rows label_without-{fold}",
                f"train direct_sft seed 0 without fold {fold} direct_sft_label",
                f"score direct_sft seed 0 without fold {fold} on fold {fold}",
            )
        ),
        "report",
    ]
    assert [(one.arm, one.fold) for one in nested.scored] == [
        *(("zero_shot", None), ("direct_sft", 0), ("direct_sft", 1), ("direct_sft", 2)),
    ]


def test_what_the_splits_of_a_dataset_cannot_give_is_said(nested: Plan) -> None:
    def problem(**changes: Any) -> str:
        content = yaml.safe_load(RECIPE.read_text()) | changes
        path = Path("recipes/other.yaml")
        path.write_text(yaml.safe_dump(content))
        with pytest.raises(RbftError) as raised:
            plan.make(load(path), load_dataset("mine"), path)
        return str(raised.value).split("\n  - ")[1]

    missing = "there is no split val with labels to choose on; see `splits` in its YAML"
    assert problem(select={"on": "val"}) == f"{missing}; or choose with `select: {{on: folds}}`"
    assert problem(select=None, folds=[0, 3]) == "there is no fold 3, which the recipe's `folds` names; it has 3"
    write_yaml(small_yaml(splits={"folds": 2}))
    needed = "`select: {on: folds}` needs at least 3 folds, to train without two of them; it has 2"
    assert problem(select={"on": "folds"}) == needed
    write_yaml(small_yaml())
    assert problem(select={"on": "folds"}) == needed.replace("has 2", "has 0")
