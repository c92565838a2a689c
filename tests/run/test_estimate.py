"""What is said of a run before it starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from builders import prepare, small_dataset

from rbft_plugin.run import layout, records, runner
from rbft_plugin.run import plan as plans
from rbft_plugin.run.estimate import Estimate, estimate
from rbft_plugin.run.records import StepRecord
from rbft_plugin.run.steps import Plan
from rbft_plugin.spec import recipe
from rbft_plugin.spec.dataset import load


@pytest.fixture
def plan(ws: Path) -> Plan:
    """The demo's recipe on a small dataset, which is not prepared, with a base model of 3,000,000 bytes."""
    small_dataset("mine", {"train": 4, "val": 2, "test": 2})
    path = Path("recipes/demo.yaml")
    path.write_text(path.read_text().replace("dataset: demo", "dataset: mine").replace("data/demo/base", "my/base"))
    Path("my/base").mkdir(parents=True)
    Path("my/base/model.safetensors").write_bytes(bytes(3_000_000))
    return plans.make(recipe.load(path), load("mine"))


def record(plan: Plan, name: str, seconds: float, run: str | None = None) -> None:
    """As if the step had run, in this run or in another."""
    (step,) = [s for s in plan.steps if s.name == name]
    folder = layout.run_folder(run or plan.recipe.run)
    past = StepRecord(name=step.name, kind=step.kind, inputs=step.inputs(), seconds=seconds)
    records.write(layout.record_file(folder, step.name), past)


def test_before_a_first_run_all_is_to_do_and_no_time_is_known(plan: Plan) -> None:
    said = estimate(plan, plan.steps)
    assert said.to_do == plan.steps and said.done == 0
    assert (said.seconds, said.videos, said.answers, said.harness_starts) == (None, None, None, 9)
    assert said.model_bytes == 3 * 3_000_000  # three trainings
    assert said.lines() == [
        *(f"- {s.name}" for s in plan.steps),
        "videos: not known before `rbft prepare`",
        f"disk: trained models at most 9 MB; {said.free_bytes / 1e9:.1f} GB are free",
        "time: not known before a first run; 9 starts of a harness take 20 to 30 s each",
    ]


def test_answers_to_generate_are_counted_when_the_dataset_is_prepared(plan: Plan) -> None:
    prepare(load("mine"), lambda items, total, text: items)
    said = estimate(plan, plan.steps)
    # rationales of the training split, three arms on the test split, two trained ones on their training samples
    assert said.answers == 4 + 3 * 2 + 2 * 4
    assert said.lines()[-3] == "videos: 8; answers to generate about them: 18"
    settings = plan.recipe.evaluation.model_copy(update={"fit": 3})
    fewer = plans.make(plan.recipe.model_copy(update={"evaluation": settings}), plan.dataset)
    assert estimate(fewer, fewer.steps).answers == 4 + 3 * 2 + 2 * 3


def test_times_are_the_median_of_earlier_steps_of_the_same_kind_and_model(plan: Plan) -> None:
    for step in plan.steps:
        record(plan, step.name, {"train": 60.0, "score": 10.0}.get(step.kind, 1.0), run="other")
    assert estimate(plan, plan.steps).seconds == 3 * 60 + 5 * 10 + 4 * 1
    for run, seconds in (("slow", 30.0), ("slower", 50.0), ("slowest", 70.0)):
        record(plan, "score rbft seed 0", seconds, run=run)
    # What scored the base, or the model at the same path: 10, 10, 10, 30, 50, 70.
    assert estimate(plan, plan.steps).seconds == 3 * 60 + 10 + 2 * 10 + 2 * 20 + 4 * 1


def test_steps_of_our_own_that_never_ran_leave_the_time_known(plan: Plan) -> None:
    for step in plan.steps:
        if step.argv[0] != "rbft":
            record(plan, step.name, 10.0, run="other")
    assert estimate(plan, plan.steps).seconds == 9 * 10


def test_times_of_another_base_do_not_count(plan: Plan) -> None:
    for step in plan.steps:
        record(plan, step.name, 1.0, run="other")
    for file in Path("runs/other/steps").iterdir():
        file.write_text(file.read_text().replace("my/base", "your/base").replace("runs/demo", "runs/other"))
    assert estimate(plan, plan.steps).seconds is None


def test_what_is_done_is_not_to_do(plan: Plan) -> None:
    for step in plan.steps:
        record(plan, step.name, 1.0)
        for path in (step.output, *step.leaves):
            if path:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    for step in plan.steps:  # once more, with the inputs as they are now
        record(plan, step.name, 1.0)
    said = estimate(plan, plan.steps)
    assert [s.name for s in said.to_do] == ["prepare mine"] and said.done == 11
    assert all(runner.is_done(plan, s) for s in plan.steps)
    assert said.lines()[-1] == "time: about 1 s, step after step, by earlier runs"


def test_the_size_of_a_base_on_the_hub_is_not_known(plan: Plan) -> None:
    shutil.rmtree("my/base")
    said = estimate(plan, plan.steps)
    assert said.model_bytes is None
    assert said.lines()[-2].startswith("disk: size of trained models unknown (the base model is not a local folder); ")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0 s"), (89.4, "89 s"), (90.0, "2 minutes"), (7200.0, "120 minutes")]
)
def test_times_are_said_in_seconds_or_minutes(seconds: float, text: str) -> None:
    said = Estimate([], 0, seconds, 15_200_000_000, 99_000_000, 40, 30, 0)
    assert said.lines() == [
        "videos: 40; answers to generate about them: 30",
        "disk: trained models at most 15.2 GB; 99 MB are free",
        f"time: about {text}, step after step, by earlier runs",
    ]
