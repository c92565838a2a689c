"""pictures: what they show, that they can be read in grey, and any name on them."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import random_scored, scored
from PIL import Image

from rbft_plugin.report import curve_plots as curves
from rbft_plugin.report import plots as charts
from rbft_plugin.report import save_plots as pictures
from rbft_plugin.report.build import summarize
from rbft_plugin.report.view_model import LearningCurves, LossCurve, Origin

RBFT = ("a", "a", None, "b", "b", "b")


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, after checking that the picture is not blank."""
    with Image.open(path) as image:
        image.load()
        grey = np.asarray(image.convert("L"))
    assert grey.std() > 10
    assert 0.02 < np.mean(grey < 250) < 0.98
    return grey.shape[1], grey.shape[0]


def test_confusion_matrices_wrap_sooner_with_more_classes() -> None:
    def side_by_side(k: int, arms: int) -> tuple[int, int]:
        seeds = {f"arm {number}": (0,) for number in range(arms)}
        labels = tuple(f"class {number}" for number in range(k))
        figure: Any = charts.confusion(summarize(random_scored(labels, 40, seeds)))
        grid = figure.axes[0].get_subplotspec().get_gridspec()
        return grid.nrows, grid.ncols

    assert side_by_side(2, 3) == (1, 3)
    assert side_by_side(2, 4) == (2, 3)
    assert side_by_side(13, 3) == (2, 2)
    assert side_by_side(31, 3) == (3, 1)


@pytest.mark.filterwarnings("error", "ignore::ResourceWarning")  # which is of what another test left
def test_a_hundred_and_one_classes_with_chinese_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = tuple(f"打开冰箱门并且拿出一瓶牛奶 $^{number}$" for number in range(50))
    labels += tuple(f"a class with a name as long as a sentence, number {number}" for number in range(51))
    evaluations = random_scored(labels, 150, {"rbft": (1,)})
    with caplog.at_level(logging.WARNING):
        paths, inline = pictures.draw(summarize(evaluations, Origin(display={labels[0]: "milk"})), tmp_path)
    assert caplog.records == []
    named = dict(zip((path.name for path in paths), paths, strict=True))
    assert min(size(named["confusion.png"])) > 900
    assert min(size(named["classes.png"])) > 700
    # the page's own picture has the names as text, for the reader's fonts; and the name to show, where there is one
    assert re.search(r">打开冰箱[^<]*…[^<]*牛奶 \$\^\d+\$", inline["classes"])
    assert ">milk  (" in inline["classes"]


def test_the_chart_shows_the_figures_their_intervals_seeds_and_the_majority() -> None:
    result = summarize(random_scored(("a", "b", "c"), 40, {"zero_shot": (0,), "rbft": (1, 2)}))
    figure: Any = charts.accuracy(result)
    (axes,) = figure.axes
    arms = [arm.metrics for arm in result.arms.values()]
    expected = [arm[key] for key in ("accuracy", "macro_f1") for arm in arms]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([one.mean for one in expected])
    whiskers = [segment[:, 1].tolist() for lines in axes.collections for segment in lines.get_segments()]
    assert whiskers == [pytest.approx(list(one.ci95)) for one in expected]
    assert [text.get_text() for text in axes.texts] == [f"{100 * one.mean:.1f}" for one in expected]
    dots = [list(line.get_ydata()) for line in axes.lines if line.get_marker() == "o"]
    assert dots == [arms[1]["accuracy"].per_seed, arms[1]["macro_f1"].per_seed]
    dashed = [line for line in axes.lines if str(line.get_label()).startswith("always")]
    assert [list(line.get_ydata()) for line in dashed] == [[result.majority_accuracy] * 2]


def test_a_name_that_looks_like_a_broken_formula_is_drawn_as_it_is(tmp_path: Path) -> None:
    evaluations = [scored("$\\frac$", RBFT, targets=("a",) * 6, labels=("a", "b", "$\\sum_{$"))]
    paths, inline = pictures.draw(summarize(evaluations), tmp_path)
    assert len(paths) == 6
    assert ">$\\frac$</text>" in inline["accuracy"]


def test_cells_have_numbers_only_while_there_are_few_classes() -> None:
    def texts(k: int) -> list[str]:
        labels = tuple(f"class {number}" for number in range(k))
        figure = charts.confusion(summarize(random_scored(labels, 60, {"rbft": (1,)})))
        return [text.get_text() for text in figure.axes[0].texts]

    assert sum(int(text or 0) for text in texts(12)) == 60
    assert texts(13) == []


def test_tick_labels() -> None:
    none: frozenset[str] = frozenset()
    assert charts.tick_labels(["wave", "sit\n down"], none) == ["wave", "sit down"]
    assert charts.tick_labels(["opening the door of the refrigerator"], none) == ["opening the…frigerator"]
    assert charts.tick_labels(["挥手挥手挥手挥手挥手挥手"], none) == ["挥手挥手挥…手挥手挥手"]
    assert charts.tick_labels(["wave", "挥手", "抬手"], frozenset("挥")) == ["wave", "#2", "抬手"]
    same = "aaaaaaaaaaa…aaaaaaaaaa"
    assert charts.tick_labels(["a" * 40, "b", "a" * 41], none) == [f"#1 {same}", "b", f"#3 {same}"]


def test_fonts_are_found_for_characters_that_the_first_lacks() -> None:
    assert charts.fonts("wave…") == (["DejaVu Sans"], frozenset())
    families, missing = charts.fonts("wave \u2336 \U0010fffd")  # in DejaVu Sans Mono; in no font
    assert (len(families), families[0], missing) == (2, "DejaVu Sans", frozenset("\U0010fffd"))


def test_each_of_many_arms_looks_different() -> None:
    seen = {(style["color"], style["marker"], str(style["linestyle"])) for style in map(charts.arm_style, range(84))}
    assert len(seen) == 84


def test_colours_of_neighbouring_arms_differ_in_grey_or_by_their_marker() -> None:
    def grey(colour: str) -> float:
        r, g, b = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
        return 0.299 * r + 0.587 * g + 0.114 * b

    assert grey(charts.LIGHT) - grey(charts.DARK) > 80
    assert len(set(charts.MARKERS)) == 7 and len(set(charts.COLOURS)) == 6


def test_classes_show_f1_and_its_interval_and_leave_out_classes_without_clips() -> None:
    evaluations = [scored("rbft", RBFT, labels=("a", "b", "c"))]
    figure: Any = charts.classes(summarize(evaluations))
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["a  (3)", "b  (3)"]
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in marks] == [[pytest.approx(0.8), 1.0]]
    (whiskers,) = axes.collections
    assert whiskers.get_segments()[0][:, 0].tolist() == [0.0, 1.0]


def test_a_number_for_a_class_is_explained() -> None:
    result = summarize([scored("rbft", RBFT)], Origin(display={"a": "挥手"}))
    for missing, label in ((frozenset("挥"), "#1  (3)"), (frozenset[str](), "挥手  (3)")):
        (axes,) = charts.classes(result, missing).axes
        assert axes.get_yticklabels()[0].get_text() == label
        assert ("#: row of the table of classes in report.md" in axes.get_xlabel()) == bool(missing)


def test_reliability_shows_each_bin_with_its_clips() -> None:
    rows = ((0.95, 0.05), (0.95, 0.05), (0.25, 0.75), (0.55, 0.45), (0.05, 0.95), (0.9, 0.1))
    result = summarize([scored("rbft", ("a", "a", "b", "a", "b", "a"), probabilities=rows)])
    statistics = result.arms["rbft"].probabilities
    assert statistics and [(one.low, one.n, one.accuracy) for one in statistics.reliability.bins] == [
        (0.5, 1, 0.0),
        (0.7, 1, 0.0),
        (0.8, 1, 0.0),
        (0.9, 3, 1.0),
    ]
    figure: Any = curves.reliability(result)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["1", "1", "1", "3"]
    assert [bar.get_height() for bar in axes.patches] == [0, 0, 0, 1]


def test_losses_have_a_panel_for_each_stage_and_a_line_for_each_arm_and_seed() -> None:
    losses = [
        {"arm": arm, "seed": seed, "stage": stage, "steps": [5, 10], "loss": [2.0, 1.0 + seed]}
        for arm, seed, stage in [
            ("rbft", 0, "rationale"),
            ("sft", 0, "label"),
            ("rbft", 0, "label"),
            ("rbft", 1, "label"),
        ]
    ]
    evaluations = random_scored(("a", "b"), 20, {"sft": (0,), "rbft": (0, 1)})
    figure: Any = curves.losses(summarize(evaluations, Origin.model_validate({"losses": losses})))
    assert [axes.get_title() for axes in figure.axes] == ["stage: rationale", "stage: label"]
    assert [list(line.get_ydata()) for line in figure.axes[1].lines] == [[2.0, 1.0], [2.0, 1.0], [2.0, 2.0]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["rbft", "sft"]
    colours = [line.get_color() for line in figure.axes[1].lines]
    assert colours == [charts.arm_style(0)["color"], charts.arm_style(1)["color"], charts.arm_style(1)["color"]]


def test_learning_curves_are_of_the_arms_that_they_name() -> None:
    lines = LearningCurves(x="clips a class", lines={"rbft": {"16": "sixteen", "4": "four", "8": "eight"}})
    evaluations = random_scored(("a", "b"), 30, {"four": (0,), "eight": (0,), "sixteen": (0,)})
    result = summarize(evaluations, Origin(curves=lines))
    figure: Any = curves.learning(result)
    line = figure.axes[0].lines[0]
    assert list(line.get_xdata()) == [4.0, 8.0, 16.0]
    assert list(line.get_ydata()) == [result.arms[arm].metrics["accuracy"].mean for arm in ("four", "eight", "sixteen")]
    assert figure.axes[0].get_xlabel() == "clips a class"
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["4", "8", "16"]


def test_learning_curves_of_several_arms_stand_beside_one_another_with_every_seed() -> None:
    seeds = {"base": (0,), "few": (0, 1), "many": (0, 1)}
    long = "an arm (training.overrides.learning_rate 0.0001)"
    lines = {"base": {"0.1": "base", "1": "base"}, long: {"0.1": "few", "1": "many"}}
    result = summarize(random_scored(("a", "b"), 30, seeds), Origin(curves=LearningCurves(x="share", lines=lines)))
    figure: Any = curves.learning(result)
    figure.draw_without_rendering()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["base", long]
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlim() == pytest.approx((0.1 * 10**-0.12, 10**0.12))
    base, dots, line, majority = axes.lines
    assert list(majority.get_ydata()) == [result.majority_accuracy] * 2 and len(figure.axes[1].lines) == 3
    assert f"({100 * result.majority_accuracy:.1f} %)" in figure.get_supxlabel()
    right = line.get_transform().transform((1, 0))[0] - base.get_transform().transform((1, 0))[0]
    assert right == pytest.approx(curves.DODGE / 72 * figure.dpi)
    of = [result.arms[arm].metrics["accuracy"] for arm in ("few", "many")]
    assert list(dots.get_ydata()) == [value for one in of for value in one.per_seed]
    whiskers = [[y for _, y in segment] for segment in axes.collections[1].get_segments()]
    assert whiskers == [list(one.ci95) for one in of]


def test_validation_loss_is_drawn_beside_training_loss() -> None:
    curve = LossCurve(arm="rbft", seed=0, stage="s", steps=[1, 2], loss=[2, 1], eval_steps=[2], eval_loss=[1.5])
    figure: Any = curves.losses(summarize([scored("rbft", RBFT)], Origin(losses=[curve])))
    training, validation = figure.axes[0].lines
    assert (list(validation.get_xdata()), list(validation.get_ydata())) == ([2], [1.5])
    assert validation.get_color() == training.get_color() and validation.get_markerfacecolor() == "none"
    assert figure.axes[0].get_ylabel() == "training loss (hollow: validation)"


def test_names_of_many_lines_leave_the_panels_their_room() -> None:
    def panel(arms: int) -> float:
        losses = [LossCurve(arm=f"arm {n}", seed=0, stage="s", steps=[1, 2], loss=[2, 1]) for n in range(arms)]
        figure: Any = curves.losses(summarize([scored("rbft", RBFT)], Origin(losses=losses)))
        figure.draw_without_rendering()
        return float(figure.axes[0].get_window_extent().height)

    assert panel(60) == pytest.approx(panel(2), rel=0.15)


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    result = summarize([scored("rbft", RBFT)])
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        pictures.draw(result, tmp_path / folder)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
