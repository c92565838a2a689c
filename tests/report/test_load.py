"""comparison: outputs of lmms-eval on disk -> the report's input, in the right order and with the right seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import prepared_sample, write_prepared

from rbft_plugin.cli import main as cli
from rbft_plugin.errors import RbftError
from rbft_plugin.report import build, markdown
from rbft_plugin.report import load as comparison
from rbft_plugin.report.evaluations import Fit
from rbft_plugin.run import layout, records
from rbft_plugin.run.environment import versions
from rbft_plugin.run.records import PlannedEvaluation, PlannedFit, PlanRecord, StepRecord

STAMP = "20260101_000000"
SCORED_ONCE = "The test split of mine has been scored once in this workspace, by hand; this report shows this one."


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a prepared test split of two samples."""
    monkeypatch.chdir(tmp_path)
    write_prepared(test=[prepared_sample("a", "calm"), prepared_sample("b", "busy")])
    return tmp_path


def score(
    folder: str, *predictions: str | None, model: str = "pretrained=Qwen/base", ids: str = "ab", task: str = "rbft_mine"
) -> str:
    """What an evaluation of both samples leaves in a folder."""
    Path(folder, "model").mkdir(parents=True)
    rows = [{"sample_id": n, "prediction": p, "filtered_resps": f"{p}!"} for n, p in zip(ids, predictions, strict=True)]
    log = Path(folder, "model", f"{STAMP}_samples_{task}.jsonl")
    log.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    results = {"config": {"model_args": model}}
    log.with_name(f"{STAMP}_results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def record(arm: str, seed: int, began: float) -> None:
    """The runner's record of a step that scored a model."""
    step = StepRecord(name=f"score {arm} seed {seed}", kind="score", arm=arm, seed=seed, began=began)
    records.write(layout.record_file(Path("runs/r"), step.name), step)


def gathered(*given: str) -> list[tuple[str, int, tuple[str | None, ...]]]:
    return [(one.arm, one.seed, one.predictions) for one in comparison.gather(list(given)).evaluations]


def said(*given: str) -> str:
    with pytest.raises(RbftError) as raised:
        comparison.gather(list(given))
    return str(raised.value)


def test_outputs_by_hand_are_read_and_named_by_their_arms() -> None:
    score("zs", "busy", None)
    score("ft", "calm", "busy", model="pretrained=ft")
    found = comparison.gather(["zero_shot=zs", "rbft=ft"])
    evaluations, extra = found.evaluations, found.origin
    assert [(e.arm, e.seed, e.predictions) for e in evaluations] == [
        ("zero_shot", 0, ("busy", None)),
        ("rbft", 0, ("calm", "busy")),
    ]
    assert {e.dataset for e in evaluations} == {"mine"} and evaluations[0].targets == ("calm", "busy")
    assert evaluations[0].answers == ("busy!", "None!")
    assert extra.models == {"zero_shot": "pretrained=Qwen/base", "rbft": "pretrained=ft"}
    assert extra.versions == versions()
    assert found.folder == Path("report")


def test_logs_of_another_split_are_read_with_its_labelled_samples() -> None:
    train = [prepared_sample("c", "busy"), prepared_sample("e", None), prepared_sample("d", "calm")]
    write_prepared(train=train, val=[prepared_sample("v", "busy")], test=[prepared_sample("a", "calm")])
    score("on_train", "busy", "busy", ids="cd", task="rbft_mine_train")
    found = comparison.gather(["rbft=on_train"])
    (one,) = found.evaluations
    assert (one.split, one.ids, one.targets) == ("train", ("c", "d"), ("busy", "calm"))
    assert {video.split for video in found.videos} == {"train"}
    report = build.summarize(found.evaluations, found.origin)
    assert (report.split, report.title, report.n_test) == ("train", "mine, training clips", 2)
    assert report.notes[0] == "These figures are of the training clips, not of the test clips."
    assert "test clip" not in " ".join(report.notes[1:])
    assert markdown.markdown(report, found.evaluations).startswith("# Report: mine, training clips\n")
    score("on_val", "busy", ids="v", task="rbft_mine_val")
    assert [one.split for one in comparison.gather(["rbft=on_val"]).evaluations] == ["val"]
    log = f"model/{STAMP}_samples_rbft_mine"
    assert said("rbft=on_train", "zs=on_val") == (
        "evaluations of different splits: 2 problems\n"
        f"  - rbft, seed 0 (on_train/{log}_train.jsonl): train\n"
        f"  - zs, seed 0 (on_val/{log}_val.jsonl): val\n"
        "Report on one split at a time."
    )


def test_likelihoods_of_another_split_lie_beside_its_answers() -> None:
    write_prepared(val=[prepared_sample("v", "busy")], test=[prepared_sample("a", "calm")])
    score("on_val", "busy", ids="v", task="rbft_mine_val")
    beside = Path("on_val/model", f"{STAMP}_samples_rbft_mine_ll_val.jsonl")
    row = {"sample_id": "v", "prediction": "calm", "probabilities": {"calm": 0.75, "busy": 0.25}}
    beside.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (one,) = comparison.gather(["rbft=on_val"]).evaluations
    assert one.predictions == ("busy",) and one.probabilities == ((0.75, 0.25),)


def test_folds_by_hand_are_pooled_and_one_model_for_several_is_said() -> None:
    """The report cannot know on what a model was trained that `rbft run` did not train."""
    for fold, sample in enumerate("ab"):
        score(f"apart/fold{fold}", "calm", model=f"pretrained=m{fold}", ids=sample, task=f"rbft_mine_fold{fold}")
        score(f"same/fold{fold}", "busy", model="pretrained=m", ids=sample, task=f"rbft_mine_fold{fold}")
    found = comparison.gather(["ours=apart", "theirs=same"])
    assert [(one.arm, one.ids, one.predictions, one.folds) for one in found.evaluations] == [
        ("ours", ("a", "b"), ("calm", "calm"), 2),
        ("theirs", ("a", "b"), ("busy", "busy"), 2),
    ]
    assert found.origin.models == {
        **{f"ours, fold {fold}": f"pretrained=m{fold}" for fold in (0, 1)},
        **{f"theirs, fold {fold}": "pretrained=m" for fold in (0, 1)},
    }
    assert [note for note in found.origin.notes if "several folds" in note] == [
        "One and the same model answered several folds: theirs, seed 0. If it was trained on labels of this dataset, "
        "it has seen those of clips that it answers here, and its figures are too high. Train one for each fold "
        "(`rbft rows --fold`)."
    ]
    Path("apart/fold1/model").rename("apart/gone")
    assert "ours, seed 0: 2 samples" not in (message := said("ours=apart/fold0"))
    assert "ours, seed 0: 1 samples; lacks 1 ('b')" in message


def test_a_second_output_of_an_arm_is_its_second_seed() -> None:
    for name in "xyz":
        score(name, "calm", "busy", model=f"pretrained={name}")
    assert [(arm, seed) for arm, seed, _ in gathered("rbft=x", "sft=y", "rbft=z")] == [
        ("rbft", 0),
        ("sft", 0),
        ("rbft", 1),
    ]
    assert comparison.gather(["rbft=x", "rbft=z"]).origin.models == {
        "rbft, seed 0": "pretrained=x",
        "rbft, seed 1": "pretrained=z",
    }


@pytest.mark.parametrize(
    ("folder", "seed"),
    [("seed-3", 3), ("a/seed-12/eval", 12), ("a/my-seed-3", 0), ("a/seed-3b", 0), ("seeds/seed-x", 0)],
)
def test_a_seed_that_the_path_names_is_the_seed(folder: str, seed: int) -> None:
    score(folder, "calm", "busy")
    assert gathered(f"rbft={folder}")[0][:2] == ("rbft", seed)


def test_a_run_is_all_its_evaluations_by_when_their_arms_were_first_scored() -> None:
    for arm, seed in [("rbft", 0), ("rbft", 1), ("direct_sft", 0), ("zero_shot", 0), ("by_hand", 0)]:
        score(f"runs/r/{arm}/seed-{seed}/eval", "calm", "busy")
    record("zero_shot", 0, 1.0)
    record("rbft", 0, 2.0)
    record("direct_sft", 0, 3.0)
    record("rbft", 1, 4.0)
    Path("runs/r/steps/score-rbft-seed-2.started.json").write_text('{"inputs": {}}', encoding="utf-8")
    assert [(arm, seed) for arm, seed, _ in gathered("runs/r")] == [
        *(("zero_shot", 0), ("rbft", 0), ("rbft", 1), ("direct_sft", 0), ("by_hand", 0)),
    ]
    assert comparison.gather(["runs/r"]).folder == Path("runs/r/report")


def test_a_run_has_the_fits_that_it_planned_and_says_which_are_not_there() -> None:
    scored = []
    for seed in (0, 1):
        folder = f"runs/r/rbft/seed-{seed}"
        score(f"{folder}/eval", "calm", "busy")
        own = PlannedFit(output=Path(f"{folder}/eval_train"), losses=Path(f"{folder}/label/trainer_log.jsonl"))
        scored.append(
            PlannedEvaluation(cell="", values={}, arm="rbft", seed=seed, output=Path(f"{folder}/eval"), fit=own)
        )
    records.write(layout.plan_file(Path("runs/r")), PlanRecord(arms=("rbft",), scored=tuple(scored)))
    score("runs/r/rbft/seed-0/eval_train", "calm", "busy", ids="cd", task="rbft_mine_train")
    log = next(Path("runs/r/rbft/seed-0/eval_train").rglob("*_samples_*"))
    rows = [json.loads(line) | {"target": "calm"} for line in log.read_text(encoding="utf-8").splitlines()]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    losses = Path("runs/r/rbft/seed-0/label/trainer_log.jsonl")
    losses.parent.mkdir()
    losses.write_text('{"current_steps": 5, "loss": 0.25}\n', encoding="utf-8")
    found = comparison.gather(["runs/r"])
    assert [(one.seed, one.split, one.fit) for one in found.evaluations] == [
        *((0, "test", Fit(1, 2, 1.0, 0.25)), (1, "test", None)),
    ]
    assert "Not scored on its own training samples: rbft, seed 1." in found.origin.notes
    Path("runs/r").rename("runs/moved")
    assert comparison.gather(["runs/moved"]).evaluations[0].fit == Fit(1, 2, 1.0, 0.25)


def test_a_run_and_an_output_by_hand_go_together_into_a_report_beside_both() -> None:
    score("runs/r/rbft/seed-0/eval", "calm", "busy")
    score("other", "busy", "busy")
    assert [arm for arm, _, _ in gathered("runs/r", "other=other")] == ["rbft", "other"]
    assert comparison.gather(["runs/r", "other=other"]).folder == Path("report")


def test_a_folder_that_is_no_run_is_refused() -> None:
    score("runs/r/rbft/eval", "calm", "busy")
    for folder in ("runs/r", "nowhere"):
        assert said(folder) == (
            f"{folder}: no evaluations (ARM/seed-N/eval) below it; give a run's folder, or ARM=OUTPUT"
        )


def test_an_output_that_is_not_there_or_without_a_log_is_refused() -> None:
    assert said("rbft=nowhere") == "nowhere: no such file or folder"
    Path("empty").mkdir()
    assert said("rbft=empty") == (
        "empty: needs one log of answers (*_samples_rbft_*.jsonl); was lmms-eval run with --log_samples, and did it "
        "finish? There are:\n  - none"
    )


def test_an_output_of_a_dataset_that_is_not_prepared_is_refused() -> None:
    score("ft", "calm", "busy")
    Path("data/mine/manifest.json").unlink()
    assert said("rbft=ft") == "data/mine/manifest.json is missing: run `rbft prepare mine` first"


def test_what_is_gathered_is_what_the_report_takes() -> None:
    from rbft_plugin.report import build as report

    score("zs", "busy", None)
    score("ft", "calm", "busy")
    found = comparison.gather(["zero_shot=zs", "rbft=ft"])
    made = report.summarize(found.evaluations, found.origin)
    assert made.models == found.origin.models
    assert [video.id for video in found.videos] == ["a", "b"]
    assert list(made.arms) == ["zero_shot", "rbft"]


def test_arms_of_two_runs_that_share_a_name_are_told_apart_by_their_runs() -> None:
    for run in ("runs/one", "runs/two"):
        score(f"{run}/rbft/seed-0/eval", "calm", "busy")
    score("runs/two/zero_shot/seed-0/eval", "busy", "busy")
    assert [arm for arm, _, _ in gathered("runs/one", "runs/two/")] == ["one/rbft", "two/rbft", "zero_shot"]
    score("else/two/rbft/seed-0/eval", "calm", "calm")
    found = comparison.gather(["runs/two", "else/two"])
    assert [one.arm for one in found.evaluations] == ["runs/two/rbft", "zero_shot", "else/two/rbft"]
    assert found.folder == Path("report")


def test_unequal_samples_are_refused_with_the_difference_or_intersected_and_said() -> None:
    score("all", "calm", "busy")
    score("some", "calm", ids="a")
    score("other", "calm", "busy", "busy", ids="abx")
    given = ["zero_shot=all", "sft=some", "rbft=other"]
    assert said(*given) == (
        "samples that are not those of the prepared test split (2 samples): 2 problems\n"
        "  - sft, seed 0: 1 samples; lacks 1 ('b')\n"
        "  - rbft, seed 0: 3 samples; has others: 1 ('x')\n"
        "Score the models again, or compare on the samples that all have (1), with --intersect."
    )
    found = comparison.gather(given, intersect=True)
    assert [(one.ids, one.targets, one.predictions) for one in found.evaluations] == [
        (("a",), ("calm",), ("calm",))
    ] * 3
    assert found.origin.notes == [
        "Only 1 of 2 test clips are compared, those that every evaluation has (--intersect). sft, seed 0: 1 samples; "
        "lacks 1 ('b'), rbft, seed 0: 3 samples; has others: 1 ('x')",
        "The test split of mine has been scored 3 times in this workspace, by hand; this report shows all of them.",
    ]
    score("rest", "busy", ids="b")
    with pytest.raises(RbftError, match=r"There is no sample that all of them have\.$"):
        comparison.gather(["sft=some", "rbft=rest"], intersect=True)


def test_the_terminal_says_what_was_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    score("all", "calm", "busy")
    score("some", "calm", ids="a")
    Path("dataset_info").mkdir()
    cli.report(["zero_shot=all", "sft=some"], output=Path("out"), dataset=None, intersect=True)
    said = capsys.readouterr().out
    assert "\nnote: Only 1 of 2 test clips are compared, those that every evaluation has (--intersect)." in said


def test_equal_samples_have_no_note_with_intersect() -> None:
    score("all", "calm", "busy")
    assert comparison.gather(["zero_shot=all"], intersect=True).origin.notes == [SCORED_ONCE]


def foreign(folder: str, *rows: tuple[int, str, str], task: str = "theirs") -> str:
    """A log of another task: (doc_id, target, answer)."""
    Path(folder).mkdir(parents=True)
    lines = [json.dumps({"doc_id": n, "target": target, "resps": [[said]]}) + "\n" for n, target, said in rows]
    Path(folder, f"{STAMP}_samples_{task}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


def test_a_log_of_another_task_on_the_same_clips_is_one_more_arm() -> None:
    score("ft", "calm", "busy")
    foreign("gpt", (1, "Busy", "It is BUSY."), (0, "calm", "Hard to say."))
    one = comparison.gather(["rbft=ft", "gpt=gpt"]).evaluations[1]
    assert (one.ids, one.predictions, one.answers) == (("a", "b"), (None, "busy"), ("Hard to say.", "It is BUSY."))
    assert (one.labels, one.dataset, one.probabilities) == (("calm", "busy"), "mine", None)
    assert gathered("rbft=ft", f"gpt=gpt/{STAMP}_samples_theirs.jsonl")[1][0] == "gpt"


def test_another_task_alone_needs_the_name_of_the_dataset() -> None:
    foreign("gpt", (0, "calm", "calm"), (1, "busy", "busy"))
    assert said("gpt=gpt") == "no log is of a task of rbft: name the dataset with --dataset NAME"
    assert comparison.gather(["gpt=gpt"], dataset="mine").evaluations[0].predictions == ("calm", "busy")


def test_another_task_on_other_clips_is_refused() -> None:
    score("ft", "calm", "busy")
    log = f"{STAMP}_samples_theirs.jsonl"
    foreign("gpt", (0, "calm", "calm"), (1, "B", "B"))
    assert said("rbft=ft", "gpt=gpt") == (
        f"gpt/{log}: doc_id 1 has the target 'B', but sample 1 of the prepared test split ('b') has 'busy'; a log of "
        "another task has to be of the same clips in the same order, with our labels as targets"
    )
    foreign("more", (2, "calm", "calm"))
    assert said("rbft=ft", "gpt=more") == f"more/{log}: doc_id 2, but the prepared test split has 2 samples"


def test_logs_of_two_datasets_are_refused_and_one_is_chosen_by_name() -> None:
    score("ft", "calm", "busy")
    score("other", "calm", "busy", task="rbft_else")
    assert said("rbft=ft", "sft=other") == (
        "evaluations of different datasets: 2 problems\n"
        f"  - rbft, seed 0 (ft/model/{STAMP}_samples_rbft_mine.jsonl): mine\n"
        f"  - sft, seed 0 (other/model/{STAMP}_samples_rbft_else.jsonl): else\n"
        "Report on one dataset at a time."
    )
    with pytest.raises(RbftError, match=r"2 problems\n.*: mine\n  - --dataset: else\nReport on one"):
        comparison.gather(["rbft=ft"], dataset="else")
    both = Path("ft/model", f"{STAMP}_samples_rbft_else.jsonl")
    both.write_text(Path("other/model", both.name).read_text(encoding="utf-8"), encoding="utf-8")
    assert said("rbft=ft").startswith("ft: needs one log of answers")
    assert comparison.gather(["rbft=ft"], dataset="mine").evaluations[0].dataset == "mine"


def test_probabilities_are_taken_in_the_order_of_labels_where_every_sample_has_them() -> None:
    score("ll", "calm", "busy", task="rbft_mine_ll")
    log = Path("ll/model", f"{STAMP}_samples_rbft_mine_ll.jsonl")
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    rows[0]["probabilities"], rows[1]["probabilities"] = {"busy": 0.25, "calm": 0.75}, {"busy": 0.5, "calm": 0.5}
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (one,) = comparison.gather(["rbft=ll"]).evaluations
    assert (one.dataset, one.probabilities) == ("mine", ((0.75, 0.25), (0.5, 0.5)))
    del rows[1]["probabilities"]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert comparison.gather(["rbft=ll"]).evaluations[0].probabilities is None


def test_the_manifest_names_labels_for_people_and_says_what_has_no_video() -> None:
    missing = [{"id": i, "split": "test", "label": "calm", "video": f"{i}.mp4", "reason": "is empty"} for i in "xy"]
    manifest = json.loads(Path("data/mine/manifest.json").read_text(encoding="utf-8"))
    manifest |= {"display": {"calm": "Ruhig"}, "missing": {"counts": {}, "samples": missing}}
    Path("data/mine/manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    score("ft", "calm", "busy")
    extra = comparison.gather(["rbft=ft"]).origin
    assert extra.display == {"calm": "Ruhig"}
    assert extra.notes == ["Samples of the dataset without a usable video, which are in no split: 2.", SCORED_ONCE]


def test_a_log_with_a_sample_twice_is_refused() -> None:
    score("ft", "calm", "busy", ids="aa")
    path = f"ft/model/{STAMP}_samples_rbft_mine.jsonl"
    assert said("rbft=ft") == f"{path}: it has samples twice; score the model again"


def test_a_log_that_says_neither_whose_samples_nor_their_targets_is_refused() -> None:
    score("ft", "calm", "busy")
    path = Path(f"ft/model/{STAMP}_samples_rbft_mine.jsonl")
    path.write_text('{"doc_id": 0, "bypass": 999}\n', encoding="utf-8")
    assert said("rbft=ft") == f"{path}: it has samples without a sample_id and a target; score without --predict_only"


def test_likelihoods_beside_the_answers_are_their_probabilities() -> None:
    score("ft", "calm", None)
    rows = [
        {"sample_id": i, "prediction": "busy", "probabilities": {"calm": p, "busy": 1 - p}}
        for i, p in (("b", 0.5), ("a", 0.25))
    ]
    Path(f"ft/model/{STAMP}_samples_rbft_mine_ll.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    found = comparison.gather(["rbft=ft"])
    (one,) = found.evaluations
    assert (one.predictions, one.probabilities) == (("calm", None), ((0.25, 0.75), (0.5, 0.5)))
    assert found.origin.notes == [
        "Answers are generated, probabilities are likelihoods of the labels: rbft, seed 0.",
        SCORED_ONCE,
    ]


def test_answers_without_the_video_are_taken_where_every_sample_has_one() -> None:
    score("ft", "calm", "busy")
    beside = Path(f"ft/model/{STAMP}_samples_rbft_mine_novideo.jsonl")
    beside.write_text('{"sample_id": "b", "prediction": null}\n{"sample_id": "a", "prediction": "busy"}\n')
    assert comparison.gather(["rbft=ft"]).evaluations[0].without_video == ("busy", None)
    beside.write_text('{"sample_id": "b", "prediction": null}\n')
    assert comparison.gather(["rbft=ft"]).evaluations[0].without_video is None
    beside.unlink()
    assert comparison.gather(["rbft=ft"]).evaluations[0].without_video is None


@pytest.mark.parametrize("given", ["rbft=", "=ft"])
def test_half_an_arm_is_refused(given: str) -> None:
    assert said(given) == f"'{given}': give a run's folder, or ARM=OUTPUT, such as rbft=runs/demo/rbft/seed-0/eval"
