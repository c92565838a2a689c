"""splits: properties that hold of every set of samples."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rbft_plugin.data.annotations import Sample
from rbft_plugin.data.splits import assign
from rbft_plugin.errors import ProblemsError
from rbft_plugin.spec.dataset_sources import SPLITS, Splits

labels = st.sampled_from(["calm", "busy", "wild", None])
samples = st.lists(labels, max_size=60).map(
    lambda annotated: [
        Sample(f"id{i}", Path(f"{i}.mp4"), label, None, f"row {i + 1}") for i, label in enumerate(annotated)
    ]
)
ratios = st.tuples(st.integers(1, 20), st.integers(0, 20), st.integers(1, 20)).map(
    lambda parts: {split: part / sum(parts) for split, part in zip(SPLITS, parts, strict=True)}
)


def many(n: int) -> list[Sample]:
    return [Sample(f"id{i}", Path(f"{i}.mp4"), ("calm", "busy")[i % 2], None, f"row {i + 1}") for i in range(n)]


def by_ratio(seed: int = 0, **ratio: Any) -> Splits:
    return Splits(ratio=ratio or {"train": 0.5, "val": 0.25, "test": 0.25}, seed=seed)


@given(samples, ratios, st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_every_sample_is_in_exactly_one_split_and_nothing_else_of_it_changes(
    annotated: list[Sample], ratio: dict[str, float], seed: int
) -> None:
    decided = assign(annotated, by_ratio(seed, **ratio))
    assert [replace(s, split=None) for s in decided] == annotated
    assert {s.split for s in decided} <= set(SPLITS)


@given(samples, ratios)
@settings(max_examples=100, deadline=None)
def test_each_split_has_its_share_of_each_label_to_within_one_sample(
    annotated: list[Sample], ratio: dict[str, float]
) -> None:
    decided = assign(annotated, by_ratio(**ratio))
    for label in ("calm", "busy", "wild"):
        counts = Counter(s.split for s in decided if s.label == label)
        for split in SPLITS:
            assert abs(counts[split] - ratio[split] * counts.total()) <= 1 + 1e-9


@given(samples, ratios)
@settings(max_examples=50, deadline=None)
def test_samples_without_a_label_train(annotated: list[Sample], ratio: dict[str, float]) -> None:
    assert {s.split for s in assign(annotated, by_ratio(**ratio)) if s.label is None} <= {"train"}


@given(samples.flatmap(lambda annotated: st.tuples(st.just(annotated), st.permutations(annotated))), ratios)
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_file_does_not_matter(
    orders: tuple[list[Sample], list[Sample]], ratio: dict[str, float]
) -> None:
    one, other = ({s.id: s.split for s in assign(annotated, by_ratio(**ratio))} for annotated in orders)
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
    annotated = [Sample("a", Path("a"), "calm", "val", "row 1"), Sample("b", Path("b"), None, "train", "row 2")]
    assert assign(annotated, Splits(column="split")) == annotated
    assert assign(annotated, None) == annotated  # as a file for each split gives them


def test_what_no_file_of_ids_names_trains_or_goes_by_ratio() -> None:
    named = [replace(s, split="test" if i < 4 else "val" if i < 6 else None) for i, s in enumerate(many(26))]
    ids = {"test": Path("a"), "val": Path("b")}
    assert Counter(s.split for s in assign(named, Splits(ids=ids))) == {"test": 4, "val": 2, "train": 20}
    named = [replace(s, split="test" if i < 6 else None) for i, s in enumerate(many(26))]
    shared = assign(named, Splits(ids={"test": Path("a")}, ratio={"train": 0.8, "val": 0.2}))
    assert Counter((s.split, s.label) for s in shared if s.split != "test") == {
        **{("train", "calm"): 8, ("train", "busy"): 8},
        **{("val", "calm"): 2, ("val", "busy"): 2},
    }
    assert [s.id for s in shared if s.split == "test"] == [f"id{i}" for i in range(6)]


grouped = st.lists(st.tuples(labels, st.sampled_from(["", *"abcdefgh"])), max_size=50).map(
    lambda annotated: [
        Sample(f"id{i}", Path(f"{i}.mp4"), label, None, f"row {i + 1}", group=group or None)
        for i, (label, group) in enumerate(annotated)
    ]
)


def by_group(ratio: dict[str, float], seed: int = 0) -> Splits:
    return Splits(ratio=ratio, seed=seed, group="source")


@given(grouped, ratios, st.integers(0, 3), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_no_group_straddles_splits_and_the_order_of_the_file_does_not_matter(
    annotated: list[Sample], ratio: dict[str, float], seed: int, chance: Any
) -> None:
    decided = assign(annotated, by_group(ratio, seed))
    assert [replace(s, split=None) for s in decided] == annotated
    assert {s.split for s in decided} <= {split for split, share in ratio.items() if share}
    assert {s.split for s in decided if s.label is None} <= {"train"}
    for group in {s.group for s in annotated if s.group}:
        assert len({s.split for s in decided if s.group == group}) == 1
    shuffled = list(annotated)
    chance.shuffle(shuffled)
    assert {s.id: s.split for s in assign(shuffled, by_group(ratio, seed))} == {s.id: s.split for s in decided}


@given(ratios, st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_groups_of_one_label_come_as_near_to_the_shares_as_a_group_is_large(ratio: dict[str, float], seed: int) -> None:
    sizes = [7, 5, 5, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1, 1]
    annotated = [
        Sample(f"{label}{g}-{i}", Path("a"), label, None, "row", group=f"{label}{g}")
        for label in ("calm", "busy")
        for g, size in enumerate(sizes)
        for i in range(size)
    ]
    decided = assign(annotated, by_group(ratio, seed))
    for label in ("calm", "busy"):
        counts = Counter(s.split for s in decided if s.label == label)
        for split in SPLITS:
            assert abs(counts[split] - ratio[split] * sum(sizes)) <= 3


def test_groups_of_mixed_labels_are_stratified_as_well_as_they_can_be() -> None:
    annotated = [
        Sample(f"id{i}", Path("a"), ("calm", "busy", "busy")[i % 3], None, "row", group=f"source{i // 6}")
        for i in range(600)  # 100 groups of 2 calm and 4 busy
    ]
    decided = assign(annotated, by_group({"train": 0.7, "val": 0.1, "test": 0.2}))
    assert Counter((s.split, s.label) for s in decided) == {
        **{("train", "calm"): 140, ("train", "busy"): 280},
        **{("val", "calm"): 20, ("val", "busy"): 40},
        **{("test", "calm"): 40, ("test", "busy"): 80},
    }
    other = assign(annotated, by_group({"train": 0.7, "val": 0.1, "test": 0.2}, seed=1))
    assert [s.split for s in other] != [s.split for s in decided]


def test_a_group_with_an_unlabelled_sample_trains_as_a_whole() -> None:
    annotated = [Sample(f"id{i}", Path("a"), None if i == 0 else "calm", None, "row", group="g") for i in range(9)]
    others = [Sample(f"x{i}", Path("a"), "calm", None, "row") for i in range(10)]
    decided = assign([*annotated, *others], by_group({"train": 0.5, "test": 0.5}))
    assert Counter(s.split for s in decided) == {"train": 10, "test": 9}
    assert {s.split for s in decided if s.group} == {"train"}


def test_files_of_ids_that_cut_a_group_are_refused() -> None:
    annotated = [replace(s, group=f"g{i // 3}", split=("test", None, "val")[i % 3]) for i, s in enumerate(many(6))]
    annotated += [replace(s, id=f"x{i}", group="whole", split="test") for i, s in enumerate(many(3))]
    splits = Splits(ids={"test": Path("a"), "val": Path("b")}, ratio={"train": 1.0}, group="g")
    with pytest.raises(ProblemsError) as raised:
        assign(annotated, splits)
    assert str(raised.value) == (
        "splits.ids: 1 problem\n"
        "  - groups that are named in part, or in two files: 'g0' (no file, test, val), 'g1' (no file, test, val); "
        "name all of each or none"
    )


folded = st.lists(st.tuples(st.sampled_from(["calm", "busy", None]), st.integers(0, 9)), max_size=60).map(
    lambda rows: [
        Sample(f"id{i}", Path(f"{i}.mp4"), label, None, f"row {i + 1}", group=f"camera {group}")
        for i, (label, group) in enumerate(rows)
    ]
)


@given(folded, st.integers(2, 4), st.integers(0, 3), st.booleans(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_each_labelled_sample_is_in_one_fold_and_no_group_in_two(
    annotated: list[Sample], folds: int, seed: int, grouped: bool, random: Any
) -> None:
    wanted = Splits(folds=folds, seed=seed, group="camera" if grouped else None)
    numbers = Counter(s.label for s in annotated if s.label)
    groups = {s.group for s in annotated if s.label}
    if not numbers or min(numbers.values()) < folds or (grouped and len(groups) < folds):
        with pytest.raises(ProblemsError):
            assign(annotated, wanted)
        return
    decided = assign(annotated, wanted)
    assert [replace(s, split=None) for s in decided] == annotated
    names = {f"fold{fold}" for fold in range(folds)}
    assert all(s.split in names for s in decided if s.label)
    if grouped:
        assert all(len({s.split for s in decided if s.group == group}) == 1 for group in groups)
    else:
        assert all(s.split == "train" for s in decided if s.label is None and s.group not in groups)
        for label, number in numbers.items():  # each label is dealt evenly
            counts = Counter(s.split for s in decided if s.label == label)
            assert all(number // folds <= counts[name] <= -(-number // folds) for name in names)
    shuffled = random.sample(annotated, len(annotated))
    assert {s.id: s.split for s in assign(shuffled, wanted)} == {s.id: s.split for s in decided}


def test_the_seed_deals_the_folds() -> None:
    for group in (None, "camera"):
        dealt = [[s.split for s in assign(many(24), Splits(folds=3, seed=seed, group=group))] for seed in (0, 0, 1)]
        assert dealt[0] == dealt[1] != dealt[2]


def test_too_few_samples_for_the_folds_are_said_by_label() -> None:
    annotated = [Sample(f"id{i}", Path("v.mp4"), label, None, "row") for i, label in enumerate("aaabbbbc")]
    with pytest.raises(ProblemsError) as raised:
        assign(annotated, Splits(folds=4))
    assert (raised.value.what, raised.value.problems) == (
        "splits.folds",
        ["label 'a' has 3 samples, fewer than 4 folds", "label 'c' has 1 sample, fewer than 4 folds"],
    )
    with pytest.raises(ProblemsError, match="no sample has a label"):
        assign([replace(s, label=None) for s in annotated], Splits(folds=2))
    alone = [replace(s, group="one", label="a") for s in annotated]
    with pytest.raises(ProblemsError, match="the samples with a label are of 1 group, fewer than 2 folds"):
        assign(alone, Splits(folds=2, group="camera"))
