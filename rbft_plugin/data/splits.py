"""Which samples train, which validate, which test."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace

from rbft_plugin.data.annotations import Sample
from rbft_plugin.errors import ProblemsError, shortened
from rbft_plugin.spec.dataset_sources import SPLITS, Split, Splits


def assign(samples: list[Sample], splits: Splits | None) -> list[Sample]:
    """Samples with their split decided: as annotated or named by an id file, else stratified by label with a seed.

    By ratio, each label is shuffled by itself and cut at the cumulated shares, so that every split has its share of
    every label to within one sample; with groups, see `_by_group`. Samples without a label always train. The outcome
    depends on ids, labels and groups, not on the order of the file. Raises ProblemsError where id files cut a group.
    """
    open_ = [s for s in samples if s.split is None]
    if splits is None or not open_:
        return samples
    if splits.ids and splits.group:
        _require_whole_groups(samples)
    if splits.ratio is None:
        decided = {s.id: "train" for s in open_}
    elif splits.group:
        decided = _by_group(open_, splits.ratio, splits.seed)
    else:
        decided = _by_sample(open_, splits.ratio, splits.seed)
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
    """Whole groups, the largest first, each to the split that it brings nearest to its share of every label.

    Nearness is the sum over labels of squared distances from the wanted number, relative to the label's total. Among
    groups of one size chance decides who is first. A group with an unlabelled sample trains; a sample without a group
    is a group of its own.
    """
    groups = defaultdict(list)
    for sample in samples:
        groups[("group", sample.group) if sample.group else ("sample", sample.id)].append(sample)
    names = sorted(groups)
    random.Random(str(seed)).shuffle(names)
    totals = Counter(s.label for s in samples if s.label)
    have: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    decided: dict[str, str] = {}
    for name in sorted(names, key=lambda name: -len(groups[name])):
        added = Counter(s.label for s in groups[name] if s.label)

        def cost(split: Split, added: Counter[str] = added) -> float:
            """How much farther from its wanted numbers the split would be."""
            away = {label: have[split][label] - ratio[split] * totals[label] for label in added}
            return sum(((away[label] + n) ** 2 - away[label] ** 2) / totals[label] for label, n in added.items())

        unlabelled = any(s.label is None for s in groups[name])
        split = "train" if unlabelled else min((s for s in SPLITS if ratio.get(s)), key=cost)
        have[split].update(added)
        decided |= dict.fromkeys((s.id for s in groups[name]), split)
    return decided


def _require_whole_groups(samples: list[Sample]) -> None:
    of_group = defaultdict(set)
    for sample in samples:
        if sample.group:
            of_group[sample.group].add(sample.split or "no file")
    cut = [f"'{group}' ({', '.join(sorted(found))})" for group, found in sorted(of_group.items()) if len(found) > 1]
    if cut:
        raise ProblemsError(
            "splits.ids",
            [f"groups that are named in part, or in two files: {shortened(cut)}; name all of each or none"],
        )
