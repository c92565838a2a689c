"""Evaluations of arms on one test set -> a report: figures, intervals, comparisons and what they do not say.

`summarize` makes the report as a dict, `write` puts it on disk. docs/report.md describes every key.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rbft_plugin import files
from rbft_plugin.report import arm_statistics as summary
from rbft_plugin.report import html as page
from rbft_plugin.report import markdown as report_text
from rbft_plugin.report import paired_comparison as pairing
from rbft_plugin.report import prose as wording
from rbft_plugin.report import save_plots as pictures
from rbft_plugin.report.clip_strips import Video
from rbft_plugin.report.evaluations import ReportError, Scored, by_arm, some
from rbft_plugin.scoring import bootstrap as resampling
from rbft_plugin.scoring.counts import majority_accuracy

SCHEMA = 3
OWN = {"schema", "dataset", "labels", "n_test", "majority", "majority_accuracy", "support", "arms", "comparisons"}
OWN |= {"notes"}


def summarize(evaluations: Sequence[Scored], extra: dict[str, Any]) -> dict[str, Any]:
    """The report, ready for JSON: every arm's figures, and every arm against each arm before it.

    Rates and differences are fractions (0 to 1, -1 to 1), intervals are [low, high] at 95 %, `per_seed` lists follow
    the arm's `seeds`. `extra` (see `comparison.gather`) is added as it is; its "notes" come after our own.

    Raises ReportError, with all that keeps the evaluations from being compared.
    """
    runs = by_arm(evaluations)
    further = extra.get("notes", [])
    extra = {key: value for key, value in extra.items() if key != "notes"}
    if taken := [key for key in extra if key in OWN]:
        raise ReportError(f"extra: keys that the report itself has: {some(taken)}")
    first = evaluations[0]
    support = Counter(first.targets)
    drawn = resampling.weights(first.targets)
    draws = {arm: summary.draws_of(group, drawn) for arm, group in runs.items()}
    cells = {arm: set(extra.get("cells", {}).get(arm, [])) for arm in runs}
    pairs = [
        (arm, against)
        for place, against in enumerate(runs)
        for arm in list(runs)[place + 1 :]
        if cells[arm] & cells[against] or not (cells[arm] and cells[against])
    ]
    pairs.sort(key=lambda pair: pair[1].rpartition("/")[2] == "zero_shot")  # what a reader looks for first comes first
    seeds = [len(group) for group in runs.values()]
    return {
        "schema": SCHEMA,
        "dataset": first.dataset,
        "labels": list(first.labels),
        "n_test": len(first.ids),
        "support": {label: support[label] for label in first.labels},
        "majority": support.most_common(1)[0][0],
        "majority_accuracy": majority_accuracy(first.targets),
        "arms": {arm: summary.arm(group, draws[arm]) for arm, group in runs.items()},
        "comparisons": [
            pairing.compare(runs[arm], runs[against], (draws[arm], draws[against])) for arm, against in pairs
        ],
        "notes": [*wording.notes(support, first.labels, seeds), *further],
        **extra,
    }


def write(
    report: dict[str, Any], evaluations: Sequence[Scored], folder: Path, videos: Sequence[Video] = ()
) -> list[Path]:
    """Write report.json, report.md, index.html and the pictures into `folder`; their paths, in this order.

    `evaluations` are those of the report: report.md and the page quote answers from them. `videos` are what the page's
    browser shows beside them: frames, sources, rationales.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReportError(f"{folder}: cannot be made a folder for the report: {error.strerror}") from error
    as_json, as_markdown, as_page = folder / "report.json", folder / "report.md", folder / "index.html"
    drawn, inline = pictures.draw(report, folder)
    files.write_text(as_markdown, report_text.markdown(report, evaluations))
    files.write_text(as_page, page.render(report, evaluations, videos, inline))
    files.write_json(as_json, report)  # last: it shows that all is there
    return [as_json, as_markdown, as_page, *drawn]
