"""Model text -> label, or NO_ANSWER."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

NO_ANSWER = None


def parse(text: str, labels: Sequence[str]) -> str | None:
    """The one label that the text names, or NO_ANSWER if it names none or several.

    Case, punctuation around a label and Unicode width do not matter. A label counts only as whole words, and not
    inside a longer label ("Abnormal" is not found in "Vague Abnormal"). Where "Answer:" or an <answer> tag marks the
    final answer, only what follows the last such mark counts.
    """
    text = _normal(text)
    marks = [m.end() for m in re.finditer(r"\banswer\s*(?:is\b|:)|<answer>", text)]
    text = text[marks[-1] :].split("</answer>")[0] if marks else text
    found = []
    for label in sorted(labels, key=len, reverse=True):
        pattern = _whole(_normal(label))
        if re.search(pattern, text):
            found.append(label)
            text = re.sub(pattern, " \0 ", text)  # so that a shorter label inside it is not found again
    return found[0] if len(found) == 1 else NO_ANSWER


def _normal(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _whole(label: str) -> str:
    """A pattern for the label as whole words; scripts without spaces between words need no boundary."""
    start = r"(?<!\w)" if re.match(r"[\w]", label) and label[0].isascii() else ""
    end = r"(?!\w)" if re.search(r"[\w]$", label) and label[-1].isascii() else ""
    return start + re.escape(label) + end
