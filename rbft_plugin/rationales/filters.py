"""What makes a text no rationale to learn from: a filter for each reason. A further filter is one more entry."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rbft_plugin.lmms_eval.response_cache import FAILED
from rbft_plugin.spec.filters import Filters

ALWAYS_ALLOWED = 10  # videos that may share a text, however few there are in all
ALIKE = 0.8  # Jaccard similarity of runs of three words from which on two texts are nearly the same


@dataclass(frozen=True)
class RationaleRow:
    """A logged rationale and what its filters need."""

    sample_id: str
    text: str
    prompt: str = ""  # what its writer was asked
    truncated: bool = False  # at the limit of new tokens
    label: str | None = None  # the label that a hinted prompt showed
    target: str | None = None  # the label of the sample
    concluded: str | None = None  # the class that the rationale concludes; it is not in the text


# (rows that no filter before left out, settings, number of all rationales) -> positions of the rows to leave out
Find = Callable[[Sequence[RationaleRow], Filters, int], list[int]]


@dataclass(frozen=True)
class Filter:
    """A reason to leave rationales out, which a recipe may switch off if it is `keepable`."""

    description: str
    find: Find
    keepable: bool = True


def reasons(rows: Sequence[RationaleRow], filters: Filters) -> list[str | None]:
    """For each rationale the name of the first filter that leaves it out, or None."""
    found: list[str | None] = [None] * len(rows)
    for name, one in FILTERS.items():
        if name not in filters.keep:
            whole = [i for i, reason in enumerate(found) if reason is None]
            for position in one.find([rows[i] for i in whole], filters, len(rows)):
                found[whole[position]] = name
    return found


# Scripts that put no spaces between words: each character counts as a word.
_WORD = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"


def words(text: str) -> list[str]:
    """Words, and single characters where a script puts no spaces between words; without case or punctuation."""
    return re.findall(rf"{_WORD}|(?:(?!{_WORD})\w)+", text.casefold())


def repetitive(text: str) -> bool:
    """Whether a run of words stands there four times in a row, or a long sentence three times anywhere."""
    found = words(text)
    for size in range(1, len(found) // 4 + 1):
        same = 0
        for i in range(size, len(found)):
            same = same + 1 if found[i] == found[i - size] else 0
            if same >= 3 * size:
                return True
    sentences = Counter(s.strip() for s in re.split(r"[.!?\n。！？]+", text.casefold()) if len(words(s)) >= 5)
    return max(sentences.values(), default=0) >= 3


def _any(*patterns: str) -> list[re.Pattern[str]]:
    return [re.compile(pattern, re.IGNORECASE) for pattern in patterns]


_MEDIA = r"(?:videos?|clips?|footage|images?|frames?|pictures?)"
_REFUSAL = _any(
    r"^\W*(?:i(?:['’]m| am) (?:very )?sorry|sorry|i apologi[sz]e|my apologies|unfortunately,? i)\b",
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model|text-based)\b",
    r"\bi(?:['’]m| am)? ?(?:can(?:no|['’])t|can not|could(?: not|n['’]t)|unable to|not able to|"
    r"(?:won['’]t|will not)(?: be able to)?)\s+(?:directly |actually )?"
    r"(?:assist|help|view|watch|access|open|play|process|analy[sz]e|provide|fulfil+|comply|"
    r"generate|create|discuss|engage|describe|see|interpret|answer)(?:\s+or\s+\w+)?"
    r"(?:\s+(?:with|to|in|on|for|the|any|this|that|these|your|an?|such|actual|external|of))*"
    rf"\s+(?:{_MEDIA}|requests?|content|files?|questions?|you|description)\b",
    r"\bi(?:['’]m| am)? ?(?:can(?:no|['’])t|can not|unable to|not able to|won['’]t|will not) "
    r"(?:assist|help)(?: you)? with\b",
    rf"\b(?:no|without (?:an?|any|the)) (?:actual )?{_MEDIA}(?: content)? (?:(?:is|was|were|has been|have been) )?"
    r"(?:provided|attached|given|included|available|uploaded|supplied)\b",
    rf"\b(?:please|(?:could|can) you) (?:provide|upload|share|attach|send)\b.{{0,40}}\b(?:{_MEDIA}|files?|links?)",
    rf"\bi (?:don['’]t|do not) (?:see|have(?: access to)?) (?:an?|any|the)(?: attached)? {_MEDIA}",
    r"^\W*(?:很?抱歉|对不起|不好意思)",
    r"作为(?:一个|一名|一款)?\s*(?:AI|人工智能|(?:大型)?语言模型)",
    r"我(?:无法|不能|没有办法)(?:直接)?(?:观看|查看|访问|处理|分析|提供|协助|帮助|看到(?:这个|该|任何)?视频)",
    r"请(?:您|你)?(?:提供|上传|发送).{0,8}(?:视频|图片|文件)",
)
_KIND = r"(?:class|classification|category|label|annotation|answer)"
_GIVEN = r"(?:given|provided|assigned|supplied|stated|indicated|specified|told)"
_LEAK = _any(
    r"\bground[- ]?truth\b",
    rf"\b(?:{_GIVEN}|known|true|correct|actual|annotated|target|gold(?:en)?|reference|expected) {_KIND}\b",
    rf"\b{_KIND} (?:(?:that|which) )?(?:(?:is|was|has been|i was|we were|you have|you) )?{_GIVEN}\b",
    rf"\b{_MEDIA} (?:is|was|has been|have been|are|were) (?:labell?ed|annotated|tagged)\b",
    r"\b(?:as|since|because) (?:(?:it|this) (?:is|was|has been) )?(?:labell?ed|annotated|tagged)\b",
    r"(?:真实|正确|给定的?|已知的?|所给的?|提供的?)(?:标签|类别|答案)|被?标注为",
)
# Where the prompt showed the label, every word on labels is suspect.
_HINTED = _any(
    r"\blabel(?:s|l?ed|l?ing)?\b", r"\bannotat(?:ed|ions?)\b", r"\b(?:the|your|this) hint\b", r"标签|标注|提示"
)


def refuses(text: str) -> bool:
    """Whether a text begins by declining, or says that there is no video."""
    return any(pattern.search(text[:300]) for pattern in _REFUSAL)


def leaks(text: str, label: str | None = None) -> bool:
    """Whether a text speaks of the right label as given; with `label`, also where it names that one as a premise."""
    patterns = list(_LEAK)
    if label is not None:
        name = rf"[\s:=*\"'“”‘’]{{0,3}}{re.escape(label)}(?!\w)"
        patterns += _HINTED + _any(
            rf"\b{_KIND}\b(?:\s*(?:is|was|being|of|name[d]?|called)\b)?\s*[:=]?{name}",
            rf"\b(?:classified|categori[sz]ed|marked|tagged|designated)\b(?: \w+)? as\b(?: an?\b)?{name}",
            rf"\b(?:since|because|given that) (?:this|it|the \w+) (?:is|was|shows)(?: an?\b)?{name}",
            rf"(?:类别|分类|答案)(?:是|为|：|:)?{name}",
        )
    return any(pattern.search(text) for pattern in patterns)


def _other_script(text: str, prompt: str) -> bool:
    """Whether most letters are of a script that makes up less than a tenth of the prompt's letters."""
    wanted, found = _scripts(prompt), _scripts(text)
    if not wanted or not found:
        return False
    script, _ = found.most_common(1)[0]
    return wanted[script] < 0.1 * wanted.total()


def _scripts(text: str) -> Counter[str]:
    """Letters by script; kana and Han count as one, since Japanese has both."""
    first = Counter(unicodedata.name(c, "?").split()[0].split("-")[0] for c in text if c.isalpha())
    one = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "FULLWIDTH": "LATIN", "HALFWIDTH": "CJK"}
    scripts: Counter[str] = Counter()
    for name, count in first.items():
        scripts[one.get(name, name)] += count
    return scripts


def _alike(texts: Sequence[str]) -> list[list[int]]:
    """Groups of positions of texts that are nearly the same as the first of their group."""
    if len(texts) < 2:
        return []
    import numpy as np
    from sklearn.feature_extraction.text import CountVectorizer

    counts = CountVectorizer(analyzer=_runs, binary=True, dtype=float).fit_transform(texts)
    sizes = np.asarray(counts.sum(axis=1)).ravel()
    groups: list[list[int]] = []
    taken: set[int] = set()
    for i in range(len(texts)):
        if i not in taken:
            shared = (counts @ counts[i].T).toarray().ravel()
            group = [int(j) for j in (shared >= ALIKE * (sizes + sizes[i] - shared)).nonzero()[0] if j not in taken]
            groups.append(group)
            taken |= set(group)
    return groups


def _runs(text: str) -> list[str]:
    found = words(text)
    return [" ".join(found[i : i + 3]) for i in range(max(1, len(found) - 2))]


def _generic(rows: Sequence[RationaleRow], filters: Filters, total: int) -> list[int]:
    most = max(ALWAYS_ALLOWED, filters.max_share * total) if filters.max_share else 1
    return [i for group in _alike([row.text for row in rows]) if len(group) > most for i in group[1:]]


def _each(holds: Callable[[RationaleRow, Filters], bool]) -> Find:
    """A filter that looks at one row alone."""
    return lambda rows, filters, total: [i for i, row in enumerate(rows) if holds(row, filters)]


# In the order in which they are tried. A recipe names those that are keepable; spec.filters.Keepable lists these.
FILTERS: dict[str, Filter] = {
    "failed": Filter(
        "the writer's server gave an error in its place",
        _each(lambda row, _: row.text.startswith(FAILED)),
        keepable=False,
    ),
    "empty": Filter("the model wrote nothing", _each(lambda row, _: not row.text), keepable=False),
    "markup": Filter(
        "it holds <video> or <image>, which training would take for media",
        _each(lambda row, _: "<video>" in row.text or "<image>" in row.text),
        keepable=False,
    ),
    "truncated": Filter("it was cut at the limit of new tokens", _each(lambda row, _: row.truncated)),
    "refusal": Filter("the model declines, or says that it sees no video", _each(lambda row, _: refuses(row.text))),
    "leak": Filter("it speaks of the label as something given", _each(lambda row, _: leaks(row.text, row.label))),
    "unconcluded": Filter(
        "it has no conclusion that is a class",
        _each(lambda row, given: given.concluded and row.concluded is None),
        keepable=False,
    ),
    "wrong": Filter(
        "it concludes another class than the label",
        _each(lambda row, given: given.right and row.target is not None and row.concluded != row.target),
        keepable=False,
    ),
    "language": Filter(
        "it is in another script than its prompt", _each(lambda row, _: _other_script(row.text, row.prompt))
    ),
    "repetitive": Filter("it says the same over and over", _each(lambda row, _: repetitive(row.text))),
    "short": Filter("it has too few words", _each(lambda row, given: len(words(row.text)) < given.min_words)),
    "long": Filter(
        "it has too many words",
        _each(lambda row, given: given.max_words is not None and len(words(row.text)) > given.max_words),
    ),
    "generic": Filter("nearly the same text was written for too many videos; one of them is kept", _generic),
}
