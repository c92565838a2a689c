"""Model text -> label, or NO_ANSWER."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

NO_ANSWER = None
# Of words between spaces: not Thai, Lao, Myanmar, Khmer, kana, Han, nor Hangul, whose particles join the word.
_LETTER = r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]"


def parse(text: str, labels: Sequence[str]) -> str | None:
    """The one label that the text names, or NO_ANSWER if it names none or several.

    Case, punctuation around a label and Unicode width do not matter. A label counts only as whole words, and not
    inside a longer label ("Abnormal" is not found in "Vague Abnormal"). Where "Answer:" or an <answer> tag marks the
    final answer, only what follows the last such mark counts.
    """
    text, names = normal(text), {normal(label): label for label in labels}
    if text in names:  # whatever it looks like: "the answer is 4" may be a label
        return names[text]
    marks = [m.end() for m in re.finditer(r"\banswer[\s*]*(?:is\b|:)|<answer>", text)]
    text = text[marks[-1] :].split("</answer>")[0] if marks else text
    found = []
    for name in sorted(names, key=len, reverse=True):
        pattern = _whole(name)
        if re.search(pattern, text):
            found.append(names[name])
            text = re.sub(pattern, " \0 ", text)  # so that a shorter label inside it is not found again
    return found[0] if len(found) == 1 else NO_ANSWER


def normal(text: str) -> str:
    """Text without what does not matter: case, Unicode width, kinds and number of spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _whole(label: str) -> str:
    """A pattern for the label as whole words; where a script puts no spaces between words there is no boundary."""
    start = f"(?<!{_LETTER})" if re.match(_LETTER, label) else ""
    end = f"(?!{_LETTER})" if re.search(_LETTER + r"\Z", label) else ""
    return start + re.escape(label) + end
