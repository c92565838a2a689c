"""The pictures of a report, each as PNG and SVG, and as an SVG for the page.

They are told apart in grey and by colour-blind readers: colours are Okabe and Ito's (2008, "Color Universal Design") or
differ in lightness, and each arm has its own marker and line. Names that are too long are cut in the middle; those that
no installed font can draw (Chinese, on many servers) become "#3": row 3 of report.md's table of classes. On the page
the reader's own fonts draw them.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rbft_plugin.report import curve_plots as curves
from rbft_plugin.report import plots as charts
from rbft_plugin.report import ticks
from rbft_plugin.report.markdown import picture_names, shown_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHARTS: dict[str, Callable[[Mapping[str, Any], frozenset[str]], Figure]] = {
    "accuracy": charts.accuracy,
    "classes": charts.classes,
    "confusion": charts.confusion,
    "reliability": curves.reliability,
    "loss": curves.losses,
    "curves": curves.learning,
}


def draw(report: Mapping[str, Any], folder: Path) -> tuple[list[Path], dict[str, str]]:
    """Write the pictures that this report has as <name>.png and <name>.svg into `folder`.

    Returns their paths, and {name: SVG with its text as text} for the page. The same report gives the same bytes.
    """
    import warnings

    import matplotlib

    families, missing = ticks.fonts("".join([*shown_labels(report).values(), *report["arms"]]))
    style: Any = {
        "font.family": families,
        "font.size": 9,
        "text.usetex": False,
        "text.parse_math": False,  # "$" in a name is not a formula
        "text.color": charts.INK,
        "axes.edgecolor": charts.INK,
        "axes.labelcolor": charts.INK,
        "xtick.color": charts.INK,
        "ytick.color": charts.INK,
        "svg.hashsalt": "rbft",
        "hatch.linewidth": 0.6,
    }
    paths, inline = [], {}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        for name in picture_names(report):
            figure = CHARTS[name](report, missing)
            for suffix in ("png", "svg"):
                paths.append(folder / f"{name}.{suffix}")
                paths[-1].write_bytes(_saved(figure, suffix, "path"))
            if missing:  # the reader's fonts draw what ours lack
                warnings.filterwarnings("ignore", "Glyph .* missing from font")
                figure = CHARTS[name](report, frozenset())
            inline[name] = _saved(figure, "svg", "none").decode()
    return paths, inline


def _saved(figure: Figure, suffix: str, text: str) -> bytes:
    """A figure as PNG or SVG; the text of an SVG is "path" (outlines) or "none" (text)."""
    import matplotlib

    made = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": text}):
        metadata = {"Date": None} if suffix == "svg" else None
        figure.savefig(made, format=suffix, dpi=150, facecolor="white", bbox_inches="tight", metadata=metadata)
    figure.set_layout_engine("none")  # it is laid out now
    return made.getvalue()
