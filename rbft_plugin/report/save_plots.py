"""The pictures of a report, each as PNG and SVG, and as an SVG for the page.

Readers can tell arms apart in grey and with colour blindness: colours are Okabe and Ito's (2008, "Color Universal
Design") or differ in lightness, and each arm has its own marker and line. Names that are too long are cut in the
middle. Names that no installed font can draw (Chinese, on many servers) become "#3": row 3 of report.md's table of
classes. On the page the reader's own fonts draw them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rbft_plugin.report import curve_plots, plots
from rbft_plugin.report.markdown import picture_names
from rbft_plugin.report.view_model import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLOTS: dict[str, Callable[[Report, frozenset[str]], Figure]] = {
    "accuracy": plots.accuracy,
    "classes": plots.classes,
    "confusion": plots.confusion,
    "reliability": curve_plots.reliability,
    "loss": curve_plots.losses,
    "curves": curve_plots.learning,
    "choices": curve_plots.choices,
}


def draw(report: Report, folder: Path) -> tuple[list[Path], dict[str, str]]:
    """Write the pictures that this report has as <name>.png and <name>.svg into `folder`.

    Returns their paths, and {name: SVG with its text as text} for the page. The same report gives the same bytes.
    """
    import warnings

    import matplotlib

    families, missing = plots.fonts("".join([*report.label_titles.values(), *report.arms]))
    style: Any = {
        "font.family": families,
        "font.size": 9,
        "text.usetex": False,
        "text.parse_math": False,  # "$" in a name is not a formula
        "text.color": plots.INK,
        "axes.edgecolor": plots.INK,
        "axes.labelcolor": plots.INK,
        "xtick.color": plots.INK,
        "ytick.color": plots.INK,
        "svg.hashsalt": "rbft",
        "hatch.linewidth": 0.6,
    }
    paths, inline = [], {}
    with matplotlib.rc_context(style), warnings.catch_warnings():
        for name in picture_names(report):
            figure = PLOTS[name](report, missing)
            for suffix in ("png", "svg"):
                paths.append(folder / f"{name}.{suffix}")
                paths[-1].write_bytes(_saved(figure, suffix, "path"))
            if missing:  # the reader's fonts draw what ours lack
                warnings.filterwarnings("ignore", "Glyph .* missing from font")
                figure = PLOTS[name](report, frozenset())
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
