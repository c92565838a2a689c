"""Pictures of a report: reliability diagrams, training loss and learning curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rbft_plugin.report.figure_model import Figure as MetricFigure
from rbft_plugin.report.plots import EDGE, FAINT, INK, LIGHT, arm_style, columns_of, tick_labels
from rbft_plugin.report.selection_prose import arm_of, on_test
from rbft_plugin.report.view_model import Report
from rbft_plugin.scoring.metrics import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3  # panels side by side
LEGEND = 60  # columns of a name in a legend
DODGE = 4.0  # points
CANDIDATES, CANDIDATE_NAME = 24, 100  # of an arm in the picture of choices; columns of their names


def reliability(report: Report, missing: frozenset[str] = frozenset()) -> Figure:
    """How often the most probable label was right, by its probability: a panel an arm, at the arm's first seed."""
    from matplotlib.ticker import PercentFormatter

    arms = {arm: one.probabilities for arm, one in report.arms.items() if one.probabilities}
    figure, panels = _panels(len(arms), 3.0, 3.2)
    for axes, (arm, found) in zip(panels, arms.items(), strict=True):
        bins, error = found.reliability.bins, found.metrics["calibration_error"].per_seed[0] or 0.0
        axes.plot([0, 1], [0, 1], color=INK, lw=1, ls=(0, (5, 3)))
        for one in bins:
            axes.bar(one.low, one.accuracy, one.high - one.low, align="edge", color=LIGHT, ec=EDGE, lw=0.8)
            axes.vlines(one.confidence, *one.ci95, color=INK, lw=1.2)
            axes.plot([one.confidence], [one.accuracy], "o", ms=4, mfc="white", mec=INK)
            axes.text((one.low + one.high) / 2, 0.015, str(one.n), ha="center", va="bottom", rotation=90, fontsize=7)
        axes.set_title(f"{tick_labels([arm], missing)[0]}: calibration error {100 * error:.1f} %", fontsize=10)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.08)
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        axes.set_xlabel("probability of the most probable label, %")
    panels[0].set_ylabel("share of clips where it is right, %")
    figure.supxlabel(
        f"numbers: {report.clips} in the bin; whiskers: 95 % (Wilson); dashed: perfectly calibrated", fontsize=8
    )
    return figure


def losses(report: Report, missing: frozenset[str] = frozenset()) -> Figure:
    """Loss by optimizer step: a panel a stage, a line an arm and seed, and a paler one for its validation loss."""
    stages = list(dict.fromkeys(one.stage for one in report.losses))
    arms = list(dict.fromkeys(one.arm for one in report.losses))
    # Of what several cells of a sweep share no arm has the name.
    places = {arm: place for place, arm in enumerate(dict.fromkeys([*report.arms, *arms]))}
    names = dict(zip(arms, tick_labels(arms, missing, LEGEND), strict=True))
    figure, panels = _panels(len(stages), 3.6, 3.0)
    lines: dict[str, Any] = {}
    for axes, stage in zip(panels, stages, strict=True):
        for one in (one for one in report.losses if one.stage == stage):
            style = arm_style(places[one.arm]) | {"markevery": max(1, len(one.steps) // 8)}
            (lines[names[one.arm]],) = axes.plot(one.steps, one.loss, **style, ms=4, lw=1.3)
            if one.eval_steps:
                style["markevery"] = max(1, len(one.eval_steps) // 8)
                axes.plot(one.eval_steps, one.eval_loss, **style, ms=4, lw=0.9, mfc="none", alpha=0.7)
        axes.set_title(f"stage: {stage}", fontsize=10)
        axes.set_xlabel("optimizer step")
        axes.set_ylim(bottom=0)
    validated = any(one.eval_steps for one in report.losses)
    panels[0].set_ylabel("training loss (hollow: validation)" if validated else "training loss")
    _legend(figure, lines)
    return figure


def learning(report: Report, missing: frozenset[str] = frozenset()) -> Figure:
    """Accuracy and macro-F1 against the amount of training data; see `curves` in docs/report.md.

    Lines stand beside one another by DODGE points, so that their whiskers do not cover each other.
    """
    from matplotlib.ticker import PercentFormatter
    from matplotlib.transforms import ScaledTranslation

    figure, panels = _panels(2, 3.6, 3.2)
    assert report.curves
    curves = report.curves.lines
    names = tick_labels(list(curves), missing, LEGEND)
    spots = sorted({float(at) for line in curves.values() for at in line})
    lines: dict[str, Any] = {}
    for axes, (key, title) in zip(panels, (("accuracy", "accuracy"), ("macro_f1", "macro-F1")), strict=True):
        if spots[0] > 0 and spots[-1] / spots[0] >= 8:
            axes.set_xscale("log")
        for place, (name, line) in enumerate(zip(names, curves.values(), strict=True)):
            points = sorted((float(at), report.arms[arm].metrics[key]) for at, arm in line.items())
            amounts, style = [at for at, _ in points], arm_style(place)
            right = DODGE * (place - (len(curves) - 1) / 2) / 72
            beside = axes.transData + ScaledTranslation(right, 0, figure.dpi_scale_trans)
            lows, highs = zip(*(one.ci95 for _, one in points), strict=True)
            axes.vlines(amounts, lows, highs, color=style["color"], lw=1.1, alpha=0.7, transform=beside)
            seeds = [(at, value) for at, one in points for value in one.per_seed if len(one.per_seed) > 1]
            if seeds:
                axes.plot(*zip(*seeds, strict=True), ".", color=style["color"], ms=3, transform=beside)
            values = [one.mean for _, one in points]
            (lines[name],) = axes.plot(amounts, values, **style, ms=5, lw=1.5, transform=beside)
        if key == "accuracy":
            axes.axhline(report.majority_accuracy, color=INK, lw=1, ls=(0, (5, 3)))
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(report.curves.x)
        axes.set_xticks(spots, [f"{at:g}" for at in spots])
        axes.minorticks_off()
        axes.set_xlim(*_around(spots, axes.get_xscale() == "log"))
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    _legend(figure, lines)
    majority = f"always the most frequent class ({100 * report.majority_accuracy:.1f} %)"
    figure.supxlabel(f"whiskers: 95 % intervals; dots: seeds; dashed: {majority}", fontsize=8)
    return figure


def choices(report: Report, missing: frozenset[str] = frozenset()) -> Figure:
    """The metric of each candidate on validation: a panel an arm, the chosen one on top, beside its test figure."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    assert report.selection
    selection = report.selection
    shown = [choice.candidates[:CANDIDATES] for choice in selection.choices]
    rows = [len(candidates) + 1.5 for candidates in shown]
    figure = Figure(figsize=(9, 0.6 + 0.21 * sum(rows)), layout="constrained")
    grid = figure.subplots(len(shown), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": rows})
    for axes, choice, candidates in zip(grid.flat, selection.choices, shown, strict=True):
        for row, one in enumerate(candidates):
            if isinstance(one.metric, MetricFigure):
                axes.hlines(row, *one.metric.ci95, color=EDGE, lw=1.2)
            if one.metric.mean is not None:
                axes.plot([one.metric.mean], [row], "o", ms=5, mfc=EDGE if row == 0 else "white", mec=EDGE)
        test = on_test(report, choice)
        if test and test.mean is not None:
            axes.plot([test.mean], [0], "D", ms=6, mfc="none", mec=INK)
        names = tick_labels([one.name for one in candidates], missing, CANDIDATE_NAME)
        axes.set_yticks(range(len(candidates)), names, fontsize=7)
        axes.set_ylim(len(candidates) - 0.5, -0.6)
        hidden = len(choice.candidates) - len(candidates)
        of_all = f" (best {len(candidates)} of {len(choice.candidates)})" if hidden else ""
        axes.set_title(f"{tick_labels([arm_of(choice)], missing)[0]}{of_all}", fontsize=10)
        axes.grid(color=FAINT, lw=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=0)
    axes.set_xlabel(f"{METRICS[selection.metric].title} on validation")
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    figure.supxlabel("filled: chosen; whiskers: 95 % intervals; diamond: the chosen one on the test clips", fontsize=8)
    return figure


def _around(spots: list[float], log: bool, share: float = 0.12) -> tuple[float, float]:
    """Limits of an axis with room on both sides of its ticks: a share of what lies between them."""
    first, last = spots[0], spots[-1]
    if log:
        return first * (first / last) ** share, last * (last / first) ** share
    room = share * (last - first) or 1.0
    return first - room, last + room


def _legend(figure: Figure, lines: Mapping[str, Any]) -> None:
    """Names of lines above the panels, in as many columns as there is room for; the figure grows with them."""
    room = figure.get_figwidth() / (0.6 + 0.075 * max(map(columns_of, lines)))
    columns = max(1, min(len(lines), int(room)))
    figure.set_figheight(figure.get_figheight() + 0.17 * -(-len(lines) // columns))
    figure.legend(
        list(lines.values()), list(lines), loc="outside upper center", ncols=columns, frameon=False, fontsize=8
    )


def _panels(n: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """n axes of this size in inches, at most COLUMNS in a row."""
    from matplotlib.figure import Figure

    columns = min(COLUMNS, n)
    rows = -(-n // columns)
    figure = Figure(figsize=(columns * width + 0.4, rows * height + 0.4), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.grid(color=FAINT, lw=0.7)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(length=0)
    for axes in grid[n:]:
        axes.set_visible(False)
    return figure, grid[:n]
