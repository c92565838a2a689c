"""The report in words: the sentence of a comparison, report.md, and the terminal's table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from rbft_plugin.report import Evaluation

SIGNIFICANT = 0.05
FEW = 5  # test clips a class; below, the bootstrap within classes is visibly too narrow (see metrics.bootstrap_draws)
QUOTED = 10  # samples whose answers report.md quotes
WIDTH = 100  # characters of an answer that it quotes
HEAD = ("arm", "accuracy, % (95 % interval)", "macro-F1, % (95 % interval)", "no answer")


def sentence(comparison: Mapping[str, Any], n: int, seeds: tuple[int, int]) -> str:
    """What a comparison shows, in one sentence that says no more than its numbers.

    `comparison` is an entry of report["comparisons"], n its test clips, `seeds` how many seeds each of its arms has.
    It speaks of a difference only if the interval, as printed, leaves out 0 and the comparison's test agrees: with few
    clips the bootstrap alone is too sure of itself.
    """
    several = max(seeds) > 1
    arm, against = (
        f"{name} ({_seeds(k)})" if several else name
        for name, k in zip((comparison["arm"], comparison["against"]), seeds, strict=True)
    )
    points = round(100 * comparison["accuracy_diff"], 1)
    low, high = (round(100 * bound, 1) for bound in comparison["ci95"])
    by_seed = [100 * pair["accuracy_diff"] for pair in comparison["per_seed"]]
    if points == 0:
        finding = f"{arm} and {against} are equally accurate, to 0.1 points,"
    else:
        finding = f"{arm} is {abs(points):.1f} points {'more' if points > 0 else 'less'} accurate than {against}"
    interval = f"95 % interval {low:z.1f} to {high:z.1f}"
    if several:
        interval += f", for the choice of test clips, not of seeds; by seed {min(by_seed):z.1f} to {max(by_seed):z.1f}"
    p = f"the {comparison['test']} test gives p {_p_value(comparison['p'])}"
    run, does, shows = ("these runs", "do", "show") if several else ("this run", "does", "shows")
    if low <= 0 <= high:
        verdict = f"the interval contains 0, so {run} {does} not show a difference"
    elif round(comparison["p"], 3) >= SIGNIFICANT:
        verdict = f"the interval leaves out 0, but {p}, so {run} {does} not settle whether they differ"
    elif any(points * difference <= 0 for difference in by_seed):
        verdict = f"the interval leaves out 0 and {p}, so {run} {shows} a difference on average, but not for every seed"
    else:
        verdict = f"the interval leaves out 0 and {p}, so {run} {shows} a difference between these models"
    return f"{finding} on these {n} test clips ({interval}): {verdict}."


def notes(support: Mapping[str, int], labels: Sequence[str], seeds: int) -> list[str]:
    """What a reader of the intervals must know; `support` is {label: test clips}, `seeds` the most that an arm has."""
    lines = ["Intervals (95 %) cover the choice of test clips, taken as independent of one another, and nothing else."]
    if seeds > 1:
        lines.append(
            "Figures of several seeds are means over them, with bootstrap intervals over test clips: no seed counts as "
            "further clips, and no interval covers how much seeds differ. Confusion matrices are sums over seeds."
        )
    lines.append(
        "With one seed, accuracy and no answer have Wilson intervals. Macro-F1 always has a bootstrap interval that "
        "keeps the number of clips of each class; differences have paired bootstrap intervals."
    )
    lines.append(
        "Intervals and p values are for each comparison alone, not corrected for the number of comparisons. p of one "
        "seed against one is of the exact McNemar test; with more seeds, of sign flips of each clip's difference."
    )
    if few := [label for label in labels if 0 < support.get(label, 0) < FEW]:
        lines.append(
            f"{len(few)} of {len(labels)} classes have fewer than {FEW} test clips: "
            "the intervals of macro-F1 are too narrow."
        )
    if absent := [label for label in labels if not support.get(label)]:
        lines.append(f"{len(absent)} of {len(labels)} classes have no test clip: macro-F1 leaves them out.")
    return lines


def table(report: Mapping[str, Any]) -> Table:
    """The arms of a report as a table for the terminal, the majority line as its caption."""
    from rich.table import Table
    from rich.text import Text

    shown = Table(caption=_majority(report), caption_justify="left")
    for column in HEAD:
        shown.add_column(column, justify="left" if column == "arm" else "right", overflow="fold")
    for arm, figures in report["arms"].items():
        # Text, for an arm's name is not markup
        shown.add_row(
            Text(_arm(arm, figures)), *(_figure(figures[f]) for f in ("accuracy", "macro_f1")), _rate(figures)
        )
    return shown


def markdown(report: Mapping[str, Any], evaluations: Sequence[Evaluation]) -> str:
    """report.md: the report for a person, with the two pictures beside it and answers quoted from `evaluations`."""
    arms = report["arms"]
    rows = [[_arm(a, f), _figure(f["accuracy"]), _figure(f["macro_f1"]), _rate(f)] for a, f in arms.items()]
    parts = [f"# Report: {_inline(report['dataset'])}", _grid(HEAD, rows), _majority(report)]
    parts.append("![accuracy and macro-F1 by arm](accuracy.png)")
    if report["comparisons"]:
        parts += ["## Comparisons", _bullets(comparison["sentence"] for comparison in report["comparisons"])]
        parts.append(_comparisons(report["comparisons"]))
    parts += ["## F1 by class", _by_class(report), "![confusion matrices](confusion.png)"]
    parts += _quotes(report, evaluations)
    if report.get("models"):
        parts += ["## Models", _bullets(f"{arm}: {path}" for arm, path in report["models"].items())]
    if report.get("versions"):
        parts += ["## Versions", _bullets(f"{name} {version}" for name, version in report["versions"].items())]
    if report.get("commands"):
        parts += ["## Commands", "\n".join(["```sh", *map(str, report["commands"]), "```"])]
    return "\n\n".join([*parts, "## Notes", _bullets(report["notes"])]) + "\n"


def _comparisons(comparisons: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in comparisons:
        for pair in one["per_seed"]:
            seeds = (
                str(pair["seed"]) if pair["seed"] == pair["against_seed"] else f"{pair['seed']}, {pair['against_seed']}"
            )
            counts = [str(pair["fixed"]), str(pair["broken"]), _p_value(pair["mcnemar_p"]).removeprefix("= ")]
            low, high = map(_points, one["macro_f1_ci95"])
            f1 = f"{_points(one['macro_f1_diff'])} ({low} to {high})"
            rows.append([one["arm"], one["against"], f1, seeds, *counts])
    return _grid(["arm", "against", "macro-F1, points (95 %)", "seeds", "fixed", "broken", "McNemar p"], rows)


def _by_class(report: Mapping[str, Any]) -> str:
    arms = report["arms"]
    rows = []
    for number, label in enumerate(report["labels"], start=1):
        figures = [arm["per_class"][label] for arm in arms.values()]
        support = figures[0]["support"]
        rows.append([str(number), label, str(support), *(f"{f['f1']:.3f}" if support else "-" for f in figures)])
    return _grid(["#", "class", "test clips", *arms], rows)


def _quotes(report: Mapping[str, Any], evaluations: Sequence[Evaluation]) -> list[str]:
    """The first samples that some arms (at their first seed) have right and others wrong, with what each wrote."""
    shown = {}
    for one in sorted(evaluations, key=lambda one: one.seed, reverse=True):
        shown[one.arm] = {
            i: (t, p, a) for i, t, p, a in zip(one.ids, one.targets, one.predictions, one.answers, strict=True)
        }
    arms = [arm for arm in report["arms"] if arm in shown]
    if len(arms) < 2:
        return []
    samples = shown[arms[0]]
    differ = [i for i in samples if len({shown[arm][i][0] == shown[arm][i][1] for arm in arms}) > 1]
    rows = [[i, samples[i][0], *(_quote(*shown[arm][i]) for arm in arms)] for i in differ[:QUOTED]]
    if not rows:
        return []
    intro = f"{len(differ)} of {report['n_test']} clips (first seed of each arm); the first {len(rows)}:"
    return ["## Where the arms disagree", intro, _grid(["id", "target", *arms], rows)]


def _quote(target: str, prediction: str | None, answer: str) -> str:
    kind = "no answer" if prediction is None else "right" if prediction == target else "wrong"
    line = _one_line(answer)
    return f"{kind}: {line if len(line) <= WIDTH else line[: WIDTH - 1] + '…'}"


def _majority(report: Mapping[str, Any]) -> str:
    share = _percent(report["majority_accuracy"])
    return f"{report['n_test']} test clips; always naming their most frequent class would give {share} % accuracy."


def _arm(arm: str, figures: Mapping[str, Any]) -> str:
    return f"{arm} ({_seeds(len(figures['seeds']))})" if len(figures["seeds"]) > 1 else arm


def _seeds(k: int) -> str:
    return f"mean of {k} seeds" if k > 1 else "1 seed"


def _figure(figure: Mapping[str, Any]) -> str:
    low, high = figure["ci95"]
    return f"{_percent(figure['mean'])} ({_percent(low)} to {_percent(high)})"


def _rate(figures: Mapping[str, Any]) -> str:
    return f"{_percent(figures['no_answer_rate']['mean'])} %"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(difference: float) -> str:
    return f"{100 * difference:+z.1f}"


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.0005 else f"= {p:.3f}"


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_inline(cell) for cell in line)} |" for line in lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_inline(line)}" for line in lines)


def _inline(text: str) -> str:
    """One line in which nothing is markdown or HTML: a model's text may hold pipes, line breaks or tags."""
    return re.sub(r"[\\`*\[\]|]|<(?=[A-Za-z/!?])", r"\\\g<0>", _one_line(text))


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
