"""schemas: the committed ones are the models', and an editor finds them and says what the loader says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rbft_plugin import workspace
from rbft_plugin.spec import json_schemas

ROOT = workspace.shipped()
RUNNER = [p for p in sorted((ROOT / "recipes").rglob("*.yaml")) if "arms" in yaml.safe_load(p.read_text("utf-8"))]
SHIPPED = [*sorted((ROOT / "dataset_info").glob("*.yaml")), *RUNNER]  # other recipes are LLaMA-Factory's


def schema(name: str) -> dict[str, Any]:
    (text,) = [text for path, text in json_schemas.generated().items() if path.name == name]
    return json.loads(text)


@pytest.mark.parametrize("path", json_schemas.generated(), ids=str)
def test_a_committed_schema_is_what_the_models_give(path: Path) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == json_schemas.generated()[path], "stale: run `rbft sync`"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_shipped_yaml_names_its_schema_which_knows_its_keys(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    first = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert first and (path.parent / first.group(1)).is_file()
    known = json.loads((path.parent / first.group(1)).read_text())["properties"]
    assert set(yaml.safe_load(text)) <= set(known)


def test_the_schema_says_which_keys_and_kinds_there_are() -> None:
    whole = schema("dataset.schema.json")
    assert whole["required"] == ["name", "annotations", "labels"]
    assert all(part["additionalProperties"] is False for part in (whole, *whole["$defs"].values()))
    assert whole["$defs"]["Label"]["properties"]["values"]["items"] == {"type": ["string", "integer"]}
    path = {"type": "string"}
    each = {"type": "object", "properties": {"train": path, "val": path, "test": path}, "required": ["train", "test"]}
    paths = [path, each | {"additionalProperties": False}, {"type": "null"}]
    assert whole["$defs"]["Annotations"]["properties"]["file"]["anyOf"] == paths
    assert whole["$defs"]["Join"]["properties"]["file"]["type"] == "string"
    assert schema("recipe.schema.json")["required"] == ["run", "dataset", "base_model", "arms", "training"]


def test_every_key_of_a_dataset_that_does_not_explain_itself_is_described() -> None:
    whole = schema("dataset.schema.json")
    parts = {"Dataset": whole} | whole["$defs"]
    bare = {
        f"{name}.{key}"
        for name, part in parts.items()
        for key, value in part["properties"].items()
        if "description" not in value and "$ref" not in value
    }
    assert bare == {"About.title", "About.homepage", "About.licence", "About.citation"}
    assert "title" not in whole and whole["properties"]["max_missing"]["description"].startswith("How many samples")
