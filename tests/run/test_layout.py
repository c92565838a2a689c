"""The paths of a run's folder and the records in it, those of older code too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rbft_plugin.errors import RbftError
from rbft_plugin.run import layout, records
from rbft_plugin.run.records import Inputs, StepRecord
from rbft_plugin.spec.names import stage_name
from rbft_plugin.spec.recipe import RESERVED

RUN = Path("runs/r")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_folder_beside_the_arms_is_reserved() -> None:
    paths = [
        layout.record_file(RUN, "a").parent,
        layout.log_file(RUN, "a").parent,
        layout.superseded_folder(RUN),
        layout.report_folder(RUN),
        *(layout.rationales_folder(RUN, hinted) for hinted in (False, True)),
        *(layout.rows_folder(RUN, hinted) for hinted in (False, True)),
    ]
    assert sorted(path.relative_to(RUN).as_posix() for path in paths) == sorted(RESERVED)


def test_paths_are_read_back() -> None:
    for arm, seed in (("rbft", 3), ("base", 0)):
        layout.evaluation_folder(layout.models_folder(RUN, arm, seed)).mkdir(parents=True)
    cell = RUN / "shots-4"
    for part, stage in ((RUN, "label"), (cell, "rationale"), (layout.aside(RUN, "train rbft seed 3 label"), "label")):
        file = layout.models_folder(part, "rbft", 3) / stage / layout.LOSSES
        file.parent.mkdir(parents=True)
        file.touch()
    assert layout.evaluations(RUN) == [("base", 0, RUN / "base/seed-0/eval"), ("rbft", 3, RUN / "rbft/seed-3/eval")]
    assert layout.loss_files(RUN) == [
        ("rbft", 3, "label", RUN / "rbft/seed-3/label" / layout.LOSSES),
        ("shots-4/rbft", 3, "rationale", cell / "rbft/seed-3/rationale" / layout.LOSSES),
    ]
    evaluated = layout.evaluation_folder(layout.models_folder(cell, "rbft", 3))
    assert layout.seed_in(evaluated.as_posix()) == 3 and layout.seed_in("runs/r/seed-x/eval") is None
    assert layout.below_run(evaluated) == Path("shots-4/rbft/seed-3/eval")
    assert layout.run_of(evaluated) is None  # there are no records
    records.write(layout.record_file(RUN, "a b"), StepRecord(name="a b"))
    assert layout.run_of(evaluated) == RUN.resolve() and layout.workspace_of(RUN.resolve()) == Path.cwd()


def test_folds_lie_below_their_seed() -> None:
    outputs = [
        layout.evaluation_folder(layout.models_folder(RUN / "shots-4", "rbft", 3, [fold]), fold=fold) for fold in (0, 1)
    ]
    assert outputs[1].as_posix() == "runs/r/shots-4/rbft/seed-3/without-1/eval_fold1"
    assert [layout.arm_in_cell(output) for output in outputs] == ["shots-4/rbft"] * 2
    stage = layout.models_folder(RUN, "rbft", 3, [0, 2]) / "label"
    stage.mkdir(parents=True)
    (stage / layout.LOSSES).touch()
    assert layout.loss_files(RUN) == [("rbft", 3, "label", stage / layout.LOSSES)]


def test_rounds_lie_beside_the_stages_of_their_seed() -> None:
    models = layout.models_folder(RUN / "shots-4", "rbft", 3)
    stages = [stage_name(["rationale"] * number) for number in (1, 2, 3)]
    assert stages == ["rationale", "rationale-2", "rationale-3"] and stage_name(["rationale", "label"]) == "label"
    for stage in stages:
        (models / stage).mkdir(parents=True)
        (models / stage / layout.LOSSES).touch()
    assert layout.round_rationales_folder(models, stages[1]) == models / "rationale-2_rationales"
    assert layout.round_rows_folder(models, stages[1]) == models / "rationale-2_rows"
    found = [("shots-4/rbft", 3, stage, models / stage / layout.LOSSES) for stage in stages]
    assert sorted(layout.loss_files(RUN)) == found


def test_a_record_is_read_as_it_was_written() -> None:
    inputs = Inputs(argv=("x", "y z"), files={"f": "1"}, models={"m": "2"})
    known: dict[str, Any] = {"kind": "train", "arm": "rbft", "seed": 1, "stage": "label", "cell": "shots-4"}
    record = StepRecord(name="train a", output=Path("o"), inputs=inputs, began=2.0, seconds=1.0, git="abc", **known)
    records.write(layout.record_file(RUN, "train a"), record)
    records.write(layout.record_file(RUN, "b"), StepRecord(name="b", began=1.0))
    assert records.read_record(RUN, "train a") == record
    assert [one.name for one in records.records(RUN)] == ["b", "train a"]


def test_records_before_kinds_were_kept_are_still_read() -> None:
    old = {"name": "train a", "inputs": {"argv": ["x"], "files": {}, "models": {}}, "began": 1.0, "seconds": 2.0}
    file = layout.record_file(RUN, "train a")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(old | {"versions": {"torch": "2"}, "hardware": {"GPUs": "none"}, "git": None}))
    layout.started_file(RUN, "report").write_text(json.dumps({"inputs": {"argv": ["y"]}}))
    (read,) = records.records(RUN)
    assert (read.kind, read.inputs, read.seconds) == (None, Inputs(argv=("x",)), 2.0)
    assert records.unfinished(RUN) == ["report"]


@pytest.mark.parametrize("content", ["[]", '{"inputs": 3}', "{"])
def test_a_record_that_cannot_be_read_is_named(content: str) -> None:
    file = layout.record_file(RUN, "train a")
    file.parent.mkdir(parents=True)
    file.write_text(content)
    with pytest.raises(RbftError, match=r"^runs/r/steps/train-a\.json: .*remove it"):
        records.records(RUN)


def test_the_path_of_a_log_names_its_run() -> None:
    log = layout.evaluation_folder(layout.run_folder("demo"), "rbft", 0) / "model" / "log.jsonl"
    assert layout.run_named(log) == "demo"
    for path in ("OUT/model/log.jsonl", "runs/log.jsonl", "/elsewhere/runs/demo/log.jsonl", "my/runs/demo/log.jsonl"):
        assert layout.run_named(Path(path)) is None
