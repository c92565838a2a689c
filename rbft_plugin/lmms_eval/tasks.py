"""The functions that task_configs/*.yaml name. lmms-eval calls them with rows of data/<name>/<split>.jsonl as `doc`.

What a process_* function returns becomes a part of the sample's row in lmms-eval's log. Each key of it that is a metric
of the task also goes to that metric's aggregation, as a list over all samples.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rbft_plugin.errors import RbftError
from rbft_plugin.lmms_eval.evaluation import SAMPLES, chosen_samples
from rbft_plugin.scoring import counts
from rbft_plugin.scoring.answers import NO_ANSWER, RULES, listed_options, read
from rbft_plugin.scoring.metrics import METRICS, Metric
from rbft_plugin.spec.names import CLASS_METRICS, class_metric, rule_metric

# The folders in which clips are looked for. `plugin` adds those of --include_path. A clip's name is a hash of its
# content, so any file with that name is the right one.
workspaces: list[Path] = [Path()]


def doc_to_visual(doc: dict[str, Any]) -> list[str]:
    """The sample's clip, as a list of one path. Raises FileNotFoundError if no workspace has it."""
    for workspace in workspaces:
        if (workspace / doc["video"]).is_file():
            return [str(workspace / doc["video"])]
    looked = ", ".join(str(w.resolve()) for w in workspaces)
    raise FileNotFoundError(f"sample {doc['id']}: no {doc['video']} in {looked}; run `rbft prepare` there")


def no_visual(doc: dict[str, Any]) -> list[str]:
    """No video. So scored, an answer shows what the question alone gives away."""
    return []


def label_prompt(doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, Any] | None = None) -> str:
    return str(doc["label_prompt"])


def rationale_prompt(doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, Any] | None = None) -> str:
    return str(doc["rationale_prompt"])


def hinted_prompt(doc: dict[str, Any], lmms_eval_specific_kwargs: dict[str, Any] | None = None) -> str:
    return str(doc["hinted_prompt"])


def hinted(docs: Any) -> Any:
    """The samples of a `datasets.Dataset` that have a hinted prompt, which are those with a label."""
    return docs.filter(lambda doc: bool(doc.get("hinted_prompt")), keep_in_memory=True)


def labelled(docs: Any) -> Any:
    """The samples of a `datasets.Dataset` that have a label; with RBFT_SAMPLES those of them that this file names."""
    docs = docs.filter(lambda doc: doc["label"] is not None, keep_in_memory=True)
    if not os.environ.get(SAMPLES):
        return docs
    place = {sample: number for number, sample in enumerate(docs["id"])}
    return docs.select([place[sample] for sample in chosen_samples(place, Path(os.environ[SAMPLES]))])


def process_label(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """The scores of one answer, and the rule by which it was read; `rule` is 0 where there is no answer."""
    labels = doc["labels"]
    label, rule = read(results[0], labels, listed_options(doc.get("label_prompt", ""), labels))
    scores = _scores(doc, label)
    return scores | {
        "rule": rule or 0,
        **{rule_metric(number): float(rule == number) for number in RULES},
        "accuracy_rule_1": float(rule == 1) * scores["score"],
    }


def process_likelihoods(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """The scores of one sample, from the log-likelihood of each label as text, such as "(-1.5, True)".

    `probabilities` are the softmax of the labels' log-likelihoods. `accuracy_norm` takes the label with the best mean
    log-likelihood of a token, or of a character if the model gives no number of tokens as a third figure. Raises
    RbftError if a label has no log-likelihood.
    """
    from scipy.special import softmax

    labels = doc["labels"]
    if len(results) != len(labels):
        raise RbftError(f"sample {doc['id']}: {len(results)} likelihoods for {len(labels)} labels")
    numbers = [_numbers(result) for result in results]
    logprobs = [logprob for logprob, *_ in numbers]
    probabilities = softmax(logprobs).tolist()
    lengths = [found[2] if len(found) > 2 else len(label) for found, label in zip(numbers, labels, strict=True)]
    means = [logprob / length for logprob, length in zip(logprobs, lengths, strict=True)]
    ranked = [labels.index(doc["label"]), *probabilities]
    return _scores(doc, labels[logprobs.index(max(logprobs))]) | {
        "probabilities": dict(zip(labels, probabilities, strict=True)),
        "accuracy_norm": float(labels[means.index(max(means))] == doc["label"]),
        **dict.fromkeys((name for name, metric in METRICS.items() if metric.of_probabilities), ranked),
    }


def _scores(doc: dict[str, Any], prediction: str | None) -> dict[str, Any]:
    """What every scored sample has. lmms-eval's --baseline compares runs by `score`, the only key with that word."""
    target, labels = doc["label"], doc["labels"]
    answers = [*labels, NO_ANSWER]
    pair = [target, prediction]
    return {
        "sample_id": doc["id"],
        "prediction": prediction,
        "score": float(prediction == target),
        **{
            name: metric.of([target], [prediction], labels) if metric.share else pair
            for name, metric in METRICS.items()
            if metric.of_counts
        },
        "majority_accuracy": target,
        **{class_metric(metric, label): _outcome(label, *pair) for metric in CLASS_METRICS for label in labels},
        **{class_metric("confusion", label): [] for label in labels},
        class_metric("confusion", target): [answers.index(prediction), len(answers)],
    }


def _numbers(result: str) -> list[float]:
    """The numbers in a result of `loglikelihood`: "(-1.5, True, 3)", or "[-1.5, true, 3]" from a cache."""
    words = {"true": 1.0, "false": 0.0}
    parts = [part.strip() for part in result.strip("()[] ").lower().split(",")]
    return [words[part] if part in words else float(part) for part in parts]


def process_rationale(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    return {"sample_id": doc["id"], "mode": "plain", "words": float(len(results[0].split()))}


def process_hinted(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    return process_rationale(doc, results) | {"mode": "hinted"}


def class_confusion(places: Sequence[Sequence[int]]) -> list[int]:
    """A label's row of the confusion matrix: how many of its samples got each label as answer, and how many no answer.

    `places` holds [position of the answer, length of the row] for each sample of the label, and [] for other samples.
    The row of a label without samples is empty.
    """
    answered = Counter(place[0] for place in places if place)
    return [answered[position] for position in range(max((place[1] for place in places if place), default=0))]


def __getattr__(name: str) -> Callable[[Sequence[Any]], Any]:
    """The other aggregations that task YAMLs name as functions of this module."""
    if name == "majority_accuracy":
        return counts.majority_accuracy
    if name.startswith("class_") and name.removeprefix("class_") in CLASS_METRICS:
        return partial(_of_class, name.removeprefix("class_"))
    if name in METRICS:
        return partial(_of_pairs if METRICS[name].of_counts else _of_ranked, METRICS[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _of_class(metric: str, outcomes: Sequence[str]) -> Any:
    """A metric of one label, from each sample's tp, fp, fn or tn; 0 where it is undefined."""
    targets = ["yes" if outcome in ("tp", "fn") else "no" for outcome in outcomes]
    predictions = ["yes" if outcome in ("tp", "fp") else "no" for outcome in outcomes]
    return float(getattr(counts.per_class(targets, predictions, ["yes", "no"])["yes"], metric))


def _of_pairs(metric: Metric, pairs: Sequence[Sequence[Any]]) -> float:
    """A metric of each sample's (target, prediction). Labels that occur in neither do not change it."""
    targets, predictions = zip(*pairs, strict=True)
    return metric.of(targets, predictions, sorted({*targets, *predictions} - {NO_ANSWER}))


def _of_ranked(metric: Metric, ranked: Sequence[Sequence[float]]) -> float:
    """A metric of each sample's (position of the target, probability of each label)."""
    assert metric.of_probabilities
    labels = [str(position) for position in range(len(ranked[0]) - 1)]
    return metric.of_probabilities([str(int(row[0])) for row in ranked], [row[1:] for row in ranked], labels)


def _outcome(label: str, target: str, prediction: str | None) -> str:
    """tp, fp, fn or tn: the target and the prediction as seen from one label."""
    return ("tp" if prediction == label else "fn") if target == label else ("fp" if prediction == label else "tn")
