"""What became of the rationales of a run: a row of a table for each file of them."""

from __future__ import annotations

from pathlib import Path

from rbft_plugin import files
from rbft_plugin.rationales.collect import SUMMARY, RationaleSummary
from rbft_plugin.report.prose import percent
from rbft_plugin.report.view_model import Report
from rbft_plugin.run import layout

HEAD = ("rationales", "kept", "left out", "right, of all written", "right, of those kept", "kept by conclusion")


def of_run(run: Path) -> dict[str, RationaleSummary]:
    """{the folder of the rows below the run's: what was kept of its rationales}."""
    found = {}
    for rows in layout.collected_rationales(run):
        file = rows.with_name(SUMMARY)
        if file.is_file():  # earlier versions wrote none
            name = rows.parent.relative_to(run).as_posix()
            found[name] = RationaleSummary.model_validate(files.read_json(file))
    return found


def rows(report: Report) -> list[list[str]]:
    """A row of HEAD for each file of rationales; [] where the report is not of one run."""
    return [
        [
            name,
            f"{one.kept} of {one.written}",
            ", ".join(f"{reason} {count}" for reason, count in one.dropped.items()) or "-",
            *_right(one),
            ", ".join(f"{label} {count}" for label, count in one.conclusions.classes_kept.items())
            if one.conclusions
            else "-",
        ]
        for name, one in report.rationales.items()
    ]


def _right(summary: RationaleSummary) -> tuple[str, str]:
    """How many conclusions of labelled samples are the label, of all written and of those kept."""
    found = summary.conclusions
    pairs = [(found.right, found.labelled), (found.right_kept, found.labelled_kept)] if found else [(0, 0)] * 2
    first, second = (f"{percent(right / n)} % of {n}" if n else "-" for right, n in pairs)
    return first, second
