"""splits: properties that hold of every set of samples."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rbft_plugin.annotations import Sample
from rbft_plugin.dataset import SPLITS, Splits
from rbft_plugin.splits import assign

labels = st.sampled_from(["calm", "busy", "wild", None])
samples = st.lists(labels, max_size=60).map(
    lambda given: [Sample(f"id{i}", Path(f"{i}.mp4"), label, None, i + 1) for i, label in enumerate(given)]
)
ratios = st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(1, 20)).map(
    lambda parts: {split: part / sum(parts) for split, part in zip(SPLITS, parts, strict=True)}
)


def many(n: int) -> list[Sample]:
    return [Sample(f"id{i}", Path(f"{i}.mp4"), ("calm", "busy")[i % 2], None, i + 1) for i in range(n)]


def by_ratio(seed: int = 0, **ratio: Any) -> Splits:
    return Splits(ratio=ratio or {"train": 0.5, "val": 0.25, "test": 0.25}, seed=seed)


@given(samples, ratios, st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_every_sample_is_in_exactly_one_split_and_nothing_else_of_it_changes(
    given: list[Sample], ratio: dict[str, float], seed: int
) -> None:
    decided = assign(given, by_ratio(seed, **ratio))
    assert [(s.id, s.video, s.label, s.row) for s in decided] == [(s.id, s.video, s.label, s.row) for s in given]
    assert {s.split for s in decided} <= set(SPLITS)


@given(samples, ratios)
@settings(max_examples=100, deadline=None)
def test_each_split_has_its_share_of_each_label_to_within_one_sample(
    given: list[Sample], ratio: dict[str, float]
) -> None:
    decided = assign(given, by_ratio(**ratio))
    for label in ("calm", "busy", "wild"):
        counts = Counter(s.split for s in decided if s.label == label)
        for split in SPLITS:
            assert abs(counts[split] - ratio[split] * counts.total()) <= 1 + 1e-9


@given(samples, ratios)
@settings(max_examples=50, deadline=None)
def test_samples_without_a_label_train(given: list[Sample], ratio: dict[str, float]) -> None:
    assert {s.split for s in assign(given, by_ratio(**ratio)) if s.label is None} <= {"train"}


@given(samples.flatmap(lambda given: st.tuples(st.just(given), st.permutations(given))), ratios)
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_file_does_not_matter(
    orders: tuple[list[Sample], list[Sample]], ratio: dict[str, float]
) -> None:
    one, other = ({s.id: s.split for s in assign(given, by_ratio(**ratio))} for given in orders)
    assert one == other


def test_shares_of_a_hundred_of_each_label_are_exact() -> None:
    decided = assign(many(200), by_ratio(train=0.8, val=0.04, test=0.16))
    assert Counter((s.label, s.split) for s in decided) == {
        **{("calm", "train"): 80, ("calm", "val"): 4, ("calm", "test"): 16},
        **{("busy", "train"): 80, ("busy", "val"): 4, ("busy", "test"): 16},
    }


def test_one_seed_gives_one_outcome_for_ever_and_another_seed_another() -> None:
    def test_ids(seed: int) -> list[str]:
        return [s.id for s in assign(many(16), by_ratio(seed)) if s.split == "test"]

    assert test_ids(0) == [
        "id2",
        "id8",
        "id13",
        "id15",
    ]  # a change of it would mix test samples of published splits into training
    assert len({tuple(test_ids(seed)) for seed in range(6)}) == 6


def test_labels_are_shuffled_apart_from_each_other() -> None:
    decided = assign(many(400), by_ratio(train=0.5, test=0.5))
    halves = [[s.split for s in decided if s.label == label] for label in ("calm", "busy")]
    assert halves[0] != halves[1]


def test_a_split_without_a_share_stays_empty() -> None:
    assert Counter(s.split for s in assign(many(20), by_ratio(train=0.5, test=0.5))) == {"train": 10, "test": 10}


def test_splits_by_column_stay_as_annotated() -> None:
    given = [Sample("a", Path("a"), "calm", "val", 1), Sample("b", Path("b"), None, "train", 2)]
    assert assign(given, Splits(column="split")) == given
