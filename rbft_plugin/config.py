"""YAML files -> pydantic models, with every mistake named by the path to its key."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rbft_plugin.errors import ProblemsError

Name = Annotated[str, Field(min_length=1)]


class Strict(BaseModel):
    """A part of a YAML file; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number, as YAML 1.2 and LLaMA-Factory do; to PyYAML it is text."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping; raises ProblemsError if it is none."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProblemsError(path, [f"not valid YAML: {' '.join(str(error).split())}"]) from None
    if not isinstance(raw, dict):
        raise ProblemsError(path, ["must be a mapping of keys"])
    return raw


def load_yaml(path: Path, model: type[Any]) -> Any:
    """Read a YAML file as a pydantic model; raises ProblemsError that names every bad key by its path."""
    try:
        return model.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ProblemsError(path, [explained(e) for e in error.errors()]) from None


def explained(error: Any) -> str:
    """One of pydantic's errors, as the path to the key and what is wrong with it."""
    keys = [p for p in error["loc"] if p != "[key]"]  # pydantic's mark for a bad key of a mapping
    where = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in keys).lstrip(".") or "the file"
    texts = {
        "extra_forbidden": "unknown key",
        "missing": "missing",
        "string_type": "must be text; YAML takes numbers, yes and no for something else unless they are in quotes",
    }
    return f"{where}: {texts.get(error['type'], error['msg'].removeprefix('Value error, '))}"
