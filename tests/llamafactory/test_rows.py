"""rows: what each kind of row holds, which samples a part of the training split has, and what is written."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from builders import QUIET, prepare, prepared_sample, small_dataset
from hypothesis import given
from hypothesis import strategies as st

from rbft_plugin.data.prepared import PreparedSample, TrainingRow, read_split, read_training_rows
from rbft_plugin.data.prompts import without_conclusion
from rbft_plugin.errors import ProblemsError, RbftError
from rbft_plugin.llamafactory import rows
from rbft_plugin.llamafactory.registry import registered_file
from rbft_plugin.spec.dataset import load
from rbft_plugin.spec.row_kinds import ROW_KINDS


def sample(name: str, label: str | None) -> PreparedSample:
    return prepared_sample(name, label, video=f"clips/{name}.mp4")


def rationale(name: str, text: str) -> TrainingRow:
    return sample(name, None).training_row("Why?", text)


SAMPLES = [sample("a", "calm"), sample("b", "busy"), sample("c", None), sample("d", "calm"), sample("e", "calm")]
RATIONALES = [rationale("c", "C moves."), rationale("a", "A rests."), rationale("b", "B runs.")]


def answers(made: list[TrainingRow]) -> list[tuple[str, str]]:
    return [(row.id, row.answer) for row in made]


def test_label_rows_are_those_of_the_labelled_samples() -> None:
    made = rows.rows(SAMPLES, ROW_KINDS["label"])
    assert answers(made) == [("a", "calm"), ("b", "busy"), ("d", "calm"), ("e", "calm")]
    assert made[0].as_json() == {
        "id": "a",
        "messages": [{"role": "user", "content": "<video>Which?"}, {"role": "assistant", "content": "calm"}],
        "videos": ["clips/a.mp4"],
    }


def test_balanced_rows_repeat_the_samples_of_rarer_classes() -> None:
    made = answers(rows.rows(SAMPLES, ROW_KINDS["label_balanced"]))
    assert made == [("a", "calm"), ("b", "busy"), ("d", "calm"), ("b", "busy"), ("e", "calm"), ("b", "busy")]


@pytest.mark.parametrize("kind", ["rationale", "rationale_hinted"])
def test_rationale_rows_are_the_collected_ones_as_they_stand(kind: str) -> None:
    plain = kind == "rationale"  # a hinted one is only written where there is a label
    assert rows.rows(SAMPLES, ROW_KINDS[kind], RATIONALES) == RATIONALES[0 if plain else 1 :]
    assert rows.rows(SAMPLES, ROW_KINDS[kind], RATIONALES, labelled=True) == RATIONALES[1:]
    assert rows.rows(SAMPLES[1:2], ROW_KINDS[kind], RATIONALES) == RATIONALES[2:]


@given(st.integers(2, 30), st.integers(0, 9))
def test_shuffled_rationales_are_the_same_videos_and_texts_but_none_with_its_own(count: int, seed: int) -> None:
    names = [f"v{i}" for i in range(count)]
    given = [rationale(name, f"Of {name}.") for name in names]
    made = rows.rows([sample(name, None) for name in names], ROW_KINDS["rationale_shuffled"], given, seed=seed)
    assert [(row.id, row.video, row.message) for row in made] == [(row.id, row.video, row.message) for row in given]
    assert sorted(text for _, text in answers(made)) == sorted(text for _, text in answers(given))
    assert all(text != f"Of {name}." for name, text in answers(made))
    assert given == [rationale(name, f"Of {name}.") for name in names]  # left as they were


def test_the_seed_decides_which_rationale_a_video_takes() -> None:
    given = [rationale(f"v{i}", f"Of v{i}.") for i in range(20)]
    samples = [sample(f"v{i}", None) for i in range(20)]
    first, second = (rows.rows(samples, ROW_KINDS["rationale_shuffled"], given, seed=seed) for seed in (0, 1))
    assert first != second and first == rows.rows(samples, ROW_KINDS["rationale_shuffled"], given)


def test_a_rationale_and_its_label_in_one_answer_end_in_a_mark_that_the_parser_knows() -> None:
    from rbft_plugin.scoring.answers import parse

    made = rows.rows(SAMPLES, ROW_KINDS["rationale_label"], RATIONALES)
    assert answers(made) == [
        ("a", "A rests.\n\nAnswer: calm"),
        ("b", "B runs.\n\nAnswer: busy"),
        ("d", "Answer: calm"),  # no rationale of it was kept
        ("e", "Answer: calm"),
    ]
    assert [parse(text, ["calm", "busy"]) for _, text in answers(made)] == ["calm", "busy", "calm", "calm"]
    assert made[0].message == "<video>Which?"


def test_a_rationale_that_kept_its_conclusion_has_no_second_answer() -> None:
    concluding = [rationale("a", "A rests.\n\nAnswer: busy")]
    made = rows.rows(SAMPLES[:1], ROW_KINDS["rationale_label"], concluding)
    assert answers(made) == [("a", "A rests.\n\nAnswer: calm")]


MANY = [sample(f"{label or 'none'}{i}", label) for i in range(12) for label in ("calm", "busy", None)]


def ids(samples: list[dict[str, Any]]) -> list[str]:
    return [s.id for s in samples]


@given(st.integers(1, 12), st.integers(0, 5), st.randoms())
def test_shots_are_so_many_of_each_class_and_all_unlabelled_samples(shots: int, seed: int, random: Any) -> None:
    chosen = rows.subset(MANY, shots=shots, seed=seed)
    assert Counter(s.label for s in chosen) == {"calm": shots, "busy": shots, None: 12}
    assert ids(chosen) == [i for i in ids(MANY) if i in set(ids(chosen))]  # in the order of the split
    shuffled = random.sample(MANY, len(MANY))
    assert set(ids(rows.subset(shuffled, shots=shots, seed=seed))) == set(ids(chosen))
    if shots > 1:
        assert set(ids(rows.subset(MANY, shots=shots - 1, seed=seed))) < set(ids(chosen))


def test_a_fraction_is_of_each_class_and_of_the_unlabelled_and_nested() -> None:
    half, quarter = (rows.subset(MANY, fraction=f, seed=3) for f in (0.5, 0.25))
    assert Counter(s.label for s in half) == {"calm": 6, "busy": 6, None: 6}
    assert Counter(s.label for s in quarter) == {"calm": 3, "busy": 3, None: 3}
    assert set(ids(quarter)) < set(ids(half))
    assert Counter(s.label for s in rows.subset(MANY, fraction=0.01)) == {"calm": 1, "busy": 1, None: 1}
    assert rows.subset(MANY, fraction=1.0) == rows.subset(MANY) == MANY


def test_another_seed_draws_others() -> None:
    assert ids(rows.subset(MANY, shots=4, seed=0)) != ids(rows.subset(MANY, shots=4, seed=1))


def test_more_shots_than_a_class_has_are_refused_with_each_class() -> None:
    with pytest.raises(ProblemsError) as raised:
        rows.subset(SAMPLES, shots=2)
    assert str(raised.value) == (
        "shots: 2 labelled training samples of each class are asked for: 1 problem\n  - 'busy' has 1"
    )


def test_rows_are_written_and_registered_beside_themselves(ws: Path) -> None:
    small_dataset("mine", {"train": 6, "test": 2})
    prepare(load("mine"), QUIET)
    target = Path("runs/x/rows/label_seed-1.jsonl")
    assert rows.write("mine", "label", target, shots=2, seed=1) == {"calm": 2, "busy": 2}
    samples = read_split("mine", "train")
    assert read_training_rows(target) == rows.rows(rows.subset(samples, shots=2, seed=1), ROW_KINDS["label"])
    registered = json.loads(Path("runs/x/rows/dataset_info.json").read_text())
    assert {name: entry["file_name"] for name, entry in registered.items()} == {"mine_label_seed-1": target.name}


def test_rows_for_validation_are_registered_beside_rows_for_training(ws: Path) -> None:
    small_dataset("mine", {"train": 2, "val": 2, "test": 2})
    prepare(load("mine"), QUIET)
    folder = Path("runs/x/cell/rows")
    rows.write("mine", "label", folder / "label.jsonl")
    registered = json.loads((folder / "dataset_info.json").read_text())
    assert list(registered) == ["mine_label", "mine_label_val"]
    assert registered["mine_label_val"]["file_name"] == "../../../../data/mine/label_val.jsonl"
    assert registered_file(folder, "mine_label_val") == Path("data/mine/label_val.jsonl")
    assert registered_file(folder, "mine_label") == folder / "label.jsonl"
    assert registered_file(folder, "other") is None and registered_file(Path("none"), "mine_label") is None


def test_kinds_made_of_rationales_need_them(ws: Path) -> None:
    small_dataset("mine", {"train": 2, "test": 2})
    prepare(load("mine"), QUIET)
    target = Path("runs/x/rows/both.jsonl")
    with pytest.raises(RbftError) as raised:
        rows.write("mine", "rationale_label", target)
    assert str(raised.value) == (
        "rows of kind rationale_label are made of rationales: give --rationales FILE, from `rbft collect`"
    )
    with pytest.raises(RbftError, match=r"^gone\.jsonl: no such file; `rbft collect` makes it$"):
        rows.write("mine", "rationale", target, Path("gone.jsonl"))
    with pytest.raises(RbftError) as raised:
        rows.write("mine", "labels", target)
    assert str(raised.value) == (
        "there are no rows of kind 'labels'; the kinds are rationale, rationale_hinted, rationale_shuffled, "
        "rationale_file, label, label_balanced, rationale_label"
    )
    Path("empty.jsonl").touch()
    with pytest.raises(RbftError, match=r"^mine: no training sample is left for rows of kind rationale$"):
        rows.write("mine", "rationale", target, Path("empty.jsonl"))
    assert not target.exists()


def test_texts_of_a_file_take_the_place_of_rationales(ws: Path) -> None:
    """Prompts ask for no conclusion, which the texts do not have. Texts of other splits are not used."""
    small_dataset("mine", {"train": 4, "val": 2, "test": 2})
    prepare(load("mine"), QUIET)
    train, test = read_split("mine", "train"), read_split("mine", "test")
    lines = [{"id": train[2].id, "text": " A ball rolls.\n"}, {"id": train[0].id, "text": "A dog."}]
    lines += [{"id": test[0].id, "text": "A cat."}]
    Path("human.jsonl").write_text("".join(f"{json.dumps(line)}\n\n" for line in lines), encoding="utf-8")
    target = Path("out/human.jsonl")
    assert sum(rows.write("mine", "rationale_file", target, Path("human.jsonl")).values()) == 2
    made = read_training_rows(target)
    assert answers(made) == [(train[0].id, "A dog."), (train[2].id, "A ball rolls.")]
    assert made == [
        one.training_row(without_conclusion(one.rationale_prompt), row.answer)
        for one, row in zip((train[0], train[2]), made, strict=True)
    ]


def test_what_is_wrong_with_a_file_of_texts_is_said_at_once(ws: Path) -> None:
    small_dataset("mine", {"train": 2, "val": 2, "test": 2})
    prepare(load("mine"), QUIET)
    name = read_split("mine", "train")[0].id
    good = {"id": name, "text": "A dog."}

    def problem(*lines: Any) -> str:
        Path("human.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        with pytest.raises(RbftError) as raised:
            rows.write("mine", "rationale_file", Path("out/human.jsonl"), Path("human.jsonl"))
        return str(raised.value)

    bad = "must be an object with 'id' and 'text', which are texts and not empty"
    assert problem([], good, {"id": 3, "text": "a"}, {"id": "b", "text": " "}, good) == (
        f"human.jsonl: 4 problems\n  - line 1: {bad}\n  - line 3: {bad}\n  - line 4: {bad}\n"
        f"  - line 5: '{name}' has a text already"
    )
    assert problem(good, {"id": "lost", "text": "a"}) == (
        "human.jsonl: 1 problem\n  - 'lost' is no sample of mine\ndata/mine/*.jsonl have the ids of the samples."
    )
    Path("human.jsonl").unlink()
    with pytest.raises(RbftError, match=r"^human\.jsonl: no such file; it has the texts of rows"):
        rows.write("mine", "rationale_file", Path("out/human.jsonl"), Path("human.jsonl"))
    with pytest.raises(RbftError, match=r"give --rationales FILE, JSON lines with 'id' and 'text'$"):
        rows.write("mine", "rationale_file", Path("out/human.jsonl"))
