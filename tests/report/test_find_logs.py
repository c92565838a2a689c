"""outputs: what of a run, of a sweep and of folders given by hand goes into a report, and under which name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import random_scored

from rbft_plugin.errors import RbftError
from rbft_plugin.report import find_logs as outputs
from rbft_plugin.report.build import summarize
from rbft_plugin.report.find_logs import Output
from rbft_plugin.report.view_model import Origin

STAMP = "20260101_000000"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plan(run: str, *scored: tuple[str, dict[str, Any], str, int, str], lost: tuple[str, ...] = ()) -> Path:
    """A run that has scored (cell, values, arm, seed, output); outputs below runs/<run>."""
    rows = [
        {"cell": cell, "values": values, "arm": arm, "seed": seed, "output": f"runs/{run}/{output}"}
        for cell, values, arm, seed, output in scored
    ]
    folder = Path("runs", run)
    for row in rows:
        if row["output"].removeprefix(f"runs/{run}/") not in lost:
            Path(row["output"]).mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plan.json").write_text(json.dumps({"arms": [], "scored": rows}), encoding="utf-8")
    return folder


def a_sweep() -> Path:
    cells = [("shots-4", {"shots": 4}), ("shots-16", {"shots": 16})]
    base = [(cell, values, "zero_shot", 0, "shots-4/zero_shot/seed-0/eval") for cell, values in cells]
    trained = [
        (cell, values, "rbft", seed, f"{cell}/rbft/seed-{seed}/eval") for cell, values in cells for seed in (0, 1)
    ]
    return plan("s", *base, *trained)


def logs(folder: str, *tasks: str) -> Path:
    Path(folder).mkdir(parents=True)
    for task in tasks:
        Path(folder, f"{STAMP}_samples_{task}.jsonl").write_text("{}\n", encoding="utf-8")
    return Path(folder)


def test_a_run_has_its_arms_in_the_order_of_its_plan() -> None:
    given = [("", {}, arm, seed, f"{arm}/seed-{seed}/eval") for arm in ("zero_shot", "a") for seed in (0, 1)]
    found, notes = outputs.find([str(plan("r", *given))])
    assert [(one.arm, one.seed) for one in found] == [("zero_shot", 0), ("zero_shot", 1), ("a", 0), ("a", 1)]
    assert notes == [] and outputs.cells(found) == {} and outputs.curves(found) is None


def test_a_run_that_was_moved_is_found_where_it_is() -> None:
    plan("r", ("", {}, "a", 0, "a/seed-0/eval")).rename("elsewhere")
    (one,) = outputs.find(["elsewhere"])[0]
    assert one.path == Path("elsewhere/a/seed-0/eval")


def test_what_is_planned_and_not_scored_is_said() -> None:
    given = [("", {}, "a", seed, f"a/seed-{seed}/eval") for seed in (0, 1, 2)]
    folder = plan("r", *given, lost=("a/seed-1/eval", "a/seed-2/eval"))
    found, notes = outputs.find([str(folder)])
    assert [one.seed for one in found] == [0]
    assert notes == ["Not scored in runs/r, so not in this report: a, seed 1; a, seed 2."]
    with pytest.raises(RbftError, match=r"^runs/none: no evaluations "):
        outputs.find([str(plan("none", given[0], lost=("a/seed-0/eval",)))])


def test_arms_of_a_sweep_are_named_by_their_cells_and_shared_ones_are_there_once() -> None:
    found, _ = outputs.find([str(a_sweep())])
    assert [(one.arm, one.seed) for one in found] == [
        ("zero_shot", 0),
        *(("shots-4/rbft", 0), ("shots-4/rbft", 1), ("shots-16/rbft", 0), ("shots-16/rbft", 1)),
    ]
    assert outputs.cells(found) == {
        "zero_shot": ["shots-4", "shots-16"],
        "shots-4/rbft": ["shots-4"],
        "shots-16/rbft": ["shots-16"],
    }
    drawn = outputs.curves(found)
    assert drawn and drawn.model_dump() == {
        "x": "labelled training clips of each class",
        "lines": {
            "zero_shot": {"4": "zero_shot", "16": "zero_shot"},
            "rbft": {"4": "shots-4/rbft", "16": "shots-16/rbft"},
        },
    }


def test_arms_that_are_one_model_keep_their_names_and_a_note_says_so() -> None:
    cells: list[tuple[str, dict[str, Any]]] = [(f"shots-{shots}", {"shots": shots}) for shots in (0, 2)]
    folder = plan("s", *((cell, values, "zero_shot", 0, "zero_shot/seed-0/eval") for cell, values in cells))
    content = json.loads((folder / "plan.json").read_text())
    alike = {"output": "runs/s/zero_shot/seed-0/eval", "name": "shots-0/direct_sft", "left_out": ["label"]}
    content["scored"].insert(1, content["scored"][0] | {"arm": "direct_sft"} | alike)
    (folder / "plan.json").write_text(json.dumps(content))
    found, notes = outputs.find([str(folder)])
    assert [(one.arm, one.plain, one.path) for one in found] == [
        ("zero_shot", "zero_shot", folder / "zero_shot/seed-0/eval"),
        ("shots-0/direct_sft", "direct_sft", folder / "zero_shot/seed-0/eval"),
    ]
    assert outputs.cells(found) == {"zero_shot": ["shots-0", "shots-2"], "shots-0/direct_sft": ["shots-0"]}
    assert notes == [
        "`shots: 0` uses no label, so stages that need labels are left out: shots-0/direct_sft without label.",
        "These arms have the same model, trained and scored once, and so the same figures: zero_shot, "
        "shots-0/direct_sft.",
    ]


def test_what_some_cells_share_has_the_name_of_its_folder() -> None:
    cells = [(f"base-{b}_rate-{r}", {"base": b, "rate": r}) for b in "ab" for r in (1, 2)]
    given = [(cell, of, "zero", 0, f"base-{of['base']}/zero/seed-0/eval") for cell, of in cells]
    found, _ = outputs.find([str(plan("s", *given))])
    assert [one.arm for one in found] == ["base-a/zero", "base-b/zero"]


def test_arms_are_compared_within_cells() -> None:
    found, _ = outputs.find([str(a_sweep())])
    arms = dict.fromkeys(one.arm for one in found)
    report = summarize(random_scored(("a", "b"), 20, dict.fromkeys(arms, (0,))), Origin(cells=outputs.cells(found)))
    assert [(one.arm, one.against) for one in report.comparisons] == [
        ("shots-4/rbft", "zero_shot"),
        ("shots-16/rbft", "zero_shot"),
    ]


def test_a_second_swept_key_makes_further_lines_and_words_make_none() -> None:
    def cell(rate: Any, shots: Any) -> Output:
        values = (("training.overrides.learning_rate", rate), ("shots", shots))
        return Output(f"{rate}_{shots}", 0, Path(), "rbft", (("c", values),))

    drawn = outputs.curves([cell(rate, shots) for rate in (0.1, 0.2) for shots in (4, 8)])
    assert drawn is not None and drawn.lines == {
        "rbft (learning_rate 0.1)": {"4": "0.1_4", "8": "0.1_8"},
        "rbft (learning_rate 0.2)": {"4": "0.2_4", "8": "0.2_8"},
    }
    both = tuple((f"c{rate}", (("rate", rate), ("shots", 4))) for rate in (0.1, 0.2))  # what depends on shots alone
    base = Output(
        "zero", 0, Path(), "zero", tuple((f"{c}_{n}", (*v[:1], ("shots", n))) for c, v in both for n in (4, 8))
    )
    drawn = outputs.curves([base, Output("a", 0, Path(), "rbft", both)])
    assert drawn is not None and drawn.lines == {"zero": {"4": "zero", "8": "zero"}, "rbft": {"4": "a"}}
    by_rate = outputs.curves([cell(rate, "all") for rate in (0.1, 0.2)])
    assert by_rate is not None and by_rate.x == "training.overrides.learning_rate"
    assert outputs.curves([cell("a", False), cell("b", True)]) is None


@pytest.mark.parametrize(
    ("tasks", "dataset", "chosen"),
    [
        (("rbft_mine", "rbft_mine_ll", "rbft_mine_novideo", "rbft_mine_rationale"), None, "rbft_mine"),
        (("rbft_mine_ll", "rbft_mine_rationale"), None, "rbft_mine_ll"),
        (("rbft_mine", "rbft_other"), "other", "rbft_other"),
        (("theirs",), None, "theirs"),
        (("theirs", "rbft_mine"), None, "rbft_mine"),
    ],
)
def test_the_log_of_an_output(tasks: tuple[str, ...], dataset: str | None, chosen: str) -> None:
    assert Output("a", 0, logs("OUT", *tasks)).logs(dataset) == [Path("OUT", f"{STAMP}_samples_{chosen}.jsonl")]


def test_a_log_that_is_named_is_the_one() -> None:
    named = logs("OUT", "rbft_mine", "rbft_mine_novideo") / f"{STAMP}_samples_rbft_mine_novideo.jsonl"
    assert Output("a", 0, named).logs(None) == [named]


def test_settings_of_a_sweep_are_said_to_be_compared_on_the_test() -> None:
    rate = "training.stages.label.overrides.learning_rate"
    values: list[dict[str, Any]] = [{"shots": shots, rate: at} for shots in (4, 8) for at in (1e-4, 2e-4)]
    run = plan("s", *((f"c{i}", one, "rbft", 0, f"c{i}/rbft/seed-0/eval") for i, one in enumerate(values)))
    (note,) = outputs.compared_settings(outputs.find([str(run)])[0])
    assert note.startswith(
        "The settings of this sweep (learning_rate) are compared on the clips that this report is of."
    )
    assert outputs.compared_settings(outputs.find([str(a_sweep())])[0]) == []  # shots are no setting
    alone = plan("r", ("", {}, "rbft", 0, "rbft/seed-0/eval"))
    assert outputs.compared_settings(outputs.find([str(alone)])[0]) == []


def test_the_logs_of_all_folds_are_one_output() -> None:
    folder = logs("OUT", "rbft_mine_fold1", "rbft_mine_fold0", "rbft_mine_ll_fold0")
    folds = [folder / f"{STAMP}_samples_rbft_mine_fold{fold}.jsonl" for fold in (0, 1)]
    assert Output("a", 0, folder).logs(None) == folds
    again = folder / "again"
    again.mkdir()
    (again / f"{STAMP}_samples_rbft_mine_fold0.jsonl").write_text("{}\n")
    with pytest.raises(RbftError, match=r"^OUT: needs one log of answers"):
        Output("a", 0, folder).logs(None)


def test_several_logs_are_refused() -> None:
    with pytest.raises(RbftError, match=r"^OUT: needs one log of answers"):
        Output("a", 0, logs("OUT", "rbft_mine", "rbft_other")).logs(None)
    with pytest.raises(RbftError, match=r"^OUT2: needs one log of answers"):
        Output("a", 0, logs("OUT2", "theirs", "others")).logs(None)
