"""Which rationales are left out: the reasons, and the settings that a recipe may give them."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from rbft_plugin.spec.yaml_models import Strict

Reason = Literal[
    "failed", "empty", "markup", "truncated", "refusal", "leak", "language", "repetitive", "short", "long", "generic"
]


REASONS: dict[str, str] = {
    "failed": "the writer's server gave an error in its place",
    "empty": "the model wrote nothing",
    "markup": "it holds <video> or <image>, which training would take for media",
    "truncated": "it was cut at the limit of new tokens",
    "refusal": "the model declines, or says that it sees no video",
    "leak": "it speaks of the label as something given",
    "language": "it is in another script than its prompt",
    "repetitive": "it says the same over and over",
    "short": "it has too few words",
    "long": "it has too many words",
    "generic": "nearly the same text was written for too many videos; one of them is kept",
}

NEVER_KEPT = ("failed", "empty", "markup")


class Filters(Strict):
    """Which rationales are left out."""

    keep: tuple[Reason, ...] = ()
    """Reasons to leave none out for."""
    min_words: Annotated[int, Field(ge=0)] = 3
    """Shorter ones are left out; a character is a word where a script puts no spaces between words."""
    max_words: Annotated[int, Field(ge=1)] | None = None
    """Longer ones are left out; there is no limit unless given."""
    max_share: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Of the videos, for which nearly the same text may stand; all beyond this and 10 are left out, but for the first.
    With 0, each text stands once."""

    @field_validator("keep")
    @classmethod
    def _keepable(cls, keep: tuple[Reason, ...]) -> tuple[Reason, ...]:
        if never := [reason for reason in keep if reason in NEVER_KEPT]:
            raise ValueError(f"'{never[0]}' cannot be kept: {REASONS[never[0]]}")
        return tuple(reason for reason in get_args(Reason) if reason in keep)  # one order, each once
