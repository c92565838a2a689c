"""Checks of annotations: classes with few samples, names that resemble each other, texts that tell the label."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import permutations

from rbft_plugin.data.annotations import Sample
from rbft_plugin.errors import Finding
from rbft_plugin.scoring import answers
from rbft_plugin.spec.dataset import Dataset

FEW_SAMPLES = 5
NOTHING = {"no", "none", "nothing", "other", "others", "unknown", "无", "没有", "其他"}  # labels that mean no class


def classes(table: dict[str, dict[str, int]], labels: Sequence[str]) -> list[Finding]:
    """Classes that cannot be trained or scored, and those with so few samples that figures on them say little.

    With folds, all are tested, and trained on are at least those outside of the largest fold.
    """
    lacking = {split: f"has no sample in split '{split}'" for split in ("train", "test")}
    if "test" not in table:
        folds = [of_label for split, of_label in table.items() if split != "train"]
        total = {label: sum(one[label] for one in folds) for label in labels}
        table = {
            "train": {label: total[label] - max(one[label] for one in folds) for label in labels},
            "test": total,
        }
        lacking["train"] = (
            "has no sample outside of one fold, so the models that are tested on that fold cannot know it"
        )
        lacking["test"] = "has no sample in any fold"
    findings = [
        Finding("error", "no-sample", f"label '{label}'", lacking[split])
        for split in ("train", "test") for label in labels if not table[split][label]
    ]  # fmt: skip
    for label in labels:
        train, test = table["train"][label], table["test"][label]
        if 0 < train < FEW_SAMPLES:
            text = f"has {_samples(train, 'training')}: few to learn a class from"
            findings.append(Finding("warning", "few-samples", f"label '{label}'", text))
        if 0 < test < FEW_SAMPLES:
            # Wilson's lower bound at n of n right is n / (n + z^2), z = 1.96
            least = f"{test / (test + 1.96**2):.0%}"
            text = f"has {_samples(test, 'test')}: if all were right, its recall's 95 % interval would begin at "
            findings.append(Finding("warning", "few-samples", f"label '{label}'", text + least))
    return findings


def names(labels: Sequence[str]) -> list[Finding]:
    """Labels that are hard to read in a model's text: for these, likelihoods (`ll`) are the better score."""
    advice = "; score by likelihood too (`ll` in evaluation.tasks), which reads no text"
    findings = []
    for one, other in permutations(labels, 2):
        a, b = answers.normal(one), answers.normal(other)
        where = f"label '{one}'"
        if _joined(a) == _joined(b):
            if one < other:
                text = f"differs from '{other}' only in where a word ends: one slip in an answer makes it the other"
                findings.append(Finding("warning", "label-names", where, text + advice))
        elif re.search(rf"(?<!\w){re.escape(a)}(?!\w)", b) or (a in b and not a.isascii()):
            text = f"is a part of '{other}': a model that shortens the longer name gives another answer"
            findings.append(Finding("warning", "label-names", where, text + advice))
        elif a in b:
            text = (
                f"is a part of a word of '{other}': answers are read by whole words, so neither is taken for the other"
            )
            findings.append(Finding("note", "label-names", where, text))
    for label in labels:
        if answers.normal(label) in NOTHING:
            text = "is a word of ordinary text, which an answer may use in another sense"
            findings.append(Finding("note", "label-names", f"label '{label}'", text + advice))
    return findings


def unused(where: str, values: Sequence[str], existing: Counter[str]) -> list[Finding]:
    """Raw values that a key of the YAML names and no row has: most are typing errors."""
    return [Finding("warning", "unused-value", where, f"{raw!r} is in no row") for raw in values if raw not in existing]


def groups(samples: Sequence[Sample]) -> list[Finding]:
    """Groups (splits.group) of which some samples train and others validate or test."""
    splits: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        if sample.group is not None:
            splits[sample.group][sample.split or ""] += 1
    return [
        Finding(
            "error", "group-across-splits", f"group '{group}'",
            f"is in {' and '.join(f'{s} ({n})' for s, n in count.items())}: what is tested would have been trained on",
        )
        for group, count in splits.items() if len(count) > 1
    ]  # fmt: skip


def leaks(dataset: Dataset, samples: Sequence[Sample]) -> list[Finding]:
    """Context of prompts that tells the label; judged on the labelled training samples alone.

    A text *names its class* if it holds one of the label's names as whole words. It is a leak if at least FEW_SAMPLES
    texts of a class do, three times as large a share as of the other classes' texts, and chance alone would do that in
    fewer than 1 of 1,000 cases (Fisher's exact test, one-sided).
    A value *alone tells the label* if guessing the commonest label among the other samples with the same value, or
    among all others where there is none, is right for 90 % of the samples and wrong at most a third as often as always
    guessing the commonest label.
    """
    train = [s for s in samples if s.split not in ("val", "test") and s.label is not None]
    findings = []
    for name, column in dataset.prompts.context.items():
        where = f"prompts.context.{name} (column '{column}')"
        texts = [(dict(s.context).get(name, ""), s.label or "") for s in train]
        for label in dataset.labels:
            if text := _named(texts, label.name, (label.name, *label.raw)):
                findings.append(Finding("warning", "leak", where, text))
        if text := _telling(texts):
            findings.append(Finding("warning", "leak", where, text))
    return findings


def _named(texts: list[tuple[str, str]], label: str, forms: tuple[str, ...]) -> str | None:
    either = "|".join(re.escape(answers.normal(form)) for form in dict.fromkeys(forms) if form.strip())
    pattern = re.compile(f"(?<![a-z0-9])(?:{either})(?![a-z0-9])")
    own = [bool(pattern.search(answers.normal(text))) for text, of in texts if of == label]
    other = [bool(pattern.search(answers.normal(text))) for text, of in texts if of != label]
    if not other or sum(own) < FEW_SAMPLES or sum(own) * len(other) < 3 * sum(other) * len(own):
        return None
    from scipy.stats import fisher_exact

    table = [[sum(own), len(own) - sum(own)], [sum(other), len(other) - sum(other)]]
    if fisher_exact(table, alternative="greater").pvalue >= 0.001:
        return None
    return (
        f"names its own class in {sum(own)} of {len(own)} training texts of '{label}', and in {sum(other)} of "
        f"{len(other)} of the others: was it written by somebody who knew the label?"
    )


def _telling(texts: list[tuple[str, str]]) -> str | None:
    total, of_value = Counter(label for _, label in texts), defaultdict[str, Counter[str]](Counter)
    for text, label in texts:
        of_value[text][label] += 1
    if len(of_value) < 2:
        return None
    right = sum(_commonest_other((of_value[text], total), label) == label for text, label in texts)
    always = max(total.values(), default=0)
    if right < 0.9 * len(texts) or 3 * (len(texts) - right) > len(texts) - always:
        return None
    return (
        f"alone tells the label of {right} of {len(texts)} training samples; always '{total.most_common(1)[0][0]}' is "
        f"right for {always}"
    )


def _commonest_other(counts: Sequence[Counter[str]], own: str) -> str | None:
    """The commonest label of the first count that has one, without the sample itself."""
    for count in counts:
        rest = count - Counter([own])
        if rest:
            return max(sorted(rest), key=lambda label: rest[label])
    return None


def _joined(name: str) -> str:
    return re.sub(r"[\W_]+", "", name)


def _samples(n: int, kind: str) -> str:
    return f"{n} {kind} sample{'s' if n > 1 else ''}"
