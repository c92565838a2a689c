"""Pictures of reliability, training loss and learning curves. A report -> a figure of matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rbft_plugin import ticks
from rbft_plugin.charts import EDGE, FAINT, INK, LIGHT, look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3  # panels side by side


def reliability(report: Mapping[str, Any], missing: frozenset[str] = frozenset()) -> Figure:
    """How often the most probable label was right, by its probability: a panel an arm, at the arm's first seed."""
    from matplotlib.ticker import PercentFormatter

    arms = {arm: figures["probabilities"] for arm, figures in report["arms"].items() if figures["probabilities"]}
    figure, panels = _panels(len(arms), 3.0, 3.2)
    for axes, (arm, found) in zip(panels, arms.items(), strict=True):
        bins, error = found["reliability"]["bins"], found["expected_calibration_error"]["per_seed"][0]
        axes.plot([0, 1], [0, 1], color=INK, lw=1, ls=(0, (5, 3)))
        for one in bins:
            axes.bar(one["low"], one["accuracy"], one["high"] - one["low"], align="edge", color=LIGHT, ec=EDGE, lw=0.8)
            axes.vlines(one["confidence"], *one["ci95"], color=INK, lw=1.2)
            axes.plot([one["confidence"]], [one["accuracy"]], "o", ms=4, mfc="white", mec=INK)
            axes.text(
                (one["low"] + one["high"]) / 2, 0.015, str(one["n"]), ha="center", va="bottom", rotation=90, fontsize=7
            )
        axes.set_title(f"{ticks.ticks([arm], missing)[0]}: calibration error {100 * error:.1f} %", fontsize=10)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.08)
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
        axes.set_xlabel("probability of the most probable label, %")
    panels[0].set_ylabel("share of clips where it is right, %")
    figure.supxlabel(
        "numbers: test clips in the bin; whiskers: 95 % (Wilson); dashed: perfectly calibrated", fontsize=8
    )
    return figure


def losses(report: Mapping[str, Any], missing: frozenset[str] = frozenset()) -> Figure:
    """Training loss by optimizer step: a panel a stage, a line an arm and seed."""
    stages = list(dict.fromkeys(one["stage"] for one in report["losses"]))
    arms = list(dict.fromkeys(one["arm"] for one in report["losses"]))
    places = {arm: (list(report["arms"]).index(arm) if arm in report["arms"] else n) for n, arm in enumerate(arms)}
    figure, panels = _panels(len(stages), 3.6, 3.0)
    for axes, stage in zip(panels, stages, strict=True):
        said = set[str]()
        for one in (one for one in report["losses"] if one["stage"] == stage):
            name = ticks.ticks([one["arm"]], missing)[0]
            style = look(places[one["arm"]]) | {"markevery": max(1, len(one["steps"]) // 8)}
            axes.plot(one["steps"], one["loss"], **style, ms=4, lw=1.3, label="" if name in said else name)
            said.add(name)
        axes.set_title(f"stage: {stage}", fontsize=10)
        axes.set_xlabel("optimizer step")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8)
    panels[0].set_ylabel("training loss")
    return figure


def learning(report: Mapping[str, Any], missing: frozenset[str] = frozenset()) -> Figure:
    """Accuracy and macro-F1 against the amount of training data; see `curves` in docs/report.md."""
    from matplotlib.ticker import PercentFormatter

    figure, panels = _panels(2, 3.6, 3.2)
    spots = sorted({float(at) for line in report["curves"]["lines"].values() for at in line})
    for axes, (key, title) in zip(panels, (("accuracy", "accuracy"), ("macro_f1", "macro-F1")), strict=True):
        for place, (name, line) in enumerate(report["curves"]["lines"].items()):
            points = sorted((float(at), report["arms"][arm][key]) for at, arm in line.items())
            amounts = [at for at, _ in points]
            lows, highs = zip(*(one["ci95"] for _, one in points), strict=True)
            axes.fill_between(amounts, lows, highs, alpha=0.12, color=look(place)["color"], lw=0)
            label = ticks.ticks([name], missing)[0]
            axes.plot(amounts, [one["mean"] for _, one in points], **look(place), ms=5, lw=1.5, label=label)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(report["curves"]["x"])
        if spots[0] > 0 and spots[-1] / spots[0] >= 8:
            axes.set_xscale("log")
        axes.set_xticks(spots, [f"{at:g}" for at in spots])
        axes.minorticks_off()
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    panels[0].legend(frameon=False, fontsize=8)
    figure.supxlabel("shaded: 95 % intervals", fontsize=8)
    return figure


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
