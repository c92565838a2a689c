"""A further kind of training row is one entry of ROW_KINDS, and every command knows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from builders import BASE, QUIET, prepare, small_dataset

from rbft_plugin.check.dataset_check import check
from rbft_plugin.data.prepared import read_split, read_training_rows, write_training_rows
from rbft_plugin.llamafactory import rows
from rbft_plugin.run import plan
from rbft_plugin.spec import json_schemas, recipe
from rbft_plugin.spec.dataset import load
from rbft_plugin.spec.row_kinds import ROW_KINDS, RowKind

MADE_UP = "label_after_any_rationale"


@pytest.fixture(autouse=True)
def made_up_kind(ws: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that learns another video's rationale, then the label, on a small prepared dataset."""
    monkeypatch.setitem(ROW_KINDS, MADE_UP, RowKind("label", "plain", label=True, shuffled=True))
    small_dataset("mine", {"train": 4, "val": 2, "test": 2})
    prepare(load("mine"), QUIET)
    path = Path("recipes/demo.yaml")
    content = yaml.safe_load(path.read_text()) | {"dataset": "mine", "base_model": str(BASE), "seeds": [3, 4]}
    content["training"]["stages"]["rationale"]["rows"] = MADE_UP
    path.write_text(yaml.safe_dump(content))


def test_recipes_and_their_schema_take_it() -> None:
    assert recipe.load(Path("recipes/demo.yaml")).training.stages["rationale"].rows == MADE_UP
    schema = json.loads(json_schemas.generated()[Path("recipes/recipe.schema.json")])
    assert schema["$defs"]["Stage"]["properties"]["rows"]["enum"] == list(ROW_KINDS)


def test_the_runner_plans_it() -> None:
    made = plan.make(recipe.load(Path("recipes/demo.yaml")), load("mine"))
    (step,) = [s for s in made.steps if s.kind == "rows" and "seed-4" in s.name]
    assert step.argv == [
        *("rbft", "rows", "mine", MADE_UP, "--output", f"runs/demo/rows/{MADE_UP}_seed-4.jsonl", "--seed=4"),
        *("--rationales", "runs/demo/rows/rationale.jsonl"),
    ]
    (train,) = [s for s in made.steps if s.name == "train rbft seed 4 rationale"]
    assert f"dataset=mine_{MADE_UP}_seed-4" in train.argv


def test_rows_are_made_of_it() -> None:
    samples = read_split("mine", "train")
    written = [sample.training_row(sample.rationale_prompt, f"Of {sample.id}.") for sample in samples]
    write_training_rows(Path("rationale.jsonl"), written)
    assert rows.write("mine", MADE_UP, Path("out/made.jsonl"), Path("rationale.jsonl"), seed=4) == {
        "calm": 2,
        "busy": 2,
    }
    made = read_training_rows(Path("out/made.jsonl"))
    taken = [row.answer.split("\n\n") for row in made]
    assert [label for _, label in taken] == [f"Answer: {sample.label}" for sample in samples]
    assert sorted(text for text, _ in taken) == sorted(row.answer for row in written)
    assert all(text != f"Of {row.id}." for (text, _), row in zip(taken, made, strict=True))


@pytest.mark.torch
def test_check_measures_it() -> None:
    """Like the kind with the same prompt and the same parts of the answer."""
    path = Path("recipes/demo.yaml")
    content = yaml.safe_load(path.read_text())
    content["training"]["overrides"]["cutoff_len"] = 1

    def too_long(kind: str) -> list[str]:
        content["training"]["stages"]["rationale"]["rows"] = kind
        path.write_text(yaml.safe_dump(content))
        found = check(load("mine"), QUIET, recipe=recipe.load(path)).findings
        return [f.text for f in found if f.kind == "too-long" and "stages.rationale" in f.text]

    assert len(too_long(MADE_UP)) == 4
    assert too_long(MADE_UP) == too_long("rationale_label") != too_long("rationale")
