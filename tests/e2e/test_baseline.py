"""lmms-eval's --baseline on our samples, and another model's log of samples as one more arm of the report."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from builders import BASE, QUIET, prepare, read_jsonl, small_dataset
from scipy.stats import ttest_1samp
from shell import sh

from rbft_plugin.spec import dataset

pytestmark = pytest.mark.e2e

# The tiny base answers everything with a caption: who comes from where.
LABELS = [
    {"name": "person", "description": "A person comes.", "values": ["calm"]},
    {"name": "ball", "description": "A ball comes.", "values": ["busy"]},
]
QWEN = "pretrained=base,device=cpu,device_map=cpu,max_pixels=3136,min_pixels=3136,max_num_frames=8"


def only(folder: str, name: str) -> Path:
    (found,) = Path(folder).rglob(name)
    return found


def test_lmms_evals_own_model_against_ours(ws: Path) -> None:
    shutil.copytree(BASE, "base")
    small_dataset(per_split={"train": 2, "val": 2, "test": 8}, labels=LABELS, prompts={"label": "Is it {names}?"})
    prepare(dataset.load("mine"), QUIET)
    said = sh(
        "lmms-eval --model rbft_vl --model_args pretrained=base --tasks rbft_mine --batch_size 8 --log_samples "
        "--output_path OURS"
    ).stdout
    ours = read_jsonl(only("OURS", "*_samples_rbft_mine.jsonl"))
    assert len(ours) == 8, said

    # A baseline whose lines are in another order, and three of whose scores are others.
    scores = {row["doc_id"]: 1 - row["score"] if row["doc_id"] in (1, 4, 6) else row["score"] for row in ours}
    lines = [json.dumps(row | {"score": scores[row["doc_id"]]}) + "\n" for row in reversed(ours)]
    Path("baseline.jsonl").write_text("".join(lines), encoding="utf-8")
    said = sh(
        f"lmms-eval --model qwen2_5_vl --model_args {QWEN} --tasks rbft_mine --batch_size 1 --log_samples "
        "--output_path THEIRS --baseline baseline.jsonl"
    ).stdout
    theirs = read_jsonl(only("THEIRS", "*_samples_rbft_mine.jsonl"))
    assert [row["sample_id"] for row in theirs] == [f"test{i}" for i in range(8)], said
    assert {row["prediction"] for row in theirs} <= {"person", "ball", None} > {None}

    results = json.loads(only("THEIRS", "*_results.json").read_text(encoding="utf-8"))["results"]["rbft_mine"]
    accuracy, before = results["accuracy,none"], sum(scores.values()) / 8
    differences = [row["score"] - scores[row["doc_id"]] for row in theirs]
    assert len(set(differences)) > 1
    test = ttest_1samp(differences, 0)
    interval = test.confidence_interval(0.95)
    assert results["paired_baseline_score"] == pytest.approx(100 * before)
    assert results["paired_ci_lower"] == pytest.approx(100 * interval.low)
    assert results["paired_ci_upper"] == pytest.approx(100 * interval.high)
    assert results["paired_pvalue"] == pytest.approx(test.pvalue)
    # Its table: the interval and p as they should be (on the row of every metric); Diff is accuracy less a percentage.
    (row,) = re.findall(r"^\|rbft_mine\|.*\|accuracy +\|.*$", said, re.MULTILINE)
    assert f"[{100 * interval.low:+.1f}%, {100 * interval.high:+.1f}%]" in row
    assert f"|{accuracy - 100 * before:+.1f}%" in row
    assert f"{test.pvalue:.4f}" in row

    # Both are arms of one report, paired by our sample ids.
    said = sh("rbft report ours=OURS theirs=THEIRS").stdout
    report = json.loads(Path("report/report.json").read_text(encoding="utf-8"))
    assert report["n_test"] == 8, said
    assert report["arms"]["ours"]["accuracy"]["mean"] == pytest.approx(sum(row["score"] for row in ours) / 8)
    assert report["arms"]["theirs"]["accuracy"]["mean"] == pytest.approx(accuracy)
    assert report["models"]["theirs"] == QWEN

    # Each start has left a line, and its copy is no further scoring.
    lines = read_jsonl("data/mine/test_scorings.jsonl")
    assert [(line["task"], line["model"], line["samples"]) for line in lines] == [
        ("rbft_mine", "pretrained=base", 8),
        ("rbft_mine", QWEN, 8),
    ]
    assert Path(lines[1]["log"]) == only("THEIRS", "*_samples_rbft_mine.jsonl")
    note = "The test split of mine has been scored 2 times in this workspace, by hand; this report shows all of them."
    assert f"\nnote: {note}\n" in said and note in report["notes"]
    assert note in Path("report/report.md").read_text() and note in Path("report/index.html").read_text()
    shutil.copytree("THEIRS", "COPY")
    said = sh("rbft report theirs=COPY").stdout
    assert f"\nnote: {note.replace('all of them', '1 of them')}\n" in said
    assert read_jsonl("data/mine/test_scorings.jsonl") == lines
