"""Evaluations of arms on one split -> the report, and its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rbft_plugin import files
from rbft_plugin.report import doubtful_labels, html, markdown, prose, save_plots
from rbft_plugin.report.arm_statistics import arm_statistics, resample
from rbft_plugin.report.clip_strips import Video
from rbft_plugin.report.evaluations import Evaluation, ReportError, by_arm
from rbft_plugin.report.paired_comparison import compare
from rbft_plugin.report.view_model import Origin, Report
from rbft_plugin.scoring.bootstrap import weights
from rbft_plugin.scoring.counts import majority_accuracy


def summarize(evaluations: Sequence[Evaluation], origin: Origin | None = None) -> Report:
    """The report: every arm's statistics, and every arm against each arm before it, of a sweep within each cell.

    The notes of `origin` come after the report's own. Raises ReportError with everything that keeps the evaluations
    from being compared.
    """
    origin = origin or Origin()
    arms = by_arm(evaluations)
    first = evaluations[0]
    support = Counter(first.targets)
    drawn = weights(first.targets)
    values = {arm: resample(of_arm, drawn) for arm, of_arm in arms.items()}
    cells = {arm: set(origin.cells.get(arm, [])) for arm in arms}
    pairs = [
        (arm, against)
        for position, against in enumerate(arms)
        for arm in list(arms)[position + 1 :]
        if cells[arm] & cells[against] or not (cells[arm] and cells[against])
    ]
    pairs.sort(key=lambda pair: pair[1].rpartition("/")[2] == "zero_shot")  # what a reader looks for first comes first
    own_notes = prose.notes(support, first.labels, [len(of_arm) for of_arm in arms.values()], first.split)
    doubtful = doubtful_labels.of_arms(arms)
    own_notes += prose.folds(max(one.folds for one in evaluations), first.dataset, probabilities=doubtful is not None)
    return Report(
        dataset=first.dataset,
        split=first.split,
        labels=list(first.labels),
        n_test=len(first.ids),
        support={label: support[label] for label in first.labels},
        majority=support.most_common(1)[0][0],
        majority_accuracy=majority_accuracy(first.targets),
        arms={arm: arm_statistics(of_arm, values[arm]) for arm, of_arm in arms.items()},
        comparisons=[
            compare(arms[arm], arms[against], (values[arm], values[against])) for arm, against in pairs
        ],
        doubtful_labels=doubtful,
        **dict(origin) | {"notes": [*own_notes, *origin.notes]},
    )  # fmt: skip


def write(report: Report, evaluations: Sequence[Evaluation], folder: Path, videos: Sequence[Video] = ()) -> list[Path]:
    """Write report.json, report.md, index.html and the pictures into `folder`; returns their paths, in this order.

    `evaluations` are those of the report: report.md and the page quote answers from them. `videos` are what the page
    shows beside them: frames, sources, rationales. Raises ReportError if the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReportError(f"{folder}: the folder for the report cannot be made: {error.strerror}") from error
    json_file, markdown_file, page_file = folder / "report.json", folder / "report.md", folder / "index.html"
    plots, inline = save_plots.draw(report, folder)
    files.write_text(markdown_file, markdown.markdown(report, evaluations))
    files.write_text(page_file, html.render(report, evaluations, videos, inline))
    files.write_json(json_file, report.as_json())  # last: its presence shows that the other files are complete
    return [json_file, markdown_file, page_file, *plots]
