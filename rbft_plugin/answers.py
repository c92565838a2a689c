"""Model text -> label, or NO_ANSWER. docs/answers.md has the rules in order, with examples.

Every pattern is linear in the text: what may repeat inside one is bounded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

NO_ANSWER = None

# Of words between spaces: not Thai, Lao, Myanmar, Khmer, kana, Han, nor Hangul, whose particles join the word.
_LETTER = r"[^\W_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]"
_BETWEEN = r"[\s_/'\u2010-\u2015-]"  # the words of a label, in whichever way it is spelt
_COMMON = {"a", "i", "no"}  # words of any text: such a label counts only where no word follows
_OPTION_WORDS = {"", "option", "choice", "class", "label", "answer", "number", "text"}
_TOKEN = r"\ue000(\d+)\ue001"  # stands for a label, by its number

_THOUGHT = r"think|thinking|thought|reasoning"
# Where the final answer begins, and nothing before it counts.
_ANSWER = re.compile(
    r"<answer>|\\boxed\{|\b(?:answer|option|choice)\b[\"'\s_)]{0,4}(?:[:=]|-\s|is\b|(?:would|should|must) be\b)"
    r"|(?:答案|选项)[\"'\s】]{0,4}(?::|是|为)"
)
# What points at a label in the same statement, unless "the answer" is marked.
_POINTER = re.compile(
    r"(?:\b(?:label|class|classification|category|prediction|verdict|result|output)\b|\b(?:classified|labell?ed) as\b"
    r"|\b(?:therefore|thus|hence|overall|conclusion|conclude|summary|choose|select|belongs to)\b"
    r"|标签|类别|分类|结论|因此|所以|选择|属于)" + rf"(?=[^.!?;\n。]{{0,60}}?{_TOKEN})"
)
# The end of a statement: of a sentence, line, bracket, tag or JSON value, or the start of a reason.
_END = re.compile(r"[!?;\n()\[\]{}<>。|]|\.(?!\w)|,\s?[\"']\w+[\"']\s?:|\b(?:because|since|though|although)\b|因为")

# Up to five words that do not start another clause, and before them what denies the label after them, or doubts it.
_WORDS = r"(?:[\s\"'(]{1,3}(?!(?:but|so|and|which|because|since|then)\b)[\w'-]{1,30}){0,5}?[\s\"'(-]{0,3}"
_DENIED = re.compile(
    rf"\b(?:not|no(?! doubt| question)|non|never|neither|nor|nothing|without|than|instead of|far from|hardly|out of"
    rf"|whether|if|otherwise){_WORDS}{_TOKEN}(?:(?:\s?,\s?{_TOKEN})*\s?,?\s?(?:or|/)\s?(?:an?\s)?{_TOKEN})?"
    rf"|(?:不(?!如)|没有|无(?!疑)|非(?!常)|是否|与其)[^\W但而却\ue000]{{0,6}}{_TOKEN}(?:[或和、]{_TOKEN})*"
)
_ASKED = re.compile(rf"{_TOKEN}(?=[^.!?;\n。]{{0,80}}\?)")


def parse(text: str, labels: Sequence[str]) -> str | None:
    """The one label that the text gives in the end, or NO_ANSWER if it gives none or several.

    A text that is a label is that label. Otherwise reasoning (<think>) is left out; labels count as whole words, the
    longest first, and not where they are denied or asked for. What follows the last mark of an answer ("Answer:",
    <answer>, \\boxed, a JSON key) decides; without one the only label named, the statement after a pointer ("the
    label is", "therefore"), or the statements that are nothing but one label. A letter or number alone is a label's
    place in `labels`, from A or 1, unless a label itself is a letter or number.
    """
    exact = {normal(label): label for label in reversed(labels)}
    if normal(text) in exact:  # whatever it looks like: "the answer is 4" may be a label
        return exact[normal(text)]
    text = _without_denied(_marked(_without_reasoning(_clean(text)), tuple(labels)))
    if marks := list(_ANSWER.finditer(text)):
        statements = _END.split(text[marks[-1].end() :])
        said = next((found for s in statements if (found := _named(s))), set())
        statements = [s for s in statements if s.strip(" \n\"'$:")][:1]
    else:
        statements = _END.split(text)
        said = _named(text)
        if len(said) > 1 and (pointers := list(_POINTER.finditer(text))):
            said = next(found for s in _END.split(text[pointers[-1].end() :]) if (found := _named(s)))
        if len(said) > 1:
            said = set().union(*(_named(s) for s in statements if not re.search(r"[^\W\d_]", s)))
    if said:
        return labels[said.pop()] if len(said) == 1 else NO_ANSWER
    return _option(statements, labels)


def normal(text: str) -> str:
    """Text without what does not matter: case, Unicode width, kinds and number of spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _clean(text: str) -> str:
    """Text as the patterns take it: in `normal` characters, but with its lines; contractions and emphasis undone."""
    text = "\n".join(map(normal, text.splitlines()))
    text = re.sub(r"[*`\ue000\ue001]", "", text.replace("\u2019", "'").replace("\u2018", "'"))
    return re.sub(r"n't\b|(?<=\bcan)not\b", " not", re.sub(r"\bnon[- ]", "not ", text))


def _without_reasoning(text: str) -> str:
    """The text outside <think> tags; all before a closing tag that was never opened is a thought too."""
    kept: list[str] = []
    thinking = False
    for part in re.split(rf"(</?(?:{_THOUGHT})>)", text):
        if part.startswith("</") and part[2:-1] in _THOUGHT.split("|"):
            kept, thinking = kept if thinking else [], False
        elif part[1:-1] in _THOUGHT.split("|"):
            thinking = True
        elif not thinking:
            kept.append(part)
    return "\n".join(kept)


def _marked(text: str, labels: tuple[str, ...]) -> str:
    """The text with each label in it replaced by its token."""
    pattern, numbers = _finder(labels)
    return pattern.sub(lambda m: f"\ue000{numbers[m.lastindex - 1]}\ue001", text)


@lru_cache(maxsize=64)
def _finder(labels: tuple[str, ...]) -> tuple[re.Pattern[str], list[int]]:
    """A pattern with a group for each label, the longest label first, and the labels' numbers in that order."""
    names = [_clean(label) for label in labels]
    numbers = sorted((i for i, name in enumerate(names) if name), key=lambda i: -len(names[i]))
    return re.compile("|".join(f"({_whole(names[i])})" for i in numbers) or r"(?!)"), numbers


def _whole(name: str) -> str:
    """A pattern for a label as whole words; where a script puts no spaces between words there is no boundary."""
    words = [re.escape(word) for word in re.split(f"{_BETWEEN}+", name) if word]
    pattern = f"{_BETWEEN}{{0,4}}".join(words) or re.escape(name)
    if re.search(r"[a-z]{3}\Z", name):
        pattern += "(?:e?s)?"  # plural
    before = f"(?<!{_LETTER})" * bool(re.match(_LETTER, name)) + r"(?<!\d[.,:])" * name[0].isdigit()
    after = f"(?!{_LETTER})" * bool(re.search(_LETTER + r"\Z", name)) + r"(?![.,:]\d)" * name[-1].isdigit()
    return before + pattern + after + r"(?![ '][^\W_])" * (name in _COMMON)


def _without_denied(text: str) -> str:
    return _ASKED.sub(" ", _DENIED.sub(" ", text))


def _named(text: str) -> set[int]:
    return {int(number) for number in re.findall(_TOKEN, text)}


def _option(statements: list[str], labels: Sequence[str]) -> str | None:
    """The label that a letter or number stands for, if it is all that the statements say."""
    if any(re.fullmatch(r"[a-z]|\d+", normal(label)) for label in labels):
        return NO_ANSWER
    words = re.findall(r"\w+", " ".join(statements))
    words = [w for w in (re.sub(r"\A选项?", "", w) for w in words) if w not in _OPTION_WORDS]
    if len(words) != 1 or not re.fullmatch(r"[a-z]|\d{1,4}", words[0], re.ASCII):
        return NO_ANSWER
    place = int(words[0]) - 1 if words[0].isdigit() else ord(words[0]) - ord("a")
    return labels[place] if 0 <= place < len(labels) else NO_ANSWER
