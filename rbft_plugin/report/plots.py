"""Pictures of a report: accuracy by arm, F1 by class, confusion matrices. Also the names on axes, and their fonts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

from rbft_plugin.report.view_model import Report

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DARK, LIGHT, EDGE, INK, FAINT = "#5b91c4", "#d3e4f4", "#2f5f8f", "#222222", "#d9d9d9"
CELL = "#1d1d1d"  # on the cells of a matrix, which are light on a dark page too
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")  # Okabe and Ito's, without yellow
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
COLUMNS = ((12, 3), (30, 2))  # up to so many classes: so many confusion matrices side by side; else one
NUMBERED = 12  # above this many classes, cells are too small for numbers
WHISKERED = 30  # above this many classes, whiskers of F1 would run into each other
FONT = "DejaVu Sans"  # comes with matplotlib
NAME_WIDTH = 22  # of a tick label, in columns of a terminal (a Chinese character has two)


def arm_style(place: int) -> dict[str, Any]:
    """Colour, marker and line of the arm at this place; no two of the first 84 are alike in all three."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": LINES[place % len(LINES)],
    }


def accuracy(report: Report, missing: frozenset[str] = frozenset()) -> Figure:
    """Bars of accuracy and macro-F1 by arm, whiskers for the 95 % intervals, a dot for each of several seeds."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    arms, width = report.arms, 0.36
    figure = Figure(figsize=(max(5.5, 2.2 + 1.5 * len(arms)), 4.2), layout="constrained")
    axes = figure.add_subplot()
    for shift, key, label, colour in (
        (-width / 2, "accuracy", "accuracy", DARK),
        (width / 2, "macro_f1", "macro-F1", LIGHT),
    ):
        places = [place + shift for place in range(len(arms))]
        figures = [arm.metrics[key] for arm in arms.values()]
        hatch = "" if key == "accuracy" else "///"
        axes.bar(
            places, [one.mean for one in figures], width * 0.94,
            color=colour, edgecolor=EDGE, lw=0.8, label=label, hatch=hatch,
        )  # fmt: skip
        lows, highs = zip(*(one.ci95 for one in figures), strict=True)
        centres = [
            (low + high) / 2 for low, high in zip(lows, highs, strict=True)
        ]  # not the mean: intervals are skewed
        halves = [(high - low) / 2 for low, high in zip(lows, highs, strict=True)]
        axes.errorbar(places, centres, yerr=halves, fmt="none", ecolor=INK, elinewidth=1.2, capsize=4)
        for place, one in zip(places, figures, strict=True):
            top = max(one.mean, *one.ci95, *one.per_seed)
            axes.annotate(f"{100 * one.mean:.1f}", (place, top), (0, 5), textcoords="offset points", ha="center")
            if len(one.per_seed) > 1:
                axes.plot([place] * len(one.per_seed), one.per_seed, "o", ms=3.5, mfc="white", mec=INK, mew=0.8)
    majority = report.majority_accuracy
    axes.axhline(
        majority, color=INK, lw=1, ls=(0, (5, 3)), label=f"always the most frequent class ({100 * majority:.1f} %)"
    )
    axes.set_xticks(range(len(arms)), tick_labels(list(arms), missing))
    axes.set_xlim(-0.6, len(arms) - 0.4)
    axes.set_ylim(0, 1.06)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.grid(axis="y", color=FAINT, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles[1:] + handles[:1], names[1:] + names[:1], loc="outside upper center", ncols=3, frameon=False)
    figure.supxlabel(_caption(report), fontsize=8)
    return figure


def classes(report: Report, missing: frozenset[str] = frozenset()) -> Figure:
    """F1 of every class with clips: a row a class, a mark an arm, whiskers (95 %) while there are few classes."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    arms = report.arms
    names = tick_labels(list(report.label_titles.values()), missing)
    rows = [(label, name) for label, name in zip(report.labels, names, strict=True) if report.support[label]]
    pitch = 0.17 * len(arms) + 0.16 if len(rows) <= WHISKERED else 0.2  # inches a class
    figure = Figure(figsize=(7, pitch * len(rows) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    for place, (arm, figures) in enumerate(arms.items()):
        shift = (place - (len(arms) - 1) / 2) * 0.7 / len(arms) if len(rows) <= WHISKERED else 0
        heights = [row + shift for row in range(len(rows))]
        found = [figures.per_class[label] for label, _ in rows]
        if len(rows) <= WHISKERED:
            lows, highs = zip(*(one.f1_ci95 for one in found), strict=True)
            axes.hlines(heights, lows, highs, color=arm_style(place)["color"], lw=1.2, alpha=0.8)
        style = arm_style(place) | {"linestyle": "none"}
        axes.plot(
            [one.f1 for one in found], heights, **style, ms=5, mec=INK, mew=0.5, label=tick_labels([arm], missing)[0]
        )
    for row in range(1, len(rows)):
        axes.axhline(row - 0.5, color=FAINT, lw=0.5)
    axes.set_yticks(range(len(rows)), [f"{name}  ({report.support[label]})" for label, name in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    rows_said = "; #: row of the table of classes in report.md" if any(name.startswith("#") for _, name in rows) else ""
    axes.set_xlabel(f"F1 (in brackets: {report.clips} of the class{rows_said})")
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axes.grid(axis="x", color=FAINT, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    figure.legend(loc="outside upper center", ncols=min(4, len(arms)), frameon=False)
    return figure


def confusion(report: Report, missing: frozenset[str] = frozenset()) -> Figure:
    """A matrix for each arm: rows targets, columns predictions and "no answer", shaded by the share of the row."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    labels, arms = list(report.label_titles.values()), report.arms
    columns = min(next((side for most, side in COLUMNS if len(labels) <= most), 1), len(arms))
    rows = -(-len(arms) // columns)
    side = min(max(0.42 * (len(labels) + 1), 2.2), 7.5)  # inches
    size = min(8.0, 0.8 * 72 * side / (len(labels) + 1))  # points; no higher than a row
    names = [*tick_labels(labels, missing), "no answer"]
    margin = 0.55 * size / 72 * max(columns_of(name) for name in names)
    inches = (columns * (side + 0.25) + margin + 1.3, rows * (side + margin + 0.5) + 0.4)
    figure = Figure(figsize=inches, layout="compressed")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place, (axes, (arm, figures)) in enumerate(zip(grid, arms.items(), strict=False)):
        image = _matrix(axes, figures.confusion, size)
        title = tick_labels([arm], missing)[0] + (
            f", sum of {len(figures.seeds)} seeds" if len(figures.seeds) > 1 else ""
        )
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("answer")
        axes.set_ylabel("target" if place % columns == 0 else "")
        axes.set_xticks(range(len(names)), names, fontsize=size, rotation=90)
        axes.set_yticks(range(len(labels)), names[:-1] if place % columns == 0 else [], fontsize=size)
    for axes in grid[len(arms) :]:
        axes.set_visible(False)
    bar = figure.colorbar(image, ax=grid, shrink=0.6, aspect=30, format=PercentFormatter(1, symbol=" %"))
    if any(name.startswith("#") for name in names):
        figure.supxlabel("#: row of the table of classes in report.md", fontsize=8)
    bar.set_label("share of the class's clips", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    return figure


def _matrix(axes: Axes, counts: Sequence[Sequence[int]], size: float) -> Any:
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.axvline(len(counts) - 0.5, color=CELL, lw=0.8)  # what follows is no class
    axes.tick_params(length=0)
    axes.spines[:].set_color(FAINT)
    if len(counts) <= NUMBERED:
        for y, row in enumerate(counts):
            for x, count in enumerate(row):
                colour = "white" if shares[y][x] > 0.55 else CELL
                axes.text(x, y, str(count) if count else "", ha="center", va="center", color=colour, fontsize=size)
    return image


def _caption(report: Report) -> str:
    dots = "; dots: seeds" if any(len(arm.seeds) > 1 for arm in report.arms.values()) else ""
    return f"{report.n_test} {report.clips}; whiskers: 95 % intervals{dots}"


def fonts(text: str) -> tuple[list[str], frozenset[str]]:
    """Font families that together draw the text, matplotlib's own first, and the characters that none of them has."""
    from matplotlib.font_manager import findfont, fontManager
    from matplotlib.ft2font import FT2Font

    def has(path: str, characters: set[str]) -> set[str]:
        try:
            font = FT2Font(path)
        except (OSError, RuntimeError):  # a broken font file, or one of a kind that matplotlib cannot read
            return set()
        return {c for c in characters if font.get_char_index(ord(c))}

    families, missing = [FONT], set(text)
    missing -= has(findfont(FONT), missing)
    regular = {f.name: f.fname for f in fontManager.ttflist if f.style == "normal" and f.weight in (400, "normal")}
    regular = {name: path for name, path in sorted(regular.items()) if "Last Resort" not in name}  # draws only boxes
    found = {name: has(path, missing) for name, path in regular.items()} if missing else {}
    while missing and (best := max(found, key=lambda name: len(found[name] & missing), default="")):
        if not found[best] & missing:
            break
        families.append(best)
        missing -= found[best]
    return families, frozenset(missing)


def tick_labels(names: Sequence[str], missing: frozenset[str], most: int = NAME_WIDTH) -> list[str]:
    """The names as short as they must be; "#<row>" for those that cannot be drawn or told apart."""
    short = [shortened_name(" ".join(name.split()), most) for name in names]
    counts = Counter(short)
    return [
        f"#{number}" if missing & set(name) else f"#{number} {name}" if counts[name] > 1 else name
        for number, name in enumerate(short, start=1)
    ]


def shortened_name(name: str, most: int = NAME_WIDTH) -> str:
    """At most so many columns of a terminal, the middle left out: names of classes often share their beginnings."""
    if columns_of(name) <= most:
        return name
    head, tail = name[: len(name) // 2], name[len(name) // 2 :]
    while columns_of(head) + 1 + columns_of(tail) > most:
        head, tail = (head[:-1], tail) if columns_of(head) > columns_of(tail) else (head, tail[1:])
    return f"{head}…{tail}"


def columns_of(name: str) -> int:
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in name)
