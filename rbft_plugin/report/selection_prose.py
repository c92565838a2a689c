"""What a choice on validation shows, in sentences and rows of tables."""

from __future__ import annotations

from rbft_plugin.report.figure_model import Figure, MeanFigure
from rbft_plugin.report.prose import figure, of_seeds, percent, points
from rbft_plugin.report.selection_model import ArmChoice, Selection
from rbft_plugin.report.view_model import Report
from rbft_plugin.scoring.metrics import METRICS

FEW = 10  # validation clips of a class; with fewer, a choice is mostly luck
HEAD = ("arm", "chosen", "on validation", "on the test", "candidates", "trainings")


def title(selection: Selection) -> str:
    return METRICS[selection.metric].title


def intro(selection: Selection) -> str:
    """What was compared, and on what."""
    if any(choice.fold is not None for choice in selection.choices):
        return (
            f"For each fold, each arm's settings were chosen by their {title(selection)} on the other folds, at least "
            f"{selection.n} clips, each answered by a model that was trained on neither fold. Each arm could make up "
            f"to {selection.budget} trainings of its last stage for each seed and pair of folds. The figures of this "
            "report are those of the whole procedure, the choice included."
        )
    several = f", as a {of_seeds(len(selection.seeds))}" if len(selection.seeds) > 1 else ""
    return (
        f"Each arm's settings were chosen by their {title(selection)} on {selection.n} validation clips{several}. "
        f"Each arm could make up to {selection.budget} trainings of its last stage for each seed. The test clips took "
        "no part in it."
    )


def rows(report: Report, selection: Selection) -> list[list[str]]:
    """A row of HEAD for each arm."""
    return [
        [
            arm_of(choice),
            choice.candidates[0].name,
            of(choice.candidates[0].metric),
            of(test) if (test := on_test(report, choice)) else "-",
            str(len(choice.candidates)),
            f"{choice.tried} of {choice.possible}" if choice.tried < choice.possible else str(choice.tried),
        ]
        for choice in selection.choices
    ]


def arm_of(choice: ArmChoice) -> str:
    """The arm, and the fold for which it chose."""
    return choice.arm if choice.fold is None else f"{choice.arm}, fold {choice.fold}"


def candidate_rows(choice: ArmChoice) -> list[list[str]]:
    """The candidates of an arm, the chosen one first: settings, metric, log-likelihood of the label, steps."""
    return [[one.name, of(one.metric), f"{one.log_likelihood:.3f}", str(one.steps)] for one in choice.candidates]


def of(one: Figure | MeanFigure) -> str:
    """A metric in per cent, with its interval if it has one."""
    if isinstance(one, Figure):
        return figure(one)
    return "-" if one.mean is None else percent(one.mean)


def on_test(report: Report, choice: ArmChoice) -> Figure | MeanFigure | None:
    """The arm's metric on the test split; None if it was not, or for one of several folds."""
    arm, metric = report.arms.get(choice.arm), report.selection.metric if report.selection else ""
    if choice.fold is not None:  # the figure of the arm is of all folds
        return None
    if arm is None or metric in arm.metrics:
        return arm.metrics[metric] if arm else None
    return arm.probabilities.metrics[metric] if arm.probabilities else None


def sentences(report: Report, selection: Selection) -> list[str]:
    """What a reader must know about the choices: how sure they are, how far the validation figures can be believed."""
    lines = [line for choice in selection.choices for line in _of_arm(report, selection, choice)]
    if selection.few:
        names = ", ".join(report.label_titles.get(label, label) for label in selection.few[:5])
        lines.append(
            f"{len(selection.few)} of {len(report.labels)} classes have fewer than {FEW} validation clips ({names}"
            f"{', ...' if len(selection.few) > 5 else ''}): such a choice is mostly luck."
        )
    return lines


def _of_arm(report: Report, selection: Selection, choice: ArmChoice) -> list[str]:
    best, arm = choice.candidates[0], arm_of(choice)
    lines = []
    if choice.lead:
        low, high = choice.lead.ci95
        ahead = f"{arm}: {best.name} is {percent(choice.lead.mean)} points ahead of {choice.candidates[1].name}"
        apart = "cannot tell them apart" if low <= 0 <= high else "can tell them apart"
        lines.append(
            f"{ahead} (95 % interval {points(low)} to {points(high)}): {selection.n} validation clips {apart}."
        )
    test = on_test(report, choice)
    if test and test.mean is not None and best.metric.mean is not None:
        gap = test.mean - best.metric.mean
        figures = f"{arm}: {percent(best.metric.mean)} % on validation, {percent(test.mean)} % on the test"
        optimism = (
            ""
            if choice.optimism is None
            else (
                f" To choose the best of {len(choice.candidates)} by the same clips makes the validation figure too "
                f"good by about {percent(choice.optimism)} points (bootstrap)."
            )
        )
        lines.append(f"{figures}, {percent(abs(gap))} points {'lower' if gap < 0 else 'higher'}.{optimism}")
    for edge in choice.edges:
        lines.append(f"{arm}: {edge} of the values tried, was chosen: a value beyond it may be better.")
    if choice.possible < selection.budget:
        lines.append(
            f"{arm}: its settings have only {choice.possible} combinations, fewer than the budget of "
            f"{selection.budget} trainings."
        )
    return lines
