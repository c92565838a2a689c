"""The text of a model -> a label, or NO_ANSWER, by four strict rules. docs/answers.md has them with examples.

A text that no rule reads is no answer: to miss an answer is better than to misread one. Each pattern takes time linear
in the length of the text, because all repetition inside it is bounded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

NO_ANSWER = None
MOST_WORDS = 25  # of a text that may name its label anywhere
RULES = {
    1: "the whole text is the label",
    2: "the label follows the last mark of an answer",
    3: "the first line is the label",
    4: "a short text names one label",
}

# A letter of a script that puts spaces between words. Thai, Lao, Myanmar, Khmer, kana and Han have no spaces, and in
# Hangul particles join the word.
_LETTER = r"[^\W_\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]"
_BETWEEN = r"[\s_/'\u2010-\u2015-]"  # between the words of a label
_COMMON = {"a", "i", "no"}  # words of ordinary text: such a label counts only if no word follows it
_TOKEN = r"\ue000(\d+)\ue001"  # stands for the label with that number
_THOUGHT = r"think|thinking|thought|reasoning"
# The mark at which the final answer begins: "Answer:", "answer is", <answer>, \boxed{, or a JSON key that names it.
_MARK = re.compile(
    r"<answer>|\\boxed\s?\{|\banswer\b[\"'\s)]{0,4}(?:[:=]|is\b)|答案[\"'\s】]{0,4}(?::|是|为)"
    r"|[\"'](?:final_answer|label|class|category|classification|prediction)[\"']\s?:"
)
_OPENING = re.compile(r"(?:[\s\"'(\[{:#>-]|\\text\{){0,12}")  # may stand between a mark and its label
# The end of a statement: a sentence, line, bracket, tag or JSON value, or what stands before a reason.
_END = re.compile(r"[!;\n()\[\]{}<>。|\"]|\.(?!\w)|\b(?:because|since|as|though|although)\b|因为")
# What denies, doubts or asks. A short text with any of these names no label.
_DOUBT = re.compile(
    r"\?|\b(?:not|no|non|nor|none|never|neither|nothing|nobody|nowhere|without|hardly|barely|scarcely|almost|nearly"
    r"|unlikely|unsure|uncertain|unclear|unknown|unable|impossible|difficult|maybe|perhaps|possibly|potentially|might|may"
    r"|could|would|should|can|if|whether|either|or|than|until|unless|except|instead|rather|opposite|unlike|otherwise|too"
    r"|versus|vs|between|wrong|incorrect|false|untrue|lacks?|lacking|absent|absence|excluded?|excluding|fails?|failed"
    r"|ruled? out|free (?:of|from)|far from|out of|all but|anything but|everything but|nothing but|sorry|beyond|zero"
    r"|avoid(?:s|ed)?|prevent(?:s|ed)?|dis(?:agree|prove|count)\w*|den(?:y|ies|ied)|reject(?:s|ed)?|doubt\w*)\b"
    r"|[不没沒无無非未否别或吗嗎呢]|可能|也许|如果|除了|还是|難|难"
)
# What takes back a first line.
_RETRACTION = re.compile(
    r"\b(?:actually|wait|correction|corrected|sorry|instead|i mean|on second thought|i was wrong|scratch that)\b"
    r"|其实|更正|不对|错了"
)
_OPTION = re.compile(r"(?:(?:option|choice|选项?)\s?)?(?:[a-z]|\d{1,2})")
_BABBLE = re.compile(r"\w{40}")  # a model that has lost its thread
_HAN = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"  # a word each


class Reading(NamedTuple):
    """The label that a text gives, and the rule that found it; both are None where there is no answer."""

    label: str | None
    rule: int | None


NONE = Reading(NO_ANSWER, None)


def parse(text: str, labels: Sequence[str], options: Mapping[str, str] | None = None) -> str | None:
    """The label that the text gives, or NO_ANSWER. See `read`."""
    return read(text, labels, options).label


def read(text: str, labels: Sequence[str], options: Mapping[str, str] | None = None) -> Reading:
    """The label that the text gives, by the first rule that applies; text in <think> is left out before.

    1. The whole text is a label, whatever its case, punctuation, Unicode width or emphasis.
    2. The text has a mark of an answer ("Answer:", "answer is", <answer>, \\boxed{}, a JSON key that names it): what
       follows the last one is a label, or begins with exactly one. If not, there is no answer.
    3. The first line is a label alone. No other line is another one, and no later word takes it back.
    4. The text has at most MOST_WORDS words, names exactly one label, and does not deny, doubt or ask.

    Labels are whole words, the longest first. `options` are the letters or numbers under which the prompt listed the
    labels, as `listed_options` finds them; without it, a letter or number stands for no label.
    """
    known = {key.casefold(): label for key, label in (options or {}).items()}
    text = _without_reasoning("\n".join(normal(line) for line in text.splitlines()))
    if (label := _whole(text, labels, known)) is not None:
        return Reading(label, 1)
    tokens = _with_tokens(_clean(text), tuple(labels))
    if (marked := _after_last(_MARK, tokens)) is not None:
        label = None if _RETRACTION.search(marked) else _begun(marked, labels, known)
        return NONE if label is None else Reading(label, 2)
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and (label := _first_line(lines, labels, known)) is not None:
        return Reading(label, 3)
    named = {int(number) for number in re.findall(_TOKEN, tokens)}
    rest = re.sub(_TOKEN, " ", tokens)
    if lines and _OPTION.fullmatch(_bare(lines[0])):  # an option that the prompt did not list
        return NONE
    if _RETRACTION.search(text) or _BABBLE.search(text):
        return NONE
    if len(named) == 1 and not _DOUBT.search(rest) and _words(text) <= MOST_WORDS:
        return Reading(labels[named.pop()], 4)
    return NONE


def conclusion(text: str, labels: Sequence[str]) -> tuple[str, str | None]:
    """(the text before its conclusion, the label that it concludes).

    A conclusion is a last line "Answer: ...". The label is None if there is no such line, or if it has more or less
    than a label.
    """
    body, _, last = text.rstrip().rpartition("\n")
    found = re.fullmatch(r"\W*answer\W{0,4}?:(.*)", normal(re.sub(r"[*_`]", "", last)))
    return (body.rstrip(), _whole(found[1], labels, {})) if found else (text, NO_ANSWER)


def listed_options(prompt: str, labels: Sequence[str]) -> dict[str, str]:
    """{letter or number: label} under which a prompt lists the labels, a line each; {} unless it lists all of them."""
    found = {}
    for label in labels:
        line = re.search(rf"(?im)^[^\w\n]{{0,8}}([a-z]|\d{{1,2}})[.):\]]\s?{re.escape(label)}(?!\w)", prompt)
        if line is None:
            return {}
        found[line[1].casefold()] = label
    return found if len(found) == len(labels) else {}


def normal(text: str) -> str:
    """The text without differences of case and Unicode width, and with single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _whole(text: str, labels: Sequence[str], options: Mapping[str, str]) -> str | None:
    """The label that is the whole text. A label may look like anything, such as "the answer is 4"."""
    for form in (normal, _bare):
        equal = [label for label in labels if form(label) == form(text)]
        if len(equal) == 1 and form(text):
            return equal[0]
    words = re.sub(r"^(?:option|choice|选项|选)\s?", "", _bare(text))
    return options.get(words)


def _bare(text: str) -> str:
    """The text without case, punctuation and emphasis."""
    return re.sub(r"[\W_]+", " ", normal(text)).strip()


def _begun(marked: str, labels: Sequence[str], options: Mapping[str, str]) -> str | None:
    """The one label with which the text after a mark begins."""
    opening = _OPENING.match(marked)
    marked = marked[opening.end() :] if opening else marked
    option = re.match(r"(?:(?:option|choice|选项?)\s?)?([a-z]|\d{1,2})(?![\w'])[\s.):\],]{0,4}", marked)
    by_option = options.get(option[1]) if option else None
    if option and by_option:
        marked = marked[option.end() :]
    first = re.match(_TOKEN, marked)
    is_list = opening is not None and "[" in opening[0]
    statement = marked.partition("]")[0] if is_list else _END.split(marked, maxsplit=1)[0]
    named = {labels[int(number)] for number in re.findall(_TOKEN, statement)}
    if by_option and not first:
        return by_option if not re.search(r"\w", statement) or (option and option[0].rstrip()[-1] in ".):]") else None
    if not first or len(named | ({by_option} if by_option else set())) > 1:
        return None
    return None if _DOUBT.search(re.sub(_TOKEN, " ", statement)) else labels[int(first[1])]


def _first_line(lines: Sequence[str], labels: Sequence[str], options: Mapping[str, str]) -> str | None:
    first, *others = lines
    label = None if first.rstrip("*_ ").endswith(":") else _whole(first, labels, options)
    if label is None or _RETRACTION.search("\n".join(others)):
        return None
    alone = [_whole(re.sub(r"^\W*\d{1,2}[.)]", "", line), labels, options) for line in others]
    return label if not [one for one in alone if one not in (None, label)] else None


def _words(text: str) -> int:
    return len(re.findall(rf"{_HAN}|(?:(?!{_HAN})\w)+", text))


def _clean(text: str) -> str:
    """The text as the patterns take it: without emphasis, and with "not" for "n't" and "non-"."""
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
    names = [_clean(normal(label)) for label in labels]
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
