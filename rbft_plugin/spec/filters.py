"""The settings that a recipe may give to the filters of rationales. The filters are in rationales/filters.py."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from rbft_plugin.spec.yaml_models import Strict

# Filters that a recipe may switch off.
Keepable = Literal["truncated", "refusal", "leak", "language", "repetitive", "short", "long", "generic"]


class Filters(Strict):
    """Which rationales are left out."""

    keep: tuple[Keepable, ...] = ()
    """Reasons to leave none out for."""
    min_words: Annotated[int, Field(ge=0)] = 3
    """Shorter ones are left out; a character is a word where a script puts no spaces between words."""
    max_words: Annotated[int, Field(ge=1)] | None = None
    """Longer ones are left out; there is no limit unless given."""
    max_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Of the videos, for which nearly the same text may stand; all beyond this and 10 are left out, but for the first.
    With 0, each text stands once."""

    conclusion: Literal["drop", "keep"] = "drop"
    """Whether a rationale keeps its last line with the class, and its prompt the request for it."""
    concluded: bool = False
    """Leave out rationales without a readable conclusion."""
    right: bool = False
    """Leave out rationales of labelled samples that conclude another class (Zelikman et al. 2022, "STaR")."""

    @field_validator("keep")
    @classmethod
    def _in_one_order(cls, keep: tuple[Keepable, ...]) -> tuple[Keepable, ...]:
        return tuple(name for name in get_args(Keepable) if name in keep)  # each once
