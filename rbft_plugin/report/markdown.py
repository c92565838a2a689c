"""The report as text: the terminal's table and report.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rbft_plugin.errors import one_line
from rbft_plugin.report import prose as wording
from rbft_plugin.report.evaluations import Scored
from rbft_plugin.report.prose import arm_name, figure, inline, majority, p_value, points, rate, without_video

if TYPE_CHECKING:
    from rich.table import Table

QUOTED = 10  # samples whose answers report.md quotes
COMMANDS = 30_000  # characters of commands in report.md: an issue on GitHub takes 65,536 in all
WIDTH = 100  # characters of an answer that it quotes
HEAD = ("arm", "accuracy, % (95 % interval)", "macro-F1, % (95 % interval)", "no answer")
TITLES = {
    "accuracy": "accuracy and macro-F1 by arm",
    "classes": "F1 by class",
    "confusion": "confusion matrices",
    "reliability": "reliability of the probabilities",
    "loss": "training loss",
    "curves": "learning curves",
}  # of the pictures, in the order of report.md and the page


def table(report: Mapping[str, Any]) -> Table:
    """The arms of a report as a table for the terminal, the majority line as its caption."""
    from rich.table import Table
    from rich.text import Text

    # Text, for an arm's name is not markup
    shown = Table(caption=Text(f"{majority(report)}\n{without_video(report)}".strip()), caption_justify="left")
    for column in HEAD:
        shown.add_column(column, justify="left" if column == "arm" else "right", overflow="fold")
    for arm, figures in report["arms"].items():
        shown.add_row(
            Text(arm_name(arm, figures)), *(figure(figures[f]) for f in ("accuracy", "macro_f1")), rate(figures)
        )
    return shown


def shown_labels(report: Mapping[str, Any]) -> dict[str, str]:
    """{label: the name that people read}."""
    return {label: report.get("display", {}).get(label, label) for label in report["labels"]}


def markdown(report: Mapping[str, Any], evaluations: Sequence[Scored]) -> str:
    """report.md: the report for a person, with the pictures beside it and answers quoted from `evaluations`."""
    arms, pictures = report["arms"], _pictures(report)
    rows = [[arm_name(a, f), figure(f["accuracy"]), figure(f["macro_f1"]), rate(f)] for a, f in arms.items()]
    parts = [f"# Report: {inline(report['dataset'])}", _grid(HEAD, rows), majority(report)]
    if said := without_video(report):
        parts.append(inline(said))
    parts.append(pictures["accuracy"])
    if report["comparisons"]:
        parts += ["## Comparisons", _bullets(comparison["sentence"] for comparison in report["comparisons"])]
        parts.append(_comparisons(report["comparisons"]))
        parts += _power(report["comparisons"])
    parts += ["## F1 by class", _by_class(report), pictures["classes"], pictures["confusion"]]
    if rows := [_calibration(arm, f["probabilities"]) for arm, f in arms.items() if f["probabilities"]]:
        head = ["arm", "AUROC", "average precision", "Brier (0 to 2)", "calibration error"]
        parts += ["## Probabilities", _grid(head, rows), pictures["reliability"]]
    parts += [pictures[name] for name in ("curves", "loss") if name in pictures]
    parts += _quotes(report, evaluations)
    if report.get("models"):
        parts += ["## Models", _bullets(f"{arm}: {path}" for arm, path in report["models"].items())]
    if report.get("versions"):
        parts += ["## Versions", _bullets(f"{name} {version}" for name, version in report["versions"].items())]
    if report.get("provenance"):
        parts += _provenance(report["provenance"])
    return "\n\n".join([*parts, "## Notes", _bullets(report["notes"])]) + "\n"


def _pictures(report: Mapping[str, Any]) -> dict[str, str]:
    return {name: f"![{TITLES[name]}]({name}.png)" for name in picture_names(report)}


def picture_names(report: Mapping[str, Any]) -> list[str]:
    """Which of TITLES this report has: some need probabilities, losses or a sweep."""
    there = {
        "reliability": any(arm["probabilities"] for arm in report["arms"].values()),
        "loss": bool(report.get("losses")),
        "curves": bool(report.get("curves")),
    }
    return [name for name in TITLES if there.get(name, True)]


def _comparisons(comparisons: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in comparisons:
        for pair in one["per_seed"]:
            seeds = (
                str(pair["seed"]) if pair["seed"] == pair["against_seed"] else f"{pair['seed']}, {pair['against_seed']}"
            )
            counts = [str(pair["fixed"]), str(pair["broken"]), p_value(pair["mcnemar_p"]).removeprefix("= ")]
            low, high = map(points, one["macro_f1_ci95"])
            f1 = f"{points(one['macro_f1_diff'])} ({low} to {high})"
            rows.append([one["arm"], one["against"], f1, seeds, *counts])
    return _grid(["arm", "against", "macro-F1, points (95 %)", "seeds", "fixed", "broken", "McNemar p"], rows)


def _power(comparisons: Sequence[Mapping[str, Any]]) -> list[str]:
    first = comparisons[0]
    if not first["power"]:
        return []
    ask = f"How many clips it takes to see 5 points between {first['arm']} and {first['against']}, by lmms-eval:"
    return [inline(ask), _shell([first["power"]])]


def _by_class(report: Mapping[str, Any]) -> str:
    arms, rows = report["arms"], []
    for number, (label, shown) in enumerate(shown_labels(report).items(), start=1):
        figures = [arm["per_class"][label] for arm in arms.values()]
        support = figures[0]["support"]
        rows.append([str(number), shown, str(support), *(f"{f['f1']:.3f}" if support else "-" for f in figures)])
    return _grid(["#", "class", "test clips", *arms], rows)


def _calibration(arm: str, of: Mapping[str, Any]) -> list[str]:
    names = ("auroc", "average_precision", "brier", "calibration_error")
    return [arm, *("-" if of[name]["mean"] is None else f"{of[name]['mean']:.3f}" for name in names)]


def _quotes(report: Mapping[str, Any], evaluations: Sequence[Scored]) -> list[str]:
    """The first samples that some arms (at their first seed) have right and others wrong, with what each wrote."""
    shown = {}
    for one in sorted(evaluations, key=lambda one: one.seed, reverse=True):
        shown[one.arm] = {
            i: (t, p, a) for i, t, p, a in zip(one.ids, one.targets, one.predictions, one.answers, strict=True)
        }
    arms = [arm for arm in report["arms"] if arm in shown]
    if len(arms) < 2:
        return []
    samples, names = shown[arms[0]], shown_labels(report)
    differ = [i for i in samples if len({shown[arm][i][0] == shown[arm][i][1] for arm in arms}) > 1]
    rows = [[i, names[samples[i][0]], *(_quote(*shown[arm][i]) for arm in arms)] for i in differ[:QUOTED]]
    if not rows:
        return []
    intro = f"{len(differ)} of {report['n_test']} clips (first seed of each arm); the first {len(rows)}:"
    return ["## Where the arms disagree", intro, _grid(["id", "target", *arms], rows)]


def _quote(target: str, prediction: str | None, answer: str) -> str:
    kind = "no answer" if prediction is None else "right" if prediction == target else "wrong"
    line = one_line(answer)
    return f"{kind}: {line if len(line) <= WIDTH else line[: WIDTH - 1] + '…'}"


def _provenance(known: Mapping[str, Any]) -> list[str]:
    parts = ["## How it was made", _bullets(f"{name}: {value}" for name, value in known["facts"].items())]
    if known["steps"]:
        rows = [[s["name"], *map(_cell, (s["seconds"], s["tokens_in"], s["tokens_out"]))] for s in known["steps"]]
        parts.append(_grid(["step", "time", "tokens read", "tokens written"], rows))
    if steps := [s for s in known["steps"] if s["command"]]:
        commands = [s["command"] for s in steps]
        shown = commands if len("".join(commands)) <= COMMANDS else _of_first_seed(steps)
        parts.append(_shell(shown))
        if len(shown) < len(commands):
            hidden = len(commands) - len(shown)
            parts.append(f"Commands of the other seeds: {hidden}, in report.json and index.html.")
    if known["missing"]:
        parts += ["Not known:", _bullets(known["missing"])]
    return parts


def _of_first_seed(steps: Sequence[Mapping[str, Any]]) -> list[str]:
    """The commands without those of every seed but the lowest."""
    seeds = [s["seed"] for s in steps]
    first = min((seed for seed in seeds if seed is not None), default=None)
    return [s["command"] for s, seed in zip(steps, seeds, strict=True) if seed in (None, first)]


def _cell(number: float | None) -> str:
    """Seconds, which are floats, or a count."""
    return "-" if number is None else wording.duration(number) if isinstance(number, float) else f"{number:,}"


def _shell(commands: Sequence[str]) -> str:
    ticks = max(map(len, re.findall("`+", "\n".join(commands))), default=0)
    fence = "`" * max(3, ticks + 1)
    return "\n".join([f"{fence}sh", *commands, fence])


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(inline(cell) for cell in line)} |" for line in lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {inline(line)}" for line in lines)
