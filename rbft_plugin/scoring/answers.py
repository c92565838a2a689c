"""Model text -> label, or NO_ANSWER. docs/answers.md has the rules in order, with examples.

All patterns are linear in the text: what may repeat inside one is bounded.
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
_OPTION_WORDS = {"", "option", "choice", "class", "label", "answer", "number", "text"}  # beside a letter or number
_TOKEN = r"\ue000(\d+)\ue001"  # stands for a label, by its number

_THOUGHT = r"think|thinking|thought|reasoning"
# Where the final answer begins: nothing before it counts.
_ANSWER = re.compile(
    r"<answer>|\\boxed\{|\b(?:answer|option|choice)\b[\"'\s_)]{0,4}(?:[:=]|-\s|is\b|(?:would|should|must) be\b)"
    r"|(?:答案|选项)[\"'\s】]{0,4}(?::|是|为)"
)
# What points at a label further on in its sentence.
_POINTER = re.compile(
    r"(?:(?<!/)\b(?:label|class|classification|category|prediction|verdict|result|output)\b"
    r"|\b(?:classified as|labell?ed as|belongs to|choose|select)\b"
    r"|\b(?:therefore|thus|hence|overall|conclusion|conclude|summary)\b"
    rf"|标签|类别|分类|结论|因此|所以|选择|属于)(?=[^.!?;\n。]{{0,60}}?{_TOKEN})"
)
# The end of a statement: of a sentence, line, bracket, tag or JSON value, or the start of a reason.
_END = re.compile(r"[!?;\n()\[\]{}<>。|]|\.(?!\w)|,\s?[\"']\w+[\"']\s?:|\b(?:because|since|though|although)\b|因为")

# Words that do not start another clause: between what denies or doubts a label, and the label.
_WORDS = r"(?:[\s\"'(]{1,3}(?!(?:but|so|and|which|because|since|then)\b)[\w'-]{1,30})"
_DENIED = re.compile(
    rf"\b(?:(?:not|no(?! doubt| question)|non|never|neither|nor|nothing|without|than|instead of|far from|beyond|hardly"
    rf"|out of|otherwise){_WORDS}{{0,5}}?|(?:if|whether){_WORDS}{{0,12}}?)[\s\"'(-]{{0,3}}{_TOKEN}"
    rf"(?:(?:\s?,\s?{_TOKEN})*\s?,?\s?(?:or|/)\s?(?:an?\s)?{_TOKEN})?"
    rf"|(?:不(?!如)|没有|无(?!疑)|非(?!常)|是否|与其)[^\W但而却]{{0,6}}{_TOKEN}(?:(?:[或和、]|或者|还是){_TOKEN})*"
)
_ASKED = re.compile(rf"{_TOKEN}(?=[^.!?;\n。]{{0,80}}\?)")


def parse(text: str, labels: Sequence[str]) -> str | None:
    """The one label that the text gives in the end, or NO_ANSWER if it gives none or several.

    A text that is a label, but for case, width and punctuation, is that label. Otherwise reasoning (<think>) is left
    out, and labels count as whole words, the longest first, and not where they are denied, doubted or asked for. Of
    what then is left, the first statement with a label after the last mark of an answer ("Answer:", <answer>, \\boxed)
    decides; without a mark the only label named; of several the one pointed at last ("the label is", "therefore"), or
    the one that stands alone in a statement. A letter or number alone is a place in `labels`, from A or 1, unless some
    label is a letter or number; so is a letter before a reason in which labels are named.
    """
    if (whole := _whole_text(text, labels)) is not None:
        return whole
    text = _with_tokens(_without_reasoning(_clean(text)), tuple(labels))
    text = _ASKED.sub(" ", _DENIED.sub(" ", text))
    marked = _after_last(_ANSWER, text)
    if marked is None:
        said, short, first = _said(text), text, text.strip().partition("\n")[0]
    else:
        said, short = _first_named(marked), next((s for s in _END.split(marked) if re.search(r"\w", s)), "")
        first = short
    if said and not (_is_letter(first, labels) and not _alone(text if marked is None else marked)):
        return labels[said.pop()] if len(said) == 1 else NO_ANSWER
    return _option(first if said else short, labels)


def normal(text: str) -> str:
    """Text without what does not matter: case, Unicode width, kinds and number of spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _whole_text(text: str, labels: Sequence[str]) -> str | None:
    """The label that the text is, whatever it looks like: "the answer is 4" may be a label."""
    for same in (normal, lambda t: re.sub(r"\W+", " ", normal(t)).strip()):
        found = [label for label in labels if same(label) == same(text)]
        if len(found) == 1 and same(text):
            return found[0]
    return None


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
        if re.fullmatch(rf"</(?:{_THOUGHT})>", part):
            kept, thinking = kept if thinking else [], False
        elif re.fullmatch(rf"<(?:{_THOUGHT})>", part):
            thinking = True
        elif not thinking:
            kept.append(part)
    return "\n".join(kept)


def _with_tokens(text: str, labels: tuple[str, ...]) -> str:
    """The text with a token in the place of each label."""
    pattern, numbers = _finder(labels)
    return pattern.sub(lambda m: f"\ue000{numbers[(m.lastindex or 0) - 1]}\ue001", text)


@lru_cache(maxsize=64)
def _finder(labels: tuple[str, ...]) -> tuple[re.Pattern[str], list[int]]:
    """A pattern with a group for each label, the longest label first, and the labels' numbers in that order."""
    names = [_clean(label) for label in labels]
    numbers = sorted((i for i, name in enumerate(names) if name), key=lambda i: -len(names[i]))
    words = [i for i in numbers if re.match(_LETTER, names[i])]  # tried only where a word begins: much faster
    signs = [i for i in numbers if i not in words]
    either = ["|".join(f"({_words_of(names[i])})" for i in some) or r"(?!)" for some in (words, signs)]
    return re.compile(rf"(?<!{_LETTER})(?:{either[0]})|{either[1]}"), words + signs


def _words_of(name: str) -> str:
    """A pattern for a label as whole words; where a script puts no spaces between words there is no boundary."""
    words = [re.escape(word) for word in re.split(f"{_BETWEEN}+", name) if word]
    pattern = f"{_BETWEEN}{{0,4}}".join(words) or re.escape(name)
    if re.search(r"[a-z]{3}\Z", name):
        pattern += "(?:e?s)?"  # plural
    before = r"(?<!\d[.,:])" * name[0].isdigit()
    after = f"(?!{_LETTER})" * bool(re.search(_LETTER + r"\Z", name)) + r"(?![.,:]\d)" * name[-1].isdigit()
    return before + pattern + after + r"(?![ '][^\W_])" * (name in _COMMON)


def _after_last(pattern: re.Pattern[str], text: str) -> str | None:
    ends = [match.end() for match in pattern.finditer(text)]
    return text[ends[-1] :] if ends else None


def _said(text: str) -> set[int]:
    """Numbers of the labels that a text without a mark gives; several where it does not decide."""
    said = _named(text)
    if len(said) > 1 and (pointed := _after_last(_POINTER, text)) is not None:
        said = _first_named(pointed)
    if len(said) > 1:
        said = _alone(text) or said
    return said


def _alone(text: str) -> set[int]:
    """Numbers of the labels that stand alone in a statement."""
    return set[int]().union(*(_named(s) for s in _END.split(text) if not re.search(r"[^\W\d_]", s)))


def _first_named(text: str) -> set[int]:
    """Numbers of the labels in the first statement that has any."""
    return next((found for s in _END.split(text) if (found := _named(s))), set())


def _named(text: str) -> set[int]:
    return {int(number) for number in re.findall(_TOKEN, text)}


def _is_letter(text: str, labels: Sequence[str]) -> bool:
    """Whether a text is a letter that stands for a label; a number may as well begin a list."""
    return not re.search(r"\d", text) and _option(text, labels) is not NO_ANSWER


def _option(text: str, labels: Sequence[str]) -> str | None:
    """The label that a letter or number stands for, if it is all that the text says."""
    if any(re.fullmatch(r"[a-z]|\d+", normal(label)) for label in labels):
        return NO_ANSWER
    words = [word.removeprefix("选").removeprefix("项") for word in re.findall(r"\w+", text)]
    words = [word for word in words if word not in _OPTION_WORDS]
    if len(words) != 1 or not re.fullmatch(r"[a-z]|[0-9]{1,4}", words[0]):
        return NO_ANSWER
    place = int(words[0]) - 1 if words[0].isdigit() else ord(words[0]) - ord("a")
    return labels[place] if 0 <= place < len(labels) else NO_ANSWER
