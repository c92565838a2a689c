"""`rbft_vl` in two processes gives what it gives in one."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from builders import read_jsonl
from shell import sh

pytestmark = pytest.mark.e2e

TASKS = ["rbft_mine", "rbft_mine_ll", "rbft_mine_novideo"]
OPTIONS = f"--model rbft_vl --batch_size 2 --log_samples --model_args pretrained=base --tasks {','.join(TASKS)}"


def results(output: str) -> dict[str, Any]:
    return json.loads(next(Path(output).rglob("*_results.json")).read_text())["results"]


def samples(output: str) -> dict[str, list[dict[str, Any]]]:
    """The logged samples of each task, by document."""
    found = {p.stem.split("_samples_")[1]: read_jsonl(p) for p in Path(output).rglob("*_samples_rbft_*.jsonl")}
    return {task: sorted(rows, key=lambda row: row["doc_id"]) for task, rows in found.items()}


def test_two_processes_give_what_one_gives(tiny: Path) -> None:
    """Of 3 documents: the second process has one less, which lmms-eval makes up for with copies of its last request."""
    lines = Path("mine.csv").read_text().splitlines(keepends=True)
    Path("mine.csv").write_text("".join(lines[:-1]))
    assert sh("rbft prepare mine").returncode == 0
    said = sh(f"lmms-eval {OPTIONS} --output_path ONE").stdout
    assert sorted(samples("ONE")) == TASKS, said
    # --cpu in place of --multi_gpu would start one process alone.
    said = sh(f"accelerate launch --multi_gpu --num_processes 2 -m lmms_eval {OPTIONS} --output_path TWO").stdout
    one, two = samples("ONE"), samples("TWO")
    assert sorted(two) == TASKS, said
    assert [row["log"].split("/")[0] for row in read_jsonl("data/mine/test_scorings.jsonl")] == ["ONE", "TWO"]
    log = next(Path("TWO").rglob("*_samples_rbft_mine_ll.jsonl"))
    assert [row["doc_id"] for row in read_jsonl(log)] == [0, 2, 1]  # of the first process, then of the second
    for task in TASKS:
        assert [row["sample_id"] for row in two[task]] == ["test0", "test1", "test2"]
        assert [row["prediction"] for row in two[task]] == [row["prediction"] for row in one[task]]
        assert [row["token_counts"] for row in two[task]] == [row["token_counts"] for row in one[task]]
        numbers = [{k: v for k, v in r[task].items() if isinstance(v, float)} for r in (results("ONE"), results("TWO"))]
        assert numbers[1] == pytest.approx(numbers[0], abs=1e-4) and len(numbers[0]) > 5
    for alone, shared in zip(one["rbft_mine_ll"], two["rbft_mine_ll"], strict=True):
        figures = [[ast.literal_eval(text) for text in row["filtered_resps"]] for row in (alone, shared)]
        assert [f[1:] for f in figures[0]] == [f[1:] for f in figures[1]]
        assert [f[0] for f in figures[0]] == pytest.approx([f[0] for f in figures[1]], abs=1e-4)
    for task in ("rbft_mine", "rbft_mine_novideo"):
        assert [row["filtered_resps"] for row in two[task]] == [row["filtered_resps"] for row in one[task]]
