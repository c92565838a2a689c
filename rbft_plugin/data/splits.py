"""Decides which samples are for training, validation and testing."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace

from rbft_plugin.data.annotations import Sample
from rbft_plugin.errors import ProblemsError, shortened
from rbft_plugin.spec.dataset_sources import SPLITS, Split, Splits
from rbft_plugin.spec.names import fold_name


def assign(samples: list[Sample], splits: Splits | None, where: str = "splits") -> list[Sample]:
    """The samples with their splits. Those that the annotations or files of ids do not give are drawn with a seed.

    By ratio, the samples of each label are shuffled and cut at the cumulated shares. Every split then has its share of
    every label to within one sample. With groups, see `_by_group`. Samples without a label are for training.
    The result depends on ids, labels and groups, not on the order of the file. Raises ProblemsError if files of ids
    divide a group. With `folds`, see `_by_fold`. `where` is how errors name the key `splits`.
    """
    if splits and splits.folds:
        return _by_fold(samples, splits.folds, splits.seed, splits.group is not None, where)
    undecided = [s for s in samples if s.split is None]
    if splits is None or not undecided:
        return samples
    if splits.ids and splits.group:
        _require_whole_groups(samples, where)
    if splits.ratio is None:
        decided = {s.id: "train" for s in undecided}
    elif splits.group:
        decided = _by_group(undecided, splits.ratio, splits.seed)
    else:
        decided = _by_sample(undecided, splits.ratio, splits.seed)
    return [replace(s, split=decided[s.id]) if s.split is None else s for s in samples]


def _by_sample(samples: list[Sample], ratio: Mapping[Split, float], seed: int) -> dict[str, str]:
    decided = {s.id: "train" for s in samples if s.label is None}
    for label in sorted({s.label for s in samples if s.label is not None}):
        ids = sorted(s.id for s in samples if s.label == label)
        random.Random(f"{seed}/{label}").shuffle(ids)
        start, share = 0, 0.0
        for split in SPLITS:
            share += ratio.get(split, 0.0)
            end = round(share * len(ids))
            decided |= dict.fromkeys(ids[start:end], split)
            start = end
    return decided


def _by_group(samples: list[Sample], ratio: Mapping[Split, float], seed: int) -> dict[str, str]:
    """Give whole groups to splits, the largest group first, each to the split that it brings nearest to its shares.

    The distance is the sum over labels of (number - wanted number)^2 / number of all samples of the label. Groups of
    one size come in random order. A group with an unlabelled sample is for training. A sample without a group is a
    group of its own.
    """
    groups = defaultdict(list)
    for sample in samples:
        groups[("group", sample.group) if sample.group else ("sample", sample.id)].append(sample)
    names = sorted(groups)
    random.Random(str(seed)).shuffle(names)
    totals = Counter(s.label for s in samples if s.label)
    given: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    decided: dict[str, str] = {}
    for name in sorted(names, key=lambda name: -len(groups[name])):
        added = Counter(s.label for s in groups[name] if s.label)

        def cost(split: Split, added: Counter[str] = added) -> float:
            """How much the group would change the split's distance from its shares."""
            excess = {label: given[split][label] - ratio[split] * totals[label] for label in added}
            return sum(((excess[label] + n) ** 2 - excess[label] ** 2) / totals[label] for label, n in added.items())

        unlabelled = any(s.label is None for s in groups[name])
        split = "train" if unlabelled else min((s for s in SPLITS if ratio.get(s)), key=cost)
        given[split].update(added)
        decided |= dict.fromkeys((s.id for s in groups[name]), split)
    return decided


def _by_fold(samples: list[Sample], folds: int, seed: int, grouped: bool, where: str) -> list[Sample]:
    """Labelled samples are dealt to the splits fold0, fold1, ..., each label evenly, groups as a whole (scikit-learn's
    StratifiedKFold and StratifiedGroupKFold). A sample without a label is for training in every fold, unless its
    group is in one. Raises ProblemsError where a label has fewer samples, or there are fewer groups, than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labelled = sorted((s for s in samples if s.label is not None), key=lambda s: s.id)
    labels = [s.label for s in labelled]
    groups = [f"group {s.group}" if s.group else f"sample {s.id}" for s in labelled]
    numbers = Counter(labels)
    problems = [
        f"label '{label}' has {n} sample{'s' if n > 1 else ''}, fewer than {folds} folds"
        for label, n in numbers.items()
        if n < folds
    ]
    if grouped and len(set(groups)) < folds:
        number = len(set(groups))
        of = f"{number} group{'s' if number > 1 else ''}"
        problems.append(f"the samples with a label are of {of}, fewer than {folds} folds")
    if problems or not labelled:
        hint = "Take fewer folds, or label more samples."
        raise ProblemsError(f"{where}.folds", problems or ["no sample has a label"], hint)
    splitter = (StratifiedGroupKFold if grouped else StratifiedKFold)(folds, shuffle=True, random_state=seed)
    decided, of_group = {}, {}
    for fold, (_, tested) in enumerate(splitter.split(labels, labels, groups if grouped else None)):
        for place in tested:
            decided[labelled[place].id] = of_group[groups[place]] = fold_name(fold)
    return [replace(s, split=decided.get(s.id) or of_group.get(f"group {s.group}", "train")) for s in samples]


def _require_whole_groups(samples: list[Sample], where: str) -> None:
    splits_of = defaultdict(set)
    for sample in samples:
        if sample.group:
            splits_of[sample.group].add(sample.split or "no file")
    divided = [
        f"'{group}' ({', '.join(sorted(names))})" for group, names in sorted(splits_of.items()) if len(names) > 1
    ]
    if divided:
        problem = f"groups that are named in part, or in two files: {shortened(divided)}; name all of each or none"
        raise ProblemsError(f"{where}.ids", [problem])
