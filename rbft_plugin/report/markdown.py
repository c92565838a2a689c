"""The report as text: the terminal's table and report.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rbft_plugin.errors import one_line
from rbft_plugin.report import doubtful_labels, fit, prose, rationale_table, selection_prose
from rbft_plugin.report.evaluations import Evaluation
from rbft_plugin.report.markdown_parts import bullets, grid, shell
from rbft_plugin.report.prose import (
    arm_name,
    duration,
    figure,
    inline,
    majority,
    p_value,
    percent,
    points,
    without_video,
)
from rbft_plugin.report.selection_model import Selection
from rbft_plugin.report.view_model import Comparison, DoubtfulLabels, ProbabilityStatistics, Provenance, Report
from rbft_plugin.scoring.metrics import metrics_of

if TYPE_CHECKING:
    from rich.table import Table

DOUBTFUL = ("id", "given label", "its probability, %", "more probable", "its probability, %")
QUOTED = 10  # samples whose answers report.md quotes
COMMANDS = 30_000  # characters of commands in report.md: an issue on GitHub takes 65,536 in all
WIDTH = 100  # characters of an answer that it quotes
HEAD = ("arm", "accuracy, % (95 % interval)", "macro-F1, % (95 % interval)", "no answer")
TITLES = {
    "accuracy": "accuracy and macro-F1 by arm",
    "classes": "F1 by class",
    "confusion": "confusion matrices",
    "reliability": "reliability of the probabilities",
    "loss": "loss during training",
    "curves": "learning curves",
    "choices": "candidates on the validation clips",
}  # of the pictures, in the order of report.md and the page


def table(report: Report) -> Table:
    """The arms of a report as a table for the terminal, with the majority line as its caption."""
    from rich.table import Table
    from rich.text import Text

    # Text, for an arm's name is not markup
    lines = [majority(report), without_video(report), fit.explained(report)]
    made = Table(caption=Text("\n".join(filter(None, lines))), caption_justify="left")
    head, *rows = _headline(report)
    for column in head:
        made.add_column(column, justify="left" if column == "arm" else "right", overflow="fold")
    for arm, *cells in rows:
        made.add_row(Text(arm), *cells)
    return made


def markdown(report: Report, evaluations: Sequence[Evaluation]) -> str:
    """report.md: the report for a person, with the pictures beside it and answers quoted from `evaluations`."""
    arms, pictures = report.arms, _pictures(report)
    head, *rows = _headline(report)
    parts = [f"# Report: {inline(report.title)}", grid(head, rows), majority(report)]
    if asked := without_video(report):
        parts.append(inline(asked))
    if asked := fit.explained(report):
        parts += [asked, *([bullets(said)] if (said := fit.sentences(report)) else [])]
    parts.append(pictures["accuracy"])
    if report.comparisons:
        parts += ["## Comparisons", bullets(comparison.sentence for comparison in report.comparisons)]
        parts.append(_comparisons(report.comparisons))
        parts += _power(report.comparisons)
    if report.selection:
        parts += _selection(report, report.selection, pictures["choices"])
    parts += ["## All metrics", _all_metrics(report)]
    if read := prose.readings(report):
        parts += ["## How answers were read, %", grid(prose.READING, read)]
    if rationales := rationale_table.rows(report):
        parts += ["## Rationales", grid(rationale_table.HEAD, rationales)]
    parts += ["## F1 by class", _by_class(report), pictures["classes"], pictures["confusion"]]
    if rows := [_calibration(arm, one.probabilities) for arm, one in arms.items() if one.probabilities]:
        head = ["arm", *(metric.title for metric in metrics_of("probabilities").values())]
        parts += ["## Probabilities", grid(head, rows), pictures["reliability"]]
    parts += [pictures[name] for name in ("curves", "loss") if name in pictures]
    if report.doubtful_labels:
        parts += _doubtful(report, report.doubtful_labels)
    parts += _quotes(report, evaluations)
    if report.models:
        parts += ["## Models", bullets(f"{arm}: {path}" for arm, path in report.models.items())]
    if report.versions:
        parts += ["## Versions", bullets(f"{name} {version}" for name, version in report.versions.items())]
    if report.provenance:
        parts += _provenance(report.provenance)
    return "\n\n".join([*parts, "## Notes", bullets(report.notes)]) + "\n"


def _selection(report: Report, selection: Selection, picture: str) -> list[str]:
    """What was chosen on validation, and the first candidates of each arm."""
    parts = ["## Chosen on validation", selection_prose.intro(selection)]
    parts += [grid(selection_prose.HEAD, selection_prose.rows(report, selection)), picture]
    parts.append(bullets(selection_prose.sentences(report, selection)))
    head = ["candidate", f"{selection_prose.title(selection)}, %", "log-likelihood of the label", "steps"]
    for choice in selection.choices:
        shown = selection_prose.candidate_rows(choice)[:QUOTED]
        more = len(choice.candidates) - len(shown)
        parts += [inline(selection_prose.arm_of(choice)) + (f" (report.json has {more} more)" if more else "")]
        parts.append(grid(head, shown))
    return parts


def _doubtful(report: Report, doubtful: DoubtfulLabels) -> list[str]:
    """The labels that look wrong."""
    titles = report.label_titles
    rows = [
        [one.id, titles[one.label], percent(one.probability), titles[one.other], percent(one.other_probability)]
        for one in doubtful.samples[:QUOTED]
    ]
    more = doubtful.n - len(rows)
    parts = ["## Doubtful labels", inline(doubtful_labels.explained(doubtful))]
    parts += [grid(DOUBTFUL, rows)] if rows else []
    return [*parts, f"{more} more: see report.json and index.html."] if more > 0 else parts


def _headline(report: Report) -> list[list[str]]:
    """The short table: its head, and a row for each arm. The fit is in it where an arm has one."""
    rows = [list(HEAD)]
    for arm, one in report.arms.items():
        figures = [figure(one.metrics[name]) for name in ("accuracy", "macro_f1")]
        rows.append([arm_name(arm, one), *figures, f"{percent(one.metrics['no_answer'].mean)} %"])
    if any(one.fit for one in report.arms.values()):
        cells = ["fit", *(f"{percent(one.fit.mean)} %" if one.fit else "-" for one in report.arms.values())]
        rows = [[*row, cell] for row, cell in zip(rows, cells, strict=True)]
    return rows


def _all_metrics(report: Report) -> str:
    """The table of every metric of predictions."""
    metrics = metrics_of("predictions")
    rows = [[arm_name(arm, one), *(figure(one.metrics[name]) for name in metrics)] for arm, one in report.arms.items()]
    return grid(["arm", *(f"{metric.title}, %" for metric in metrics.values())], rows)


def _pictures(report: Report) -> dict[str, str]:
    return {name: f"![{TITLES[name]}]({name}.png)" for name in picture_names(report)}


def picture_names(report: Report) -> list[str]:
    """Which of TITLES this report has: some need probabilities, losses or a sweep."""
    possible = {
        "reliability": any(arm.probabilities for arm in report.arms.values()),
        "loss": bool(report.losses),
        "curves": report.curves is not None,
        "choices": report.selection is not None,
    }
    return [name for name in TITLES if possible.get(name, True)]


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    rows = []
    for one in comparisons:
        low, high = map(points, one.macro_f1_ci95)
        for pair in one.per_seed:
            seeds = str(pair.seed) if pair.seed == pair.against_seed else f"{pair.seed}, {pair.against_seed}"
            counts = [str(pair.fixed), str(pair.broken), p_value(pair.mcnemar_p).removeprefix("= ")]
            rows.append([one.arm, one.against, f"{points(one.macro_f1_diff)} ({low} to {high})", seeds, *counts])
    return grid(["arm", "against", "macro-F1, points (95 %)", "seeds", "fixed", "broken", "McNemar p"], rows)


def _power(comparisons: Sequence[Comparison]) -> list[str]:
    first = comparisons[0]
    if not first.power:
        return []
    ask = f"How many clips it takes to see 5 points between {first.arm} and {first.against}, by lmms-eval:"
    return [inline(ask), shell([first.power])]


def _by_class(report: Report) -> str:
    rows = []
    for number, (label, title) in enumerate(report.label_titles.items(), start=1):
        of_arms = [arm.per_class[label] for arm in report.arms.values()]
        support = of_arms[0].support
        rows.append([str(number), title, str(support), *(f"{one.f1:.3f}" if support else "-" for one in of_arms)])
    return grid(["#", "class", report.clips, *report.arms], rows)


def _calibration(arm: str, statistics: ProbabilityStatistics) -> list[str]:
    means = [statistics.metrics[name].mean for name in metrics_of("probabilities")]
    return [arm, *("-" if mean is None else f"{mean:.3f}" for mean in means)]


def _quotes(report: Report, evaluations: Sequence[Evaluation]) -> list[str]:
    """The first samples that some arms (at their first seed) have right and others wrong, with what each wrote."""
    shown = {}
    for one in sorted(evaluations, key=lambda one: one.seed, reverse=True):
        columns = zip(one.targets, one.predictions, one.answers, strict=True)
        shown[one.arm] = dict(zip(one.ids, columns, strict=True))
    arms = [arm for arm in report.arms if arm in shown]
    if len(arms) < 2:
        return []
    samples, titles = shown[arms[0]], report.label_titles
    differ = [i for i in samples if len({shown[arm][i][0] == shown[arm][i][1] for arm in arms}) > 1]
    rows = [[i, titles[samples[i][0]], *(_quote(*shown[arm][i]) for arm in arms)] for i in differ[:QUOTED]]
    if not rows:
        return []
    intro = f"{len(differ)} of {report.n_test} clips (first seed of each arm); the first {len(rows)}:"
    return ["## Where the arms disagree", intro, grid(["id", "target", *arms], rows)]


def _quote(target: str, prediction: str | None, answer: str) -> str:
    kind = "no answer" if prediction is None else "right" if prediction == target else "wrong"
    line = one_line(answer)
    return f"{kind}: {line if len(line) <= WIDTH else line[: WIDTH - 1] + '…'}"


def _provenance(known: Provenance) -> list[str]:
    parts = ["## How it was made", bullets(f"{name}: {value}" for name, value in known.facts.items())]
    if known.steps:
        rows = [[step.name, *map(_cell, (step.seconds, step.tokens_in, step.tokens_out))] for step in known.steps]
        parts.append(grid(["step", "time", "tokens read", "tokens written"], rows))
    if steps := [step for step in known.steps if step.command]:
        commands = [step.command for step in steps]
        if len("".join(commands)) > COMMANDS:
            first = min((step.seed for step in steps if step.seed is not None), default=None)
            commands = [step.command for step in steps if step.seed in (None, first)]
        parts.append(shell(commands))
        if hidden := len(steps) - len(commands):
            parts.append(f"Commands of the other seeds: {hidden}, in report.json and index.html.")
    if known.missing:
        parts += ["Not known:", bullets(known.missing)]
    return parts


def _cell(number: float | None) -> str:
    """Seconds, which are floats, or a count."""
    return "-" if number is None else duration(number) if isinstance(number, float) else f"{number:,}"
