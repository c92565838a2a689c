"""The kinds of training rows that a stage of a recipe may learn. A further kind is one more entry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class RowKind:
    """What a row asks about its video, and what it answers.

    `rationales` says which rationales of the base model the answers hold: plain ones, hinted ones, which were written
    by a model that was shown the label, or none. `file` are texts of the user's in their place. With `label` the answer
    is the label, or ends in it. `shuffled` gives each video another video's rationale, drawn by the seed. `balanced`
    repeats the samples of rarer labels until each label has as many as the most frequent one.
    """

    prompt: Literal["rationale", "hinted", "label"]
    rationales: Literal["plain", "hinted", "file"] | None = None
    label: bool = False
    shuffled: bool = False
    balanced: bool = False

    @property
    def labelled_only(self) -> bool:
        """Whether only samples that have a label can have such a row."""
        return self.label or self.balanced or "hinted" in (self.prompt, self.rationales)

    @property
    def by_model(self) -> bool:
        """Whether a model writes what it is made of."""
        return self.rationales in ("plain", "hinted")

    @property
    def made_by(self) -> Literal["prepare", "collect", "rows"]:
        """The command of rbft that writes such rows of the whole training split."""
        if self == RowKind("label", label=True):
            return "prepare"
        return "collect" if self.by_model and self == RowKind("rationale", self.rationales) else "rows"


ROW_KINDS: dict[str, RowKind] = {
    "rationale": RowKind("rationale", "plain"),
    "rationale_hinted": RowKind("rationale", "hinted"),
    "rationale_shuffled": RowKind("rationale", "plain", shuffled=True),
    "rationale_file": RowKind("rationale", "file"),
    "label": RowKind("label", label=True),
    "label_balanced": RowKind("label", label=True, balanced=True),
    "rationale_label": RowKind("label", "plain", label=True),
}
LABEL_MARK = "\n\nAnswer: "  # between a rationale and its label; the parser of answers knows it
