"""What both harnesses pass over in silence or with exit status 0, and `rbft run` must not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from builders import QUIET, prepare
from shell import TINY, sh

from rbft_plugin.check import model_fit as fit
from rbft_plugin.data.prepared import DataFolder, TrainingRow, read_jsonl, read_split, write_jsonl
from rbft_plugin.errors import RbftError
from rbft_plugin.run import layout, plan, runner
from rbft_plugin.run.steps import Plan, Step
from rbft_plugin.spec import dataset, recipe

from .test_run import RECIPE

pytestmark = pytest.mark.e2e


@pytest.fixture
def ready(tiny: Path) -> Plan:
    """The plan of a small run of direct SFT whose dataset is prepared."""
    prepare(dataset.load("mine"), QUIET)
    training = RECIPE["training"] | {"overrides": RECIPE["training"]["overrides"] | {"finetuning_type": "full"}}
    small = RECIPE | {"run": "small", "arms": {"direct_sft": ["label"]}, "training": training}
    Path("recipes/small.yaml").write_text(yaml.safe_dump(small))
    return plan.make(recipe.load(Path("recipes/small.yaml")), dataset.load("mine"))


def step_of(ready: Plan, kind: str) -> Step:
    return next(s for s in ready.steps if s.name.startswith(kind))


def failure(ready: Plan, step: Step) -> str:
    """The message with which a run of this step alone stops; it must leave no record of success."""
    with pytest.raises(RbftError) as stopped:
        runner.execute(replace(ready, steps=[step]), lambda kind, step, text: None)
    assert not (ready.folder / "steps" / f"{layout.slug(step.name)}.json").exists()
    return str(stopped.value)


def test_an_unknown_task(ready: Plan) -> None:
    step = replace(step_of(ready, "score"), model=None)
    argv = [{"rbft_mine": "rbft_nothing"}.get(a, a) for a in step.argv]
    argv[argv.index("--model_args") + 1] = "pretrained=base"
    message = failure(ready, replace(step, argv=argv))
    assert message.startswith(
        "score direct_sft seed 3: failed: 1 problem\n  - it left 0 logs of samples and 0 files of results\n"
    )
    assert "Tasks not found: rbft_nothing" in message  # lmms-eval's own words; it exited 0


def test_an_exception_in_the_middle_of_an_evaluation(ready: Plan) -> None:
    step = replace(step_of(ready, "score"), model=None)
    argv = list(step.argv)
    argv[argv.index("--model_args") + 1] = "pretrained=base"
    argv[argv.index("--batch_size") + 1] = "2"
    last = read_split("mine", "test")[-1]
    clip = Path(last.video)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    message = failure(ready, replace(step, argv=argv))
    assert "it left 0 logs of samples and 0 files of results" in message
    assert "it exited with status" not in message  # lmms-eval exited 0
    assert "Error during evaluation" in message
    assert not DataFolder("mine").test_scorings.exists()


def test_a_training_row_that_llamafactory_drops(ready: Plan) -> None:
    rows = read_jsonl(Path("data/mine/label.jsonl"))
    rows[1]["messages"].reverse()  # the assistant speaks first
    write_jsonl(Path("data/mine/label.jsonl"), rows)
    step = step_of(ready, "train")
    assert failure(ready, step) == (
        "train direct_sft seed 3 label: not started: 1 problem\n"
        "  - row 2 (id 'train1'): 'messages' must be one of role user, then one of role assistant"
    )
    message = failure(ready, replace(step, problems_before=lambda: []))
    assert "  - it trained on 3 of 4 rows; its log says why it dropped the others\n" in message
    assert "it exited with status" not in message


def test_a_training_that_stops_early_and_cuts_an_answer(ready: Plan) -> None:
    rows = read_jsonl(Path("data/mine/label.jsonl"))
    rows[2]["messages"][1]["content"] = "calm and busy, " * 20
    write_jsonl(Path("data/mine/label.jsonl"), rows)
    step = step_of(ready, "train")
    assert step.problems_before() == []
    lengths = [fit.run_tokens("base", [TrainingRow.from_json(row)]) or 0 for row in rows]
    cutoff = max(lengths) - 1
    message = failure(ready, replace(step, argv=[*step.argv, f"cutoff_len={cutoff}", "max_steps=2"]))
    assert message.split("\nIts log is ")[0].splitlines() == [
        "train direct_sft seed 3 label: failed: 2 problems",
        "  - it made 2 of 3 optimizer steps",
        f"  - it made {sum(lengths) - 1} tokens of its rows, not {sum(lengths)} as the evaluation would: it cut "
        "some, or its template writes them otherwise",
    ]


def test_an_output_folder_that_was_used_before(ready: Plan) -> None:
    settings = [s for s in TINY if not s.startswith(("save_strategy", "lora_rank"))] + ["save_steps=3"]
    step = step_of(ready, "train")
    assert step.output is not None
    said = sh(
        "llamafactory-cli train recipes/stage2.yaml adapter_name_or_path=null create_new_adapter=false "
        f"finetuning_type=full dataset=mine_label output_dir={step.output} " + " ".join(settings)
    ).stdout
    assert (step.output / "checkpoint-3").is_dir(), said
    before = {p: p.stat().st_mtime_ns for p in step.output.rglob("*")}
    assert failure(ready, step) == (
        "train direct_sft seed 3 label: runs/small/direct_sft/seed-3/label is not empty, and this run did not make it. "
        "LLaMA-Factory would silently resume from a checkpoint in it. Move it away, or give the recipe another "
        "`run` name."
    )
    assert {p: p.stat().st_mtime_ns for p in step.output.rglob("*")} == before
    # What it guards against: told to train 3 steps from the base, LLaMA-Factory goes on from step 3, and exits 0.
    again = sh(" ".join(step.argv))
    state = json.loads((step.output / "trainer_state.json").read_text())
    assert (again.returncode, state["global_step"]) == (0, 4)
