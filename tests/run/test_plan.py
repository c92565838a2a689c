"""What the steps of a plan read, make, need and refuse. Their commands are compared in test_plans.py."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import BASE, prepare, prepared_sample, small_dataset, write_prepared

from rbft_plugin.check import model_fit as fit
from rbft_plugin.data.prepared import read_jsonl, read_training_rows, write_jsonl
from rbft_plugin.errors import RbftError
from rbft_plugin.lmms_eval import evaluation
from rbft_plugin.model.checkpoint import Checkpoint
from rbft_plugin.run import plan
from rbft_plugin.run.layout import slug
from rbft_plugin.run.records import Inputs, PlannedFit
from rbft_plugin.run.steps import Plan, Step
from rbft_plugin.spec import recipe
from rbft_plugin.spec.dataset import load


def shipped(name: str, **changes: Any) -> Plan:
    """The plan of a shipped recipe, some of its keys changed."""
    path = Path("recipes") / f"{name}.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"select": None} | changes, sort_keys=False))
    read = recipe.load(path)
    return plan.make(read, load(read.dataset))


def argv_of(made: Plan, name: str) -> list[str]:
    return step_of(made, name).argv


def step_of(made: Plan, name: str) -> Step:
    (found,) = [s for s in made.steps if s.name == name]
    return found


def models_of(made: Plan) -> dict[tuple[str, int], Checkpoint]:
    """The models that are scored, by arm (in its cell) and seed."""
    return {
        ("/".join(filter(None, (s.cell, s.arm))), s.seed): s.model
        for s in made.steps
        if s.kind == "score" and s.model and s.arm and s.seed is not None
    }


def test_direct_sft_differs_from_the_label_stage_of_rbft_only_in_its_start(ws: Path) -> None:
    for name, different in (("demo", {"model_name_or_path"}), ("rbft", {"adapter_name_or_path", "create_new_adapter"})):
        made = shipped(name)
        direct, ours = (argv_of(made, f"train {arm} seed 0 label") for arm in ("direct_sft", "rbft"))
        assert {a.split("=")[0] for a, b in zip(direct, ours, strict=True) if a != b} == different | {"output_dir"}


def test_models_of_a_lora_run_are_the_base_and_its_adapters_in_order(ws: Path) -> None:
    base, run = "Qwen/Qwen2.5-VL-7B-Instruct", "runs/smarthome"
    made = shipped("rbft")
    adapters = (f"{run}/rbft/seed-0/rationale", f"{run}/rbft/seed-0/label")
    assert models_of(made) == {
        ("zero_shot", 0): Checkpoint(base, (), "smarthome"),
        ("direct_sft", 0): Checkpoint(base, (f"{run}/direct_sft/seed-0/label",), "smarthome"),
        ("rbft", 0): Checkpoint(base, adapters, "smarthome"),
    }
    assert step_of(made, "train rbft seed 0 label").models == (base, adapters[0])
    assert step_of(made, "score rbft seed 0").models == (base, *adapters)


def test_models_of_a_full_run_are_whole(ws: Path) -> None:
    assert models_of(shipped("demo")) == {
        ("zero_shot", 0): Checkpoint("data/demo/base", (), "demo"),
        ("direct_sft", 0): Checkpoint("runs/demo/direct_sft/seed-0/label", (), "demo"),
        ("rbft", 0): Checkpoint("runs/demo/rbft/seed-0/label", (), "demo"),
    }


def test_no_two_steps_of_a_run_write_one_folder_or_share_a_record(ws: Path) -> None:
    arms = {"zero": [], "a": ["label"], "b": ["rationale"], "c": ["rationale", "label"], "d": ["label", "rationale"]}
    made = shipped("rbft", arms=arms, seeds=[0, 1, 2])
    outputs = [s.output for s in made.steps if s.output]
    assert len(set(outputs)) == len(outputs) == 1 + 13 + 12 + 9  # rationales, scores, trainings, training samples
    assert len({slug(s.name) for s in made.steps}) == len(made.steps)


def test_what_is_scored_is_recorded_by_arm_seed_and_cell(ws: Path) -> None:
    """The base is scored once, with the first seed, and is in each cell of a sweep."""
    made = shipped("rbft", seeds=[3, 5], sweep={"shots": [4, 8]}, arms={"zero_shot": [], "direct_sft": ["label"]})
    assert [(s.cell, s.arm, s.seed, s.output.as_posix()) for s in made.scored] == [
        (cell, arm, seed, f"runs/smarthome/{folder}/seed-{seed}/eval")
        for cell in ("shots-4", "shots-8")
        for arm, seed, folder in (
            ("zero_shot", 3, "zero_shot"),
            *(("direct_sft", seed, f"{cell}/direct_sft") for seed in (3, 5)),
        )
    ]


def test_without_labels_stages_that_need_them_are_left_out_and_equal_arms_are_scored_once(ws: Path) -> None:
    """zero_shot and direct_sft are the base, and all arms with a stage on plain rationales are one model."""
    training = yaml.safe_load(Path("recipes/rbft.yaml").read_text())["training"]
    stage = training["stages"]["rationale"]
    training["stages"] |= {"told": stage | {"rows": "rationale_hinted"}, "some": stage | {"samples": "labelled"}}
    arms = {"zero_shot": [], "direct_sft": ["label"], "rbft": ["rationale", "label"], "all": ["told", "rationale"]}
    arms |= {"some": ["some"]}
    made = shipped("rbft", training=training, arms=arms, shots=0, seeds=[3, 5])
    assert [step.name for step in made.steps] == [
        *("prepare smarthome", "write rationales", "collect rationales", "score zero_shot seed 3"),
        *("train rbft seed 3 rationale", "score rbft seed 3", "train rbft seed 5 rationale", "score rbft seed 5"),
        "report",
    ]
    assert "dataset=smarthome_rationale" in argv_of(made, "train rbft seed 5 rationale")
    assert [(one.arm, one.seed, one.output.as_posix(), one.left_out) for one in made.scored] == [
        ("zero_shot", 3, "runs/smarthome/zero_shot/seed-3/eval", ()),
        ("direct_sft", 3, "runs/smarthome/zero_shot/seed-3/eval", ("label",)),
        *(("rbft", seed, f"runs/smarthome/rbft/seed-{seed}/eval", ("label",)) for seed in (3, 5)),
        *(("all", seed, f"runs/smarthome/rbft/seed-{seed}/eval", ("told",)) for seed in (3, 5)),
        ("some", 3, "runs/smarthome/zero_shot/seed-3/eval", ("some",)),
    ]
    assert not any(one.fit for one in made.scored)


def test_no_labels_are_one_value_of_a_sweep(ws: Path) -> None:
    arms = {"direct_sft": ["label"], "zero_shot": [], "rbft": ["rationale", "label"]}
    made = shipped("rbft", arms=arms, sweep={"shots": [0, 2], RATE: [1e-4, 2e-4]})
    without = shipped("rbft", arms=arms, sweep={"shots": [2], RATE: [1e-4, 2e-4]})
    assert [step.name for step in without.steps if step.argv not in [other.argv for other in made.steps]] == []
    assert list(dict.fromkeys((one.name, one.output.parent.as_posix()) for one in made.scored)) == [
        ("shots-0/direct_sft", "runs/smarthome/zero_shot/seed-0"),
        ("zero_shot", "runs/smarthome/zero_shot/seed-0"),
        ("shots-0/rbft", "runs/smarthome/shots-0/rbft/seed-0"),
        *(
            (f"shots-2_learning_rate-{rate}/{arm}", f"runs/smarthome/shots-2_learning_rate-{rate}/{arm}/seed-0")
            for rate in (0.0001, 0.0002)
            for arm in ("direct_sft", "rbft")
        ),
    ]


def test_each_round_learns_what_the_model_of_the_round_before_wrote_from_the_base(ws: Path) -> None:
    made = shipped("rbft", arms={"rbft": ["rationale"] * 3 + ["label"]}, evaluation={"fit": 0}, seeds=[3, 5])
    rounds = [
        [
            f"train rbft seed {seed} rationale",
            *(f"{verb} rbft seed {seed} rationale-{n}" for n in (2, 3) for verb in ("write", "collect", "train")),
            *(f"train rbft seed {seed} label", f"score rbft seed {seed}"),
        ]
        for seed in (3, 5)
    ]
    assert [step.name for step in made.steps] == [
        *("prepare smarthome", "write rationales", "collect rationales"),
        *(*rounds[0], *rounds[1], "report"),
    ]
    base, folder = "Qwen/Qwen2.5-VL-7B-Instruct", Path("runs/smarthome/rbft/seed-3")
    written = step_of(made, "write rbft seed 3 rationale-3")
    assert written.models == (base, f"{folder}/rationale-2") and written.output == folder / "rationale-3_rationales"
    assert (written.arm, written.seed, written.kind, written.split) == ("rbft", 3, "rationales", "train")
    assert written.cache == folder / "rationale-3_rationales.cache"
    collected = step_of(made, "collect rbft seed 3 rationale-3")
    assert collected.files[0] == written.output and collected.leaves == (folder / "rationale-3_rows/rationale.jsonl",)
    trained = step_of(made, "train rbft seed 3 rationale-3")
    assert trained.models == (base,) and trained.output == folder / "rationale-3" and trained.stage == "rationale-3"
    assert trained.needs(collected) and collected.needs(written)
    assert written.needs(step_of(made, "train rbft seed 3 rationale-2"))
    assert step_of(made, "train rbft seed 3 label").models == (base, f"{folder}/rationale-3")
    assert step_of(made, "score rbft seed 3").models == (base, f"{folder}/rationale-3", f"{folder}/label")
    assert not [step.name for step in made.steps if "seed 3" in step.name and "seed-5" in str(step.argv)]


def test_within_folds_the_rationales_of_a_round_are_by_a_model_without_the_fold(ws: Path) -> None:
    path = Path("dataset_info/smarthome.yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"splits": {"folds": 2}}))
    made = shipped("rbft", arms={"rbft": ["rationale", "rationale"]})
    folder = "runs/smarthome/rbft/seed-0/without-1"
    written, rows, trained = (
        step_of(made, f"{verb} rbft seed 0 without fold 1 rationale-2") for verb in ("write", "rows", "train")
    )
    assert written.models[-1] == f"{folder}/rationale"
    assert step_of(made, "train rbft seed 0 without fold 1 rationale").argv[3].endswith("_rationale_without-1")
    assert rows.argv[2:] == [
        *("smarthome", "rationale", "--output", f"{folder}/rationale-2_rows/rationale_without-1.jsonl", "--fold=1"),
        *("--rationales", f"{folder}/rationale-2_rows/rationale.jsonl"),
    ]
    assert trained.files[1] == rows.leaves[0]


def test_rounds_start_from_the_model_that_the_first_one_started_from(ws: Path) -> None:
    made = shipped("rbft", arms={"turned": ["label", "rationale", "rationale"]})
    first, second = (step_of(made, f"train turned seed 0 {name}") for name in ("rationale", "rationale-2"))
    assert first.models == second.models == ("Qwen/Qwen2.5-VL-7B-Instruct", "runs/smarthome/turned/seed-0/label")
    assert step_of(made, "write turned seed 0 rationale-2").models[-1] == "runs/smarthome/turned/seed-0/rationale"


def test_one_quantized_adapter_that_is_continued_needs_no_merged_model(ws: Path) -> None:
    training = yaml.safe_load(Path("recipes/rbft.yaml").read_text())["training"]
    training |= {"overrides": {"quantization_bit": 4}, "adapters": "continue"}
    made = shipped("rbft", training=training, arms={"rbft": ["rationale", "label"]})
    assert not [s.name for s in made.steps if s.kind == "export"]


def test_a_step_knows_its_kind_arm_seed_stage_and_cell(ws: Path) -> None:
    made = shipped("rbft", sweep={"shots": [4]}, arms={"rbft": ["rationale", "label"]})
    assert [(s.kind, s.arm, s.seed, s.stage, s.cell) for s in made.steps] == [
        *(("prepare", None, None, None, ""), ("rationales", None, None, None, ""), ("collect", None, None, None, "")),
        *(("rows", None, None, None, "shots-4"), ("train", "rbft", 0, "rationale", "shots-4")),
        *(("rows", None, None, None, "shots-4"), ("train", "rbft", 0, "label", "shots-4")),
        *(("score", "rbft", 0, None, "shots-4"), ("score", "rbft", 0, None, "shots-4")),
        ("report", None, None, None, ""),
    ]


def hinted(**changes: Any) -> Plan:
    """The demo's plan with a stage of hinted rationales."""
    training = yaml.safe_load(Path("recipes/demo.yaml").read_text())["training"]
    training["stages"]["rationale"]["rows"] = "rationale_hinted"
    return shipped("demo", training=training, **changes)


def test_hinted_rationales_are_wanted_of_the_samples_with_a_label_alone(ws: Path) -> None:
    made = hinted()
    write_prepared("demo", train=[prepared_sample("a", "normal"), prepared_sample("b", None)])
    out = Path("runs/demo/rationales_hinted/base")
    out.mkdir(parents=True)
    (out / "1_results.json").touch()
    log = out / "1_samples_rbft_demo_rationale_hinted.jsonl"
    log.write_text('{"sample_id": "a"}\n')
    problems = step_of(made, "write hinted rationales").problems_after
    assert problems("") == []
    log.write_text('{"sample_id": "b"}\n')
    assert problems("") == ["it logged 1 of 1 samples; missing: a"]


def test_an_arm_may_be_scored_by_likelihood_and_without_the_video_in_the_same_start(ws: Path) -> None:
    made = shipped("demo", evaluation={"tasks": ["label", "ll", "novideo"], "args": {"use_cache": "mine"}})
    score = step_of(made, "score rbft seed 0")
    names = ["rbft_demo", "rbft_demo_ll", "rbft_demo_novideo"]
    assert score.argv[score.argv.index("--tasks") + 1] == ",".join(names)
    bases = ("_rbft_label_base.yaml", "_rbft_ll_base.yaml", "_rbft_novideo_base.yaml")
    assert [p.name for p in score.files] == ["test.jsonl", *(f"{name}.yaml" for name in names), *bases]
    write = step_of(made, "write rationales").argv
    assert write[write.index("--use_cache") :] == ["--use_cache", "mine"]
    write_prepared("demo", test=[prepared_sample("a")])
    out = Path("runs/demo/rbft/seed-0/eval/model")
    out.mkdir(parents=True)
    (out / "1_results.json").touch()
    for name in names[:2]:
        (out / f"1_samples_{name}.jsonl").write_text('{"sample_id": "a"}\n')
    assert score.problems_after("") == ["rbft_demo_novideo: it left 0 logs of samples and 1 files of results"]
    (out / "1_samples_rbft_demo_novideo.jsonl").write_text('{"sample_id": "a"}\n')
    assert score.problems_after("") == []


def test_what_each_step_reads_makes_and_goes_on_from(ws: Path) -> None:
    made = shipped("demo")
    data, run, tasks = Path("data/demo"), Path("runs/demo"), Path("task_configs")
    prepare, write, collect, *_, report = made.steps
    assert prepare.kind == "prepare" and prepare.output is None
    assert write.output == run / "rationales"
    assert write.files == (
        *(data / "train.jsonl", tasks / "rbft_demo_rationale.yaml", tasks / "_rbft_rationale_base.yaml"),
    )
    assert [(s.name, s.cache) for s in made.steps if s.cache] == [("write rationales", run / "rationales.cache")]
    score = step_of(made, "score rbft seed 0")
    assert score.files == (data / "test.jsonl", tasks / "rbft_demo.yaml", tasks / "_rbft_label_base.yaml")
    assert (collect.files, collect.leaves) == (
        *((run / "rationales", data / "train.jsonl"), (run / "rows/rationale.jsonl",)),
    )
    assert step_of(made, "train rbft seed 0 rationale").files == (
        *(Path("recipes/stage1.yaml"), run / "rows/rationale.jsonl"),
    )
    assert step_of(made, "train rbft seed 0 label").files == (Path("recipes/stage2.yaml"), data / "label.jsonl")
    assert report.leaves == (run / "report/report.json",)
    assert report.files[:3] == tuple(run / f"{arm}/seed-0/eval" for arm in ("zero_shot", "direct_sft", "rbft"))
    assert not [s.name for s in made.steps if s.resumable]  # see training.resumable
    lora = shipped("rbft").steps
    assert [s.name for s in lora if s.resumable] == [s.name for s in lora if s.name.startswith("train ")]


def test_inputs_are_the_command_and_the_content_of_files_logs_and_models(ws: Path) -> None:
    Path("rows.jsonl").write_bytes(b"rows")
    log = Path("out/model/2026_samples_rbft_mine.jsonl")
    log.parent.mkdir(parents=True)
    log.write_bytes(b"log")
    read = (Path("rows.jsonl"), Path("out"), Path("gone"))
    made = Step("a", "train", ["x"], files=read, model=Checkpoint("Qwen/Qwen2.5-VL-7B"))
    digest = {word: hashlib.sha256(word.encode()).hexdigest() for word in ("rows", "log", "missing")}
    inputs = Inputs(
        argv=("x",),
        files={"rows.jsonl": digest["rows"], "out": digest["log"], "gone": digest["missing"]},
        models={"Qwen/Qwen2.5-VL-7B": "hub:Qwen/Qwen2.5-VL-7B"},
    )
    assert made.inputs() == inputs
    (log.parent / "2026_results.json").write_text("{}")  # holds times, which differ from run to run
    assert made.inputs() == inputs
    log.write_bytes(b"another")
    assert made.inputs() != inputs


def test_a_dataset_that_is_not_prepared_stops_a_training_before_it_starts(ws: Path) -> None:
    with pytest.raises(RbftError, match=r"^data/demo/manifest\.json is missing: run `rbft prepare demo` first$"):
        step_of(shipped("demo"), "train direct_sft seed 0 label").problems_before()


@pytest.fixture
def prepared(ws: Path) -> Plan:
    """The demo's plan on a small prepared dataset."""
    small_dataset("mine", {"train": 2, "val": 2, "test": 2})
    prepare(load("mine"), lambda items, total, text: items)
    return shipped("demo", dataset="mine")


def test_training_refuses_a_recipe_that_would_shrink_the_clips(prepared: Plan) -> None:
    assert step_of(prepared, "train direct_sft seed 0 label").problems_before() == []
    training = prepared.recipe.training.model_dump(mode="json")
    training["overrides"]["video_max_pixels"] = 1000
    worse = shipped("demo", dataset="mine", training=training)
    assert step_of(worse, "train direct_sft seed 0 label").problems_before() == [
        "training.stages.label: video_max_pixels must be a number at least 3136 (the pixels of the largest clip), "
        "not 1000"
    ]


@pytest.mark.torch
def test_every_step_of_a_harness_refuses_clips_that_the_model_would_see_otherwise(ws: Path) -> None:
    clips = {"frames": 8, "max_fps": 2, "max_pixels": 12544, "multiple": 28}
    small_dataset("mine", {"train": 2, "val": 2, "test": 2}, clips=clips)
    prepare(load("mine"), lambda items, total, text: items)
    made = shipped("demo", dataset="mine", base_model=str(BASE))  # takes no 112 x 112 pixels
    for name in ("write rationales", "score zero_shot seed 0", "train direct_sft seed 0 label"):
        said = problems(made, name)
        assert f"{BASE}'s processor makes 56x56 of them, since it takes 3136 to 4704 pixels" in said[0]
        assert [line.split(":")[0] for line in said[:2]] == [f"clips of {n} frames, 112x112" for n in (6, 8)]
    small_dataset("mine", {"train": 2, "val": 2, "test": 2})
    prepare(load("mine"), lambda items, total, text: items)
    made = shipped("demo", dataset="mine", base_model=str(BASE))
    for name in ("write rationales", "score zero_shot seed 0", "train direct_sft seed 0 label"):
        assert problems(made, name) == []


def problems(made: Plan, name: str) -> list[str]:
    step = step_of(made, name)
    return [*step.problems_before(), *step.problems_beside()]


def refused(made: Plan) -> list[str]:
    return step_of(made, "train direct_sft seed 0 label").problems_before()


@pytest.mark.torch
def test_training_refuses_rows_and_media_that_are_not_as_they_were(prepared: Plan) -> None:
    file = Path("data/mine/label.jsonl")
    rows = read_jsonl(file)
    clip = Path(rows[1]["videos"][0])
    clip.rename("elsewhere.mp4")
    assert refused(prepared) == [f"row 2 (id 'train1'): no such clip: {clip}"]
    clip.write_bytes(Path("elsewhere.mp4").read_bytes()[:100])
    assert refused(prepared)[0].startswith(f"row 2 (id 'train1'): {clip} cannot be opened")
    Path("elsewhere.mp4").replace(clip)
    assert refused(prepared) == []
    rows[0]["messages"][1]["content"] = " "
    write_jsonl(file, [*rows, {"videos": []}])
    assert refused(prepared) == [
        *("row 1 (id 'train0'): a message is empty", "row 3: must have 'messages' and 'videos'"),
    ]
    file.write_text("")
    assert refused(prepared) == ["there are no rows"]
    file.unlink()
    assert refused(prepared) == ["data/mine/label.jsonl is missing"]


@pytest.mark.torch
def test_training_refuses_rows_for_validation_that_cannot_be_used(prepared: Plan) -> None:
    training = prepared.recipe.training.model_dump(mode="json")

    def of(name: str) -> Plan:
        training["overrides"] |= {"eval_dataset": name, "eval_strategy": "steps"}
        return shipped("demo", dataset="mine", training=training)

    file = Path("data/mine/label_val.jsonl")
    made = of("mine_label_val")
    assert file in step_of(made, "train direct_sft seed 0 label").files
    assert refused(made) == []
    assert refused(of("theirs")) == ["eval_dataset theirs: dataset_info/dataset_info.json names no file for it"]
    file.write_text("{}\n")
    assert refused(made) == ["eval_dataset mine_label_val: row 1: must have 'messages' and 'videos'"]
    file.unlink()
    assert refused(made) == ["eval_dataset mine_label_val: data/mine/label_val.jsonl is missing"]


@pytest.mark.torch
def test_training_refuses_rows_that_are_too_long_by_one_token(prepared: Plan) -> None:
    shutil.copytree(BASE, prepared.recipe.base_model)  # as the demo makes it
    given = read_training_rows(Path("data/mine/label.jsonl"))
    long, short = (fit.run_tokens(prepared.recipe.base_model, [row]) for row in (given[1], given[0]))
    assert long and short and long > short
    training = prepared.recipe.training.model_dump(mode="json")

    def at(cutoff: int) -> list[str]:
        training["overrides"]["cutoff_len"] = cutoff
        return refused(shipped("demo", dataset="mine", training=training))

    assert at(long) == []
    cut = f"training.stages.label silently cuts at {{}}; cutoff_len: {long} would hold every sample"
    assert at(long - 1) == [f"row 2 (id 'train1'): {long} tokens, and {cut.format(long - 1)}"]
    assert at(short - 1) == [
        f"row 1 (id 'train0'): {short} tokens, and {cut.format(short - 1)}",
        f"row 2 (id 'train1'): {long} tokens, and {cut.format(short - 1)}",
    ]


def test_a_score_without_results_has_failed(prepared: Plan) -> None:
    score = step_of(prepared, "score zero_shot seed 0")
    assert len(score.problems_after("")) == 1
    ids = [row["id"] for row in read_jsonl(Path("data/mine/test.jsonl"))]
    assert score.output is not None
    score.output.mkdir(parents=True)
    (score.output / "x_results.json").write_text("{}")
    (score.output / "x_samples_rbft_mine.jsonl").write_text("".join(f'{{"sample_id": "{i}"}}\n' for i in ids))
    assert score.problems_after("") == []


def test_a_trained_arm_is_scored_on_labelled_samples_that_it_trained_on(ws: Path) -> None:
    arms = {"zero": [], "told": ["rationale"], "turned": ["label", "rationale"], "rbft": ["rationale", "label"]}
    made = shipped("rbft", arms=arms, sweep={"shots": [2]})
    fits = {one.arm: one.fit for one in made.scored}
    folder, rows = Path("runs/smarthome/shots-2"), Path("runs/smarthome/shots-2/rows/label_seed-0.jsonl")
    losses = folder / "rbft/seed-0/label/trainer_log.jsonl"
    assert fits == {
        "zero": None,
        "told": None,
        "turned": PlannedFit(output=folder / "turned/seed-0/eval_train"),  # its labels are not what it learned last
        "rbft": PlannedFit(output=folder / "rbft/seed-0/eval_train", losses=losses),
    }
    step = step_of(made, "score shots-2/rbft seed 0 on its training samples")
    assert step.argv[:3] == ["env", f"RBFT_SAMPLES={rows}", "lmms-eval"] and step.argv[-2:] == ["--limit", "200"]
    assert rows in step.files and Path("data/smarthome/train.jsonl") in step.files
    assert {s.name for s in made.steps if step.needs(s)} == {
        *("prepare smarthome", "rows shots-2/label_seed-0"),
        *("train shots-2/told seed 0 rationale", "train shots-2/rbft seed 0 label"),
    }
    none = shipped("rbft", arms=arms, evaluation={"fit": 0})
    assert not [s.name for s in none.steps if s.split == "train" and s.kind == "score"]


def test_the_loss_of_a_checkpoint_and_of_other_rows(ws: Path) -> None:
    training = yaml.safe_load(Path("recipes/rbft.yaml").read_text())["training"]
    label = training["stages"]["label"] | {"checkpoint": 50, "overrides": {"save_total_limit": None}}
    training["stages"] |= {"label": label, "even": training["stages"]["label"] | {"rows": "label_balanced"}}
    made = shipped("rbft", training=training, arms={"direct_sft": ["label"], "even": ["even"]})
    out = Path("runs/smarthome/direct_sft/seed-0")
    assert [one.fit for one in made.scored] == [
        PlannedFit(output=out / "eval_train", losses=out / "label/trainer_log.jsonl", checkpoint=50),
        PlannedFit(output=Path("runs/smarthome/even/seed-0/eval_train")),
    ]
    label["overrides"] |= {"train_on_prompt": True}
    (fit,) = [one.fit for one in shipped("rbft", training=training, arms={"direct_sft": ["label"]}).scored]
    assert fit == PlannedFit(output=out / "eval_train")


def test_scored_training_samples_are_those_of_the_task(prepared: Plan) -> None:
    settings = prepared.recipe.evaluation.model_copy(update={"fit": 1})
    made = plan.make(prepared.recipe.model_copy(update={"evaluation": settings}), prepared.dataset)
    score = step_of(made, "score direct_sft seed 0 on its training samples")
    first, second = evaluation.chosen_samples(["train0", "train1"], Path("data/mine/label.jsonl"))
    assert score.output is not None
    score.output.mkdir(parents=True)
    (score.output / "x_results.json").write_text("{}")
    log = score.output / "x_samples_rbft_mine_train.jsonl"
    log.write_text(f'{{"sample_id": "{second}"}}\n')
    assert score.problems_after("") == [f"it logged 1 of 1 samples; missing: {first}"]
    log.write_text(f'{{"sample_id": "{first}"}}\n')
    assert score.problems_after("") == []


def test_a_finished_training_says_what_its_model_consists_of(prepared: Plan) -> None:
    train = step_of(prepared, "train direct_sft seed 0 label")
    assert train.output is not None
    (train.output / "checkpoint-5").mkdir(parents=True)
    train.finish()
    assert [p.name for p in train.output.iterdir()] == ["rbft.json"]
    assert '"base": "runs/demo/direct_sft/seed-0/label"' in (train.output / "rbft.json").read_text()


def test_a_model_of_all_weights_and_an_exported_one_get_their_bases_files(prepared: Plan) -> None:
    shutil.copytree(BASE, "data/demo/base")
    training = prepared.recipe.training.model_dump(mode="json")
    training["overrides"] |= {"finetuning_type": "lora"}
    lora = shipped("demo", dataset="mine", training=training | {"export": True})
    for made, name, kept in (
        (prepared, "train direct_sft seed 0 label", True),
        (lora, "train direct_sft seed 0 label", False),
        (lora, "export direct_sft seed 0", True),
    ):
        step = step_of(made, name)
        assert step.output is not None
        shutil.rmtree(step.output, ignore_errors=True)
        step.output.mkdir(parents=True)
        (step.output / "config.json").write_text('{"dtype": "bfloat16"}')
        step.finish()
        assert (
            (step.output / "tokenizer.json").is_file(),
            "model_type" in (step.output / "config.json").read_text(),
        ) == (*(kept, kept),)


def test_an_evaluation_runs_with_the_fingerprint_that_its_model_has_then(ws: Path) -> None:
    argv = ["env", "A=1", "lmms-eval", "--model_args", "pretrained=base,adapters=a", "--tasks", "t"]
    for name in ("base", "a"):
        Path(name).mkdir(exist_ok=True)
        Path(name, "weights").write_text(name)
    step = Step("score", "score", argv, model=Checkpoint("base", ("a",)))
    first = Checkpoint("base", ("a",)).fingerprint()
    assert step.command() == [*argv[:4], f"pretrained=base,adapters=a,fingerprint={first}", "--tasks", "t"]
    Path("a/weights").write_text("trained anew")
    assert step.command()[4] == f"pretrained=base,adapters=a,fingerprint={Checkpoint('base', ('a',)).fingerprint()}"
    assert step.command()[4] != first
    assert list(step.inputs().argv) == argv
    train = Step("train", "train", ["llamafactory-cli", "train"], model=Checkpoint("base"))
    assert train.command() == train.argv


# --- sweeps, derived rows, other adapters, many processes ---


def test_steps_wait_for_what_they_read(ws: Path) -> None:
    made = shipped("demo")
    needs = {s.name: [o.name for o in made.steps if s.needs(o)] for s in made.steps}
    assert needs == {
        "prepare demo": [],
        "write rationales": ["prepare demo"],
        "collect rationales": ["prepare demo", "write rationales"],
        "score zero_shot seed 0": ["prepare demo"],
        "train direct_sft seed 0 label": ["prepare demo"],
        "score direct_sft seed 0": ["prepare demo", "train direct_sft seed 0 label"],
        "score direct_sft seed 0 on its training samples": ["prepare demo", "train direct_sft seed 0 label"],
        "train rbft seed 0 rationale": ["prepare demo", "collect rationales"],
        "train rbft seed 0 label": ["prepare demo", "train rbft seed 0 rationale"],
        "score rbft seed 0": ["prepare demo", "train rbft seed 0 label"],
        "score rbft seed 0 on its training samples": ["prepare demo", "train rbft seed 0 label"],
        "report": [
            *("prepare demo", "score zero_shot seed 0", "score direct_sft seed 0"),
            *("score direct_sft seed 0 on its training samples", "score rbft seed 0"),
            "score rbft seed 0 on its training samples",
        ],
    }


RATE = "training.stages.label.overrides.learning_rate"


STAGE1 = "training.stages.rationale"
SWEEPS: list[dict[str, list[Any]]] = [
    {"shots": [4, 8]},
    {"train_fraction": [0.5, 1.0]},
    {"base_model": ["a", "b"]},
    {RATE: [1e-4, 2e-4]},
    {"training.stages.rationale.overrides.max_steps": [10, 20]},
    {"training.stages.rationale.rows": ["rationale", "rationale_hinted"]},
    {"training.stages.rationale.samples": ["all", "labelled"]},
    {"training.adapters": ["fresh", "continue"]},
    {"training.overrides.lora_rank": [4, 8]},
    {"filters.min_words": [3, 9]},
    {"evaluation.tasks": [["label"], ["label", "ll"]]},
    {"evaluation.args": [{}, {"gen_kwargs": "max_new_tokens=9"}]},
    {"shots": [4, 8], "base_model": ["a", "b"], RATE: [1e-4, 2e-4], "filters.min_words": [3, 9]},
]


@pytest.mark.parametrize("sweep", SWEEPS, ids=str)
def test_a_further_value_moves_and_repeats_nothing(ws: Path, sweep: dict[str, list[Any]]) -> None:
    """Put before the others, where a sorted list gets a smaller one."""
    arms = {"zero": [], "direct": ["label"], "rbft": ["rationale", "label"]}
    arms |= {"again": ["rationale", "rationale"], "rounds": ["rationale", "rationale", "label"]}
    if sweep.get(f"{STAGE1}.rows"):  # only plain rationales have rounds
        arms |= {"again": ["rationale"], "rounds": ["label", "rationale"]}
    full = shipped("rbft", arms=arms, sweep=sweep, seeds=[0, 1])
    part = shipped("rbft", arms=arms, sweep={key: values[1:] for key, values in sweep.items()}, seeds=[0, 1])
    assert [s.argv for s in part.steps if s.argv not in [o.argv for o in full.steps]] == []
    assert len(full.scored) == 9 * 2 ** len(sweep) and len(part.steps) < len(full.steps)
    for of in (lambda s: s.name, lambda s: slug(s.name), lambda s: s.output, lambda s: s.leaves):
        made = [found for s in full.steps if (found := of(s))]
        assert len(set(made)) == len(made)


def test_with_folds_each_arm_is_trained_without_each_fold_and_scored_on_it(ws: Path) -> None:
    path = Path("dataset_info/smarthome.yaml")
    content = yaml.safe_load(path.read_text()) | {"splits": {"folds": 2}}
    path.write_text(yaml.safe_dump(content))
    made = shipped("rbft", arms={"zero_shot": [], "rbft": ["rationale", "label"]}, evaluation={"fit": 0}, shots=4)
    assert [step.name for step in made.steps] == [
        *("prepare smarthome", "write rationales", "collect rationales", "score zero_shot seed 0"),
        "rows rationale_seed-0_without-0",
        "train rbft seed 0 without fold 0 rationale",
        "rows label_seed-0_without-0",
        *("train rbft seed 0 without fold 0 label", "score rbft seed 0 without fold 0 on fold 0"),
        "rows rationale_seed-0_without-1",
        "train rbft seed 0 without fold 1 rationale",
        "rows label_seed-0_without-1",
        *("train rbft seed 0 without fold 1 label", "score rbft seed 0 without fold 1 on fold 1"),
        "report",
    ]
    assert argv_of(made, "rows label_seed-0_without-1")[2:] == [
        *("smarthome", "label", "--output", "runs/smarthome/rows/label_seed-0_without-1.jsonl"),
        *("--shots=4", "--fold=1", "--seed=0"),
    ]
    scored = step_of(made, "score rbft seed 0 without fold 1 on fold 1")
    models = "runs/smarthome/rbft/seed-0/without-1"
    assert scored.model and scored.model.adapters == (f"{models}/rationale", f"{models}/label")
    assert scored.argv[scored.argv.index("--tasks") + 1] == "rbft_smarthome_fold1"
    assert [(one.arm, one.fold, one.output.as_posix()) for one in made.scored] == [
        ("zero_shot", None, "runs/smarthome/zero_shot/seed-0/eval"),
        ("rbft", 0, "runs/smarthome/rbft/seed-0/without-0/eval_fold0"),
        ("rbft", 1, f"{models}/eval_fold1"),
    ]
    assert argv_of(made, "report")[2:] == ["runs/smarthome"]
    some = shipped("rbft", arms={"zero_shot": [], "rbft": ["rationale", "label"]}, select=None, folds=[1])
    assert [step.name for step in some.steps if step.kind == "score" and not step.most] == [
        *("score zero_shot seed 0", "score rbft seed 0 without fold 1 on fold 1"),
    ]
    # the answers to the other folds are not there
    assert argv_of(some, "report")[2:] == ["runs/smarthome", "--intersect"]
