"""Which samples train, which validate, which test."""

from __future__ import annotations

import random
from dataclasses import replace

from rbft_plugin.annotations import Sample
from rbft_plugin.dataset import SPLITS, Splits


def assign(samples: list[Sample], splits: Splits) -> list[Sample]:
    """Samples with their split decided: as annotated, or stratified by label with a seed.

    By ratio, each label is shuffled by itself and cut at the cumulated shares, so that every split has its share of
    every label to within one sample. Samples without a label always train. The outcome depends on ids and labels, not
    on the order of the file.
    """
    if splits.ratio is None:
        return samples
    decided = {s.id: "train" for s in samples if s.label is None}
    for label in sorted({s.label for s in samples if s.label is not None}):
        ids = sorted(s.id for s in samples if s.label == label)
        random.Random(f"{splits.seed}/{label}").shuffle(ids)
        start, share = 0, 0.0
        for split in SPLITS:
            share += splits.ratio.get(split, 0.0)
            end = round(share * len(ids))
            decided |= dict.fromkeys(ids[start:end], split)
            start = end
    return [replace(s, split=decided[s.id]) for s in samples]
