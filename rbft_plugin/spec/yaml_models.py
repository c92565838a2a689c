"""YAML files -> pydantic models. An error names every mistake by the path to its key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from yaml.constructor import ConstructorError

from rbft_plugin.errors import ProblemsError, one_line

Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Model = TypeVar("Model", bound=BaseModel)
Problem = tuple[tuple[str | int, ...], str]  # the path to a key, and what is wrong with it
UNUSABLE = re.compile("[\0\ud800-\udfff]")  # neither paths nor UTF-8 files can have these


class Strict(BaseModel):
    """A part of a YAML file. An unknown key is an error.

    The docstring under a key is its description in the JSON schema, which editors show.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _distinct_seeds(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if not seeds:
        raise ValueError("needs a seed")
    if len(set(seeds)) < len(seeds):
        raise ValueError("lists a seed twice")
    return seeds


Seeds = Annotated[tuple[int, ...], AfterValidator(_distinct_seeds)]


def one_of(names: Callable[[], Iterable[str]]) -> tuple[Any, Any]:
    """Makes a key take one of these names, and the JSON schema list them."""

    def known(value: str) -> str:
        *others, last = map(repr, names())
        if value not in names():
            raise ValueError(f"Input should be {', '.join(others)} or {last}")
        return value

    return AfterValidator(known), Field(json_schema_extra=lambda schema: schema.update(enum=list(names())))


def problems_at(problems: Sequence[Problem]) -> ValidationError:
    """One error for several problems, which a validator raises. Their paths begin at the validator's key."""
    details = [
        InitErrorDetails(type=PydanticCustomError("problem", text), loc=loc, input=None) for loc, text in problems
    ]
    return ValidationError.from_exception_data("", details)


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number, as YAML 1.2 and LLaMA-Factory do. PyYAML reads it as text.

    A key that is given twice is an error; PyYAML silently takes the last one. A value that PyYAML fails to convert is
    an error with its place in the file.
    """

    def compose_scalar_node(self, anchor: Any) -> Any:
        node = super().compose_scalar_node(anchor)
        if UNUSABLE.search(node.value):
            raise ConstructorError(None, None, "a null character or broken Unicode", node.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]:
            if key.value in seen:
                raise ConstructorError(None, None, f"key '{key.value}' is given twice", key.start_mark)
            seen.add(key.value)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError) as error:  # such as 2024-13-45
            raise ConstructorError(None, None, f"{node.value!r:.60}: {error}", node.start_mark) from None


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


class _TaskLoader(_Loader):
    """Also reads lmms-eval's `!function a.b`, as the text a.b."""


_TaskLoader.add_constructor("!function", lambda loader, node: node.value)


def read_yaml(path: Path, functions: bool = False) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ProblemsError if there is none.

    With `functions`, lmms-eval's tag `!function` is known; it is an error in other files.
    """
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_TaskLoader if functions else _Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProblemsError(path, [f"not valid YAML: {one_line(str(error))}"]) from None
    except RecursionError:
        raise ProblemsError(path, ["not usable YAML: nested too deep"]) from None
    if not isinstance(raw, dict):
        raise ProblemsError(path, ["must be a mapping of keys"])
    return raw


def load_yaml(path: Path, model: type[Model]) -> Model:
    """Read a YAML file as a pydantic model. Raises ProblemsError that names every bad key by its path."""
    return validated(path, model, read_yaml(path))


def validated(what: str | Path, model: type[Model], content: dict[str, Any]) -> Model:
    """A mapping as a pydantic model. Raises ProblemsError about `what` that names every bad key by its path."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ProblemsError(what, [explained(e) for e in error.errors()]) from None


def explained(error: Any) -> str:
    """One of pydantic's errors as text: the path to the key, and what is wrong with it."""
    keys = [key for key in error["loc"] if key != "[key]"]  # pydantic's mark for a bad key of a mapping
    parts = [f"[{key}]" if isinstance(key, int) else f".{key or repr(key)}" for key in keys]
    where = "".join(parts).lstrip(".") or "the file"
    texts = {
        "extra_forbidden": "unknown key",
        "missing": "missing",
        "invalid_key": "a key must be text: put it in quotes",
        "model_type": "must be a mapping of keys",
        "dict_type": "must be a mapping of keys",
        "tuple_type": "must be a list",
        "string_too_short": "must not be empty",  # no text here has a minimum length above 1
        "too_short": "must not be empty",
        "string_type": _not_text(error.get("input")),
    }
    return f"{where}: {texts.get(error['type'], error['msg'].removeprefix('Value error, '))}"


def _not_text(value: Any) -> str:
    if value is None or isinstance(value, list | dict):
        return "must be text"
    shown = {True: "yes/true", False: "no/false"}[value] if isinstance(value, bool) else str(value)
    return f"must be text, which YAML does not take it for ({shown:.40}): put it in quotes"
