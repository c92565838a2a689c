"""The text of a model -> a label, or NO_ANSWER. docs/answers.md explains the rules in order, with examples.

Each pattern takes time linear in the length of the text, because all repetition inside it is bounded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

NO_ANSWER = None

# A letter of a script that puts spaces between words. Thai, Lao, Myanmar, Khmer, kana and Han have no spaces, and in
# Hangul particles join the word.
_LETTER = r"[^\W_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]"
_BETWEEN = r"[\s_/'\u2010-\u2015-]"  # between the words of a label
_COMMON = {"a", "i", "no"}  # words of ordinary text: such a label counts only if no word follows it
_OPTION_WORDS = {"", "option", "choice", "class", "label", "answer", "number", "text"}  # allowed beside a letter
_TOKEN = r"\ue000(\d+)\ue001"  # stands for the label with that number

_THOUGHT = r"think|thinking|thought|reasoning"
# The mark at which the final answer begins. Nothing before it counts.
_ANSWER = re.compile(
    r"<answer>|\\boxed\{|\b(?:answer|option|choice)\b[\"'\s_)]{0,4}(?:[:=]|-\s|is\b|(?:would|should|must) be\b)"
    r"|(?:答案|选项)[\"'\s】]{0,4}(?::|是|为)"
)
# A pointer to a label further on in the same sentence.
_POINTER = re.compile(
    r"(?:(?<!/)\b(?:label|class|classification|category|prediction|verdict|result|output)\b"
    r"|\b(?:classified as|labell?ed as|belongs to|choose|select)\b"
    r"|\b(?:therefore|thus|hence|overall|conclusion|conclude|summary)\b"
    rf"|标签|类别|分类|结论|因此|所以|选择|属于)(?=[^.!?;\n。]{{0,60}}?{_TOKEN})"
)
# The end of a statement, which is a sentence, line, bracket, tag or JSON value, or what stands before a reason.
_END = re.compile(r"[!?;\n()\[\]{}<>。|]|\.(?!\w)|,\s?[\"']\w+[\"']\s?:|\b(?:because|since|though|although)\b|因为")

# A word between a denial or a doubt and the label that it concerns. It does not start another clause.
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

    1. A text that differs from a label only in case, width and punctuation is that label.
    2. Reasoning (<think>) is left out. Labels are found as whole words, the longest first. A label that is denied,
       doubted or asked for does not count.
    3. After the last mark of an answer ("Answer:", <answer>, \\boxed), the first statement with a label decides.
    4. Without a mark, the only label in the text decides. Of several, the one after the last pointer ("the label is",
       "therefore") decides, or the one that stands alone in a statement.
    5. A letter or number alone, or a letter before a reason, is a position in `labels`, from A or 1. This does not hold
       if a label is a letter or number.
    """
    if (label := _whole_text(text, labels)) is not None:
        return label
    text = _with_tokens(_without_reasoning(_clean(text)), tuple(labels))
    text = _ASKED.sub(" ", _DENIED.sub(" ", text))
    answer = _after_last(_ANSWER, text)
    if answer is None:
        answer, named = text, _decided(text)
        first, option = text.strip().partition("\n")[0], text
    else:
        named = _first_named(answer)
        first = option = next((statement for statement in _END.split(answer) if re.search(r"\w", statement)), "")
    if named and not (_is_letter(first, labels) and not _alone(answer)):
        return labels[named.pop()] if len(named) == 1 else NO_ANSWER
    return _option(first if named else option, labels)


def normal(text: str) -> str:
    """The text without differences of case and Unicode width, and with single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _whole_text(text: str, labels: Sequence[str]) -> str | None:
    """The label that is the whole text. A label may look like anything, such as "the answer is 4"."""
    for form in (normal, lambda text: re.sub(r"\W+", " ", normal(text)).strip()):
        equal = [label for label in labels if form(label) == form(text)]
        if len(equal) == 1 and form(text):
            return equal[0]
    return None


def _clean(text: str) -> str:
    """The text as the patterns take it: `normal` lines without emphasis, and with "not" for "n't" and "non-"."""
    text = "\n".join(map(normal, text.splitlines()))
    text = re.sub(r"[*`\ue000\ue001]", "", text.replace("\u2019", "'").replace("\u2018", "'"))
    return re.sub(r"n't\b|(?<=\bcan)not\b", " not", re.sub(r"\bnon[- ]", "not ", text))


def _without_reasoning(text: str) -> str:
    """The text outside <think> tags. All text before a closing tag that was never opened is reasoning too."""
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
    """The text with a token instead of each label."""
    pattern, numbers = _finder(labels)
    return pattern.sub(lambda m: f"\ue000{numbers[(m.lastindex or 0) - 1]}\ue001", text)


@lru_cache(maxsize=64)
def _finder(labels: tuple[str, ...]) -> tuple[re.Pattern[str], list[int]]:
    """A pattern with a group for each label, the longest label first, and the labels' numbers in that order."""
    names = [_clean(label) for label in labels]
    numbers = sorted((i for i, name in enumerate(names) if name), key=lambda i: -len(names[i]))
    words = [i for i in numbers if re.match(_LETTER, names[i])]  # only tried where a word begins, which is much faster
    signs = [i for i in numbers if i not in words]
    of_words, of_signs = ("|".join(f"({_words_of(names[i])})" for i in group) or r"(?!)" for group in (words, signs))
    return re.compile(rf"(?<!{_LETTER})(?:{of_words})|{of_signs}"), words + signs


def _words_of(name: str) -> str:
    """A pattern for a label as whole words. In scripts without spaces between words, there are no boundaries."""
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


def _decided(text: str) -> set[int]:
    """The numbers of the labels that a text without a mark gives. It has several if the text does not decide."""
    named = _named(text)
    if len(named) > 1 and (pointed := _after_last(_POINTER, text)) is not None:
        named = _first_named(pointed)
    if len(named) > 1:
        named = _alone(text) or named
    return named


def _alone(text: str) -> set[int]:
    """The numbers of the labels that stand alone in a statement."""
    return set[int]().union(*(_named(s) for s in _END.split(text) if not re.search(r"[^\W\d_]", s)))


def _first_named(text: str) -> set[int]:
    """The numbers of the labels in the first statement that has any."""
    return next((named for statement in _END.split(text) if (named := _named(statement))), set())


def _named(text: str) -> set[int]:
    return {int(number) for number in re.findall(_TOKEN, text)}


def _is_letter(text: str, labels: Sequence[str]) -> bool:
    """Whether a text is a letter that stands for a label. A number does not count, because it may begin a list."""
    return not re.search(r"\d", text) and _option(text, labels) is not NO_ANSWER


def _option(text: str, labels: Sequence[str]) -> str | None:
    """The label that a letter or number stands for, if the text has nothing else."""
    if any(re.fullmatch(r"[a-z]|\d+", normal(label)) for label in labels):
        return NO_ANSWER
    words = [word.removeprefix("选").removeprefix("项") for word in re.findall(r"\w+", text)]
    words = [word for word in words if word not in _OPTION_WORDS]
    if len(words) != 1 or not re.fullmatch(r"[a-z]|[0-9]{1,4}", words[0]):
        return NO_ANSWER
    position = int(words[0]) - 1 if words[0].isdigit() else ord(words[0]) - ord("a")
    return labels[position] if 0 <= position < len(labels) else NO_ANSWER
