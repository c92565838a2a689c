"""Sentences and formats of numbers: what the figures show, and no more."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from rbft_plugin.errors import one_line
from rbft_plugin.report.figure_model import Figure
from rbft_plugin.report.view_model import CLIPS, ArmStatistics, Comparison, Report
from rbft_plugin.run.records import PlannedCandidate
from rbft_plugin.run.sweep import short_names
from rbft_plugin.scoring.answers import RULES
from rbft_plugin.spec.dataset_sources import Split
from rbft_plugin.spec.names import task_name

SIGNIFICANT = 0.05
FEW = 4  # clips of a class; below, bootstrap intervals are too narrow (docs/report.md has their coverage)


def sentence(comparison: Comparison, n: int, seeds: tuple[int, int], split: Split = "test") -> str:
    """What a comparison of n clips shows, in one sentence; `seeds` is how many seeds of each arm it compares.

    It speaks of a difference only if the printed interval leaves out 0 and the comparison's test agrees: with few clips
    the bootstrap alone finds too many differences.
    """
    several = max(seeds) > 1
    arm, against = (
        f"{name} ({of_seeds(k)})" if several else name
        for name, k in zip((comparison.arm, comparison.against), seeds, strict=True)
    )
    points = round(100 * comparison.accuracy_diff, 1)
    low, high = (round(100 * bound, 1) for bound in comparison.ci95)
    by_seed = [100 * pair.accuracy_diff for pair in comparison.per_seed]
    if points == 0:
        finding = f"{arm} and {against} are equally accurate, to 0.1 points,"
    else:
        finding = f"{arm} is {abs(points):.1f} points {'more' if points > 0 else 'less'} accurate than {against}"
    interval = f"95 % interval {low:z.1f} to {high:z.1f}"
    if several:
        interval += f", for other seeds and {CLIPS[split]} alike; by seed {min(by_seed):z.1f} to {max(by_seed):z.1f}"
    test = "t test over clips and seeds" if several else f"{comparison.test} test"
    p = f"the {test} gives p {p_value(comparison.p)}"
    run, does, shows = ("these runs", "do", "show") if several else ("this run", "does", "shows")
    if low <= 0 <= high:
        verdict = f"the interval contains 0, so {run} {does} not show a difference"
    elif round(comparison.p, 3) >= SIGNIFICANT:
        verdict = f"the interval leaves out 0, but {p}, so {run} {does} not settle whether they differ"
    elif any(points * difference <= 0 for difference in by_seed):
        verdict = f"the interval leaves out 0 and {p}, so {run} {shows} a difference on average, but not for every seed"
    else:
        verdict = f"the interval leaves out 0 and {p}, so {run} {shows} a difference between these models"
    return f"{finding} on these {n} {CLIPS[split]} ({interval}): {verdict}."


def notes(support: Mapping[str, int], labels: Sequence[str], seeds: Sequence[int], split: Split = "test") -> list[str]:
    """What a reader of the intervals must know; `support` is {label: clips}, `seeds` how many each arm has."""
    several = max(seeds) > 1
    clips = CLIPS[split]
    lines = [] if split == "test" else [f"These figures are of the {clips}, not of the test clips."]
    lines.append(
        f"Intervals (95 %) cover the choice of {clips}, taken as independent of one another"
        + ("; with several seeds also that of seeds; and nothing else." if several else ", and nothing else.")
    )
    lines.append(
        "With one seed, accuracy and no answer have Wilson intervals; other figures, and all differences, have "
        "bootstrap intervals that keep the number of clips of each class, paired for differences."
    )
    if several:
        lines.append(
            "Figures of several seeds are means over them, with t intervals over seeds and clips: no seed counts as "
            "further clips. Confusion matrices are sums over seeds."
        )
        if min(seeds) == 1:
            lines.append("An arm with one seed counts as it is: how much it would differ if trained again is unknown.")
    lines.append(
        "Intervals and p values are for each comparison alone, not corrected for the number of comparisons. p is of "
        "the exact McNemar test" + (", or with several seeds of a t test over clips and seeds." if several else ".")
    )
    if few := [label for label in labels if 0 < support.get(label, 0) < FEW]:
        lines.append(
            f"{len(few)} of {len(labels)} classes have fewer than {FEW} {clips}: "
            "the intervals of macro-F1 are too narrow."
        )
    if absent := [label for label in labels if not support.get(label)]:
        lines.append(
            f"{len(absent)} of {len(labels)} classes have no {clips.removesuffix('s')}: macro-F1 leaves them out."
        )
    return lines


def folds(count: int, dataset: str, probabilities: bool) -> list[str]:
    """What a reader must know of figures that are pooled over folds; [] where none are.

    `probabilities` says whether an arm with folds has probabilities of labels.
    """
    if not count:
        return []
    task, models = task_name(dataset, "ll", fold=0), f"{count} model{'s' if count > 1 else ''}"
    lacking = (
        "Labels that look wrong are not listed, because no arm with folds has probabilities of its labels. A recipe "
        f"with `evaluation: {{tasks: [label, ll]}}` has them; by hand, score {task} and those of the other folds too."
    )
    return [
        f"Each clip was answered by a model that was not trained on it: {models} for each seed, one for each "
        "fold. These models share most of their training data, so their errors are not independent. Intervals and p "
        "values take them as if they were, and are too narrow by an amount that no single cross-validation can tell "
        "(Bengio and Grandvalet 2004, JMLR 5). They say nothing about a model that is trained on all folds.",
        *([] if probabilities else [lacking]),
    ]


def scorings(dataset: str, runs: Sequence[str | None], shown: int) -> str:
    """How often a test split was scored, by whom, and how many of these scorings a report shows.

    `runs` has the name of a run for each scoring, None if it was made by hand.
    """
    names = [run for run in runs if run is not None]
    by_runs = f"by {len(set(names))} run{'s' if len(set(names)) > 1 else ''}"
    if not names or len(names) == len(runs):
        by = f", {by_runs if names else 'by hand'}"
    else:
        by = f": {_times(len(names))} {by_runs} and {_times(len(runs) - len(names))} by hand"
    part = f"{shown}" if shown < len(runs) else "all"
    shows = f"{part} of them" if len(runs) > 1 else "this one"
    return (
        f"The test split of {dataset} has been scored {_times(len(runs))} in this workspace{by}; "
        f"this report shows {shows}."
    )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


READING = ("arm", *RULES.values(), "no answer", "accuracy, if only the first counted")


def readings(report: Report) -> list[list[str]]:
    """How the answers of each arm were read: a row of READING, in per cent."""
    return [
        [arm, *(percent(one.readings.shares[rule]) for rule in (*RULES, 0)), percent(one.readings.accuracy_rule_1)]
        for arm, one in report.arms.items()
        if one.readings
    ]


def majority(report: Report) -> str:
    share = percent(report.majority_accuracy)
    return f"{report.n_test} {report.clips}; always naming their most frequent class would give {share} % accuracy."


def without_video(report: Report) -> str:
    """Accuracy of the arms that were also asked without the video; "" where none was."""
    asked = [f"{arm} {figure(one.without_video)}" for arm, one in report.arms.items() if one.without_video]
    return f"Accuracy without the video, % (95 % interval): {'; '.join(asked)}." if asked else ""


def arm_name(arm: str, statistics: ArmStatistics) -> str:
    seeds = len(statistics.seeds)
    return f"{arm} ({of_seeds(seeds)})" if seeds > 1 else arm


def of_seeds(count: int) -> str:
    return f"mean of {count} seeds" if count > 1 else "1 seed"


def figure(one: Figure) -> str:
    low, high = one.ci95
    return f"{percent(one.mean)} ({percent(low)} to {percent(high)})"


def candidate_name(candidate: PlannedCandidate, settings: Iterable[str]) -> str:
    """What a candidate has of its own, such as "max_steps 60, checkpoint 50"; `settings` are the keys that it tried."""
    names = short_names(settings)
    parts = [f"{names[key]} {value}" for key, value in candidate.settings.items()]
    parts += [f"without stage {candidate.left_out}"] if candidate.left_out else []
    parts += [f"checkpoint {candidate.checkpoint}"] if candidate.checkpoint else []
    return ", ".join(parts) or "as in the recipe"


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def points(difference: float) -> str:
    return f"{100 * difference:+z.1f}"


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.0005 else f"= {p:.3f}"


def duration(seconds: float) -> str:
    """Such as "45 s", "6 min 40 s", "3 h 05 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return (
        f"{whole // 60} min {whole % 60:02d} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    )


def inline(text: str) -> str:
    """One line in which nothing is markdown or HTML: a model's text may hold pipes, line breaks or tags."""
    return re.sub(r"[\\`*\[\]|]|<(?=[A-Za-z/!?])", r"\\\g<0>", one_line(text))
