"""Keys of a dataset YAML for what the model is shown: labels and the texts of prompts."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from rbft_plugin.spec.dataset_sources import RawValue
from rbft_plugin.spec.yaml_models import Name, Strict

MEDIA = ("<video>", "<image>")  # in the text of a prompt, training would take these for media


def _without_media(text: str) -> str:
    if any(mark in text for mark in MEDIA):
        raise ValueError("must not hold '<video>' or '<image>': the video is put before the text")
    return text


def _one_line(text: str) -> str:
    if text != " ".join(text.split()):
        raise ValueError("must be one line without leading, trailing or double spaces")
    return text


PromptText = Annotated[str, AfterValidator(_without_media)]
PromptName = Annotated[PromptText, Field(min_length=1), AfterValidator(_one_line)]


class Label(Strict):
    """A class."""

    name: PromptName
    """What prompts show and the model answers."""
    description: Annotated[PromptText, Field(min_length=1)]
    """What the label means, in a sentence. Prompts show it."""
    values: tuple[RawValue, ...] = ()
    """The label's values in the label column. Without them, its name is its value."""
    display: str = ""
    """The label's name in tables and pictures, if it is another one there."""

    @model_validator(mode="before")
    @classmethod
    def _described(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"a label has a description, which prompts show: {{name: {value}, description: ...}}")
        return value

    @property
    def raw(self) -> tuple[str, ...]:
        """The label's values in the label column."""
        return self.values or (self.name,)


class Prompts(Strict):
    """Texts that the model is shown.

    `rationale`, `hinted` and `label` replace the default prompts. In them, {domain}, {labels} (a list with
    descriptions), {names} (names alone) and {context} are filled in; in `hinted` also {label}, and in `rationale` also
    {conclusion}, which asks for a last line with the class.
    """

    domain: PromptText = ""
    """A sentence on where the videos come from."""
    context: dict[PromptName, Name] = {}
    """Columns of text that are shown with the video, each under a name, such as {Title: title}."""
    rationale: PromptText | None = None
    """Asks the base model for the rationale of a video. It does not show the label."""
    hinted: PromptText | None = None
    """Asks for a rationale and shows the label ({label})."""
    label: PromptText | None = None
    """Asks for the label."""
    after_video: Literal["", "\n"] = ""
    """What training rows have between video and prompt: a line break for InternVL, whose processor puts one there."""

    @field_validator("rationale", "hinted", "label")
    @classmethod
    def _known_fields(cls, text: str | None, info: ValidationInfo) -> str | None:
        hinted = info.field_name == "hinted"
        further = {"hinted": ["label"], "rationale": ["conclusion"]}
        known = ["domain", "labels", "names", "context", *further.get(info.field_name or "", [])]
        used = re.findall(r"\{(\w*)\}", text or "")
        if unknown := sorted(set(used) - set(known)):
            raise ValueError(f"unknown field {_in_braces(unknown)}; known are {_in_braces(known)}")
        if text is not None and hinted and "label" not in used:
            raise ValueError("must hold {label}: it is the prompt that shows the label")
        return text


def _in_braces(fields: list[str]) -> str:
    return ", ".join(f"{{{field}}}" for field in fields)
