"""rationale_table: what a report says became of a run's rationales."""

from __future__ import annotations

from pathlib import Path

from builders import scored

from rbft_plugin import files
from rbft_plugin.rationales.collect import Conclusions, RationaleSummary
from rbft_plugin.report import rationale_table
from rbft_plugin.report.build import summarize, write
from rbft_plugin.report.view_model import Origin
from rbft_plugin.run import layout

CONCLUSIONS = Conclusions(
    labelled=40, right=31, labelled_kept=33, right_kept=28, classes={"a": 25, "b": 75}, classes_kept={"a": 20, "b": 40}
)
PLAIN = RationaleSummary(mode="plain", written=100, kept=60, dropped={"short": 3, "wrong": 37}, conclusions=CONCLUSIONS)
HINTED = RationaleSummary(mode="hinted", written=40, kept=40, dropped={}, conclusions=None)


def test_each_file_of_rationales_has_a_row(tmp_path: Path) -> None:
    for part, hinted, summary in (("", False, PLAIN), ("shots-4", True, HINTED)):
        rows = layout.collected_file(tmp_path / part, hinted)
        rows.parent.mkdir(parents=True)
        rows.touch()
        files.write_json(rows.with_name("rationale.summary.json"), summary.model_dump())
    found = rationale_table.of_run(tmp_path)
    assert found == {"rows": PLAIN, "shots-4/rows_hinted": HINTED}
    evaluations = [scored("rbft", ("a",) * 6)]
    report = summarize(evaluations, Origin(rationales=found))
    assert rationale_table.rows(report) == [
        ["rows", "60 of 100", "short 3, wrong 37", "77.5 % of 40", "84.8 % of 33", "a 20, b 40"],
        ["shots-4/rows_hinted", "40 of 40", "-", "-", "-", "-"],
    ]
    write(report, evaluations, tmp_path / "report")
    assert "| rows | 60 of 100 | short 3, wrong 37 | 77.5 % of 40 |" in (tmp_path / "report/report.md").read_text()
    assert "What became of the rationales" in (tmp_path / "report/index.html").read_text()


def test_rows_of_an_earlier_version_have_no_summary(tmp_path: Path) -> None:
    rows = layout.collected_file(tmp_path, hinted=False)
    rows.parent.mkdir(parents=True)
    rows.touch()
    assert rationale_table.of_run(tmp_path) == {}
