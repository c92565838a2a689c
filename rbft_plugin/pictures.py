"""The pictures of a report: accuracy and macro-F1 by arm, and a confusion matrix for each arm.

Colours differ in lightness, so that they can be told apart in grey. Names that are too long are cut in the middle;
those that no installed font can draw (Chinese, on many servers) become "#3": row 3 of report.md's table of classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import east_asian_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DARK, LIGHT, EDGE, INK, FAINT = "#5b91c4", "#d3e4f4", "#2f5f8f", "#222222", "#d9d9d9"
FONT = "DejaVu Sans"  # comes with matplotlib
COLUMNS = 3  # confusion matrices side by side
NUMBERED = 12  # above this many classes, cells are too small for numbers
NAME_WIDTH = 22  # of a tick label, in columns of a terminal (a Chinese character has two)


def draw(report: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write accuracy.png and confusion.png of a report (see report.summarize) into `folder`; their paths."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    fonts, missing = _fonts("".join([*report["labels"], *report["arms"]]))
    style: Any = {
        "font.family": fonts,
        "font.size": 9,
        "text.usetex": False,
        "text.parse_math": False,
        "text.color": INK,
    }
    paths = []
    with matplotlib.rc_context(style):  # "$" in a name is not a formula
        for name, figure in (
            ("accuracy.png", accuracy_chart(report, missing)),
            ("confusion.png", confusion_chart(report, missing)),
        ):
            FigureCanvasAgg(figure)
            figure.savefig(folder / name, dpi=150, facecolor="white", bbox_inches="tight")
            paths.append(folder / name)
    return paths


def accuracy_chart(report: Mapping[str, Any], missing: frozenset[str] = frozenset()) -> Figure:
    """Bars of accuracy and macro-F1 by arm, whiskers for the 95 % intervals, a dot for each of several seeds."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    arms, width = report["arms"], 0.36
    figure = Figure(figsize=(max(5.5, 2.2 + 1.5 * len(arms)), 4.2), layout="constrained")
    axes = figure.add_subplot()
    for shift, key, label, colour in (
        (-width / 2, "accuracy", "accuracy", DARK),
        (width / 2, "macro_f1", "macro-F1", LIGHT),
    ):
        places = [place + shift for place in range(len(arms))]
        figures = [arm[key] for arm in arms.values()]
        axes.bar(places, [f["mean"] for f in figures], width * 0.94, color=colour, edgecolor=EDGE, lw=0.8, label=label)
        lows, highs = zip(*(f["ci95"] for f in figures), strict=True)
        centres = [
            (low + high) / 2 for low, high in zip(lows, highs, strict=True)
        ]  # not the mean: intervals are skewed
        halves = [(high - low) / 2 for low, high in zip(lows, highs, strict=True)]
        axes.errorbar(places, centres, yerr=halves, fmt="none", ecolor=INK, elinewidth=1.2, capsize=4)
        for place, one in zip(places, figures, strict=True):
            top = max(one["mean"], *one["ci95"], *one["per_seed"])
            axes.annotate(f"{100 * one['mean']:.1f}", (place, top), (0, 5), textcoords="offset points", ha="center")
            if len(one["per_seed"]) > 1:
                axes.plot([place] * len(one["per_seed"]), one["per_seed"], "o", ms=3.5, mfc="white", mec=INK, mew=0.8)
    majority = report["majority_accuracy"]
    axes.axhline(
        majority, color=INK, lw=1, ls=(0, (5, 3)), label=f"always the most frequent class ({100 * majority:.1f} %)"
    )
    axes.set_xticks(range(len(arms)), _ticks(list(arms), missing))
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


def confusion_chart(report: Mapping[str, Any], missing: frozenset[str] = frozenset()) -> Figure:
    """A matrix for each arm: rows targets, columns predictions and "no answer", shaded by the share of the row."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import PercentFormatter

    labels, arms = report["labels"], report["arms"]
    columns = min(COLUMNS, len(arms))
    rows = -(-len(arms) // columns)
    side = min(max(0.42 * (len(labels) + 1), 2.2), 7.5)  # inches
    size = min(8.0, 0.8 * 72 * side / (len(labels) + 1))  # points; no higher than a row
    names = [*_ticks(labels, missing), "no answer"]
    margin = 0.55 * size / 72 * max(_width(name) for name in names)
    inches = (columns * (side + 0.25) + margin + 1.3, rows * (side + margin + 0.5) + 0.4)
    figure = Figure(figsize=inches, layout="compressed")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for place, (axes, (arm, figures)) in enumerate(zip(grid, arms.items(), strict=False)):
        image = _matrix(axes, figures["confusion"], size)
        title = _ticks([arm], missing)[0] + (
            f", sum of {len(figures['seeds'])} seeds" if len(figures["seeds"]) > 1 else ""
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
    axes.axvline(len(counts) - 0.5, color=INK, lw=0.8)  # what follows is no class
    axes.tick_params(length=0)
    axes.spines[:].set_color(FAINT)
    if len(counts) <= NUMBERED:
        for y, row in enumerate(counts):
            for x, count in enumerate(row):
                colour = "white" if shares[y][x] > 0.55 else INK
                axes.text(x, y, str(count) if count else "", ha="center", va="center", color=colour, fontsize=size)
    return image


def _caption(report: Mapping[str, Any]) -> str:
    dots = "; dots: seeds" if any(len(arm["seeds"]) > 1 for arm in report["arms"].values()) else ""
    return f"{report['n_test']} test clips; whiskers: 95 % intervals for the choice of clips{dots}"


def _fonts(text: str) -> tuple[list[str], frozenset[str]]:
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


def _ticks(names: Sequence[str], missing: frozenset[str]) -> list[str]:
    """The names as short as they must be; "#<row>" for those that cannot be drawn or told apart."""
    short = [_cut(" ".join(name.split())) for name in names]
    counts = Counter(short)
    return [
        f"#{number}" if missing & set(name) else f"#{number} {name}" if counts[name] > 1 else name
        for number, name in enumerate(short, start=1)
    ]


def _cut(name: str) -> str:
    """At most NAME_WIDTH columns, the middle left out: names of classes often share their beginnings."""
    if _width(name) <= NAME_WIDTH:
        return name
    head, tail = name[: len(name) // 2], name[len(name) // 2 :]
    while _width(head) + 1 + _width(tail) > NAME_WIDTH:
        head, tail = (head[:-1], tail) if _width(head) > _width(tail) else (head, tail[1:])
    return f"{head}…{tail}"


def _width(name: str) -> int:
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in name)
