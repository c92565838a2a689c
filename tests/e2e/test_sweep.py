"""A sweep through both harnesses: what cells share, a cell that fails, the report of the others, and a second start."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from shell import sh

from .test_run import RECIPE

pytestmark = pytest.mark.e2e

SWEEP = RECIPE | {"run": "swept", "arms": {"direct_sft": ["label"]}, "sweep": {"shots": [1, 2, 9]}}


def test_a_failed_cell_is_named_and_the_others_are_in_one_report(tiny: Path) -> None:
    Path("recipes/swept.yaml").write_text(yaml.safe_dump(SWEEP, sort_keys=False))
    first = sh("rbft run recipes/swept.yaml --jobs 2")
    assert first.returncode == 1, first.stdout
    lines = first.stdout.splitlines()
    assert lines[-1].startswith(
        "not run, since they need a failed step: train shots-9/direct_sft seed 3 label, score shots-9/"
    )
    assert "rows shots-9/label_seed-3: failed: 2 problems" in first.stdout
    assert "  shots-2/direct_sft (seed 3): pretrained=base,adapters=runs/swept/shots-2/direct_sft/seed-3/label" in lines

    report = json.loads(Path("runs/swept/report/report.json").read_text())
    arms = {str(shots): f"shots-{shots}/direct_sft" for shots in (1, 2)}
    assert report["curves"] == {"x": "labelled training clips of each class", "lines": {"direct_sft": arms}}
    assert "Not scored in runs/swept, so not in this report: shots-9/direct_sft, seed 3." in report["notes"]
    scored = (
        "The test split of mine has been scored 2 times in this workspace, by 1 run; this report shows all of them."
    )
    assert report["notes"][-1] == scored  # even where both models give the same answers in the same second
    assert Path("runs/swept/report/curves.png").is_file()
    for shots in (1, 2):
        rows = Path(f"runs/swept/shots-{shots}/rows/label_seed-3.jsonl").read_text().splitlines()
        assert len(rows) == 2 * shots

    second = sh("rbft run recipes/swept.yaml --jobs 2")  # nothing but what failed, and so fails again
    assert second.returncode == 1
    begun = [line for line in second.stdout.splitlines() if ": log in " in line]
    assert [line.split("] ")[1].split(": ")[0] for line in begun] == ["prepare mine", "rows shots-9/label_seed-3"]
