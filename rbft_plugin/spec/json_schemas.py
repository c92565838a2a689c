"""The JSON schemas of the YAML files. With them, an editor completes keys and shows what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rbft_plugin import files
from rbft_plugin.spec.dataset import Dataset
from rbft_plugin.spec.recipe import Recipe


def generated() -> dict[Path, str]:
    """{path: content} of the schema files. Each lies in the folder of the YAML files that name it."""
    models: dict[Path, type[BaseModel]] = {
        Path("dataset_info/dataset.schema.json"): Dataset,
        Path("recipes/recipe.schema.json"): Recipe,
    }
    return {path: files.json_text(_untitled(model.model_json_schema())) for path, model in models.items()}


def _untitled(schema: Any) -> Any:
    """A schema without pydantic's titles, which repeat the keys, and without the line breaks of docstrings."""
    if isinstance(schema, list):
        return [_untitled(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: part for key, part in schema.items() if not (key == "title" and isinstance(part, str))}
    return {
        key: " ".join(part.split()) if key == "description" and isinstance(part, str) else _untitled(part)
        for key, part in kept.items()
    }
