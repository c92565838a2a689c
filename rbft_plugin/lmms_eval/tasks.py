"""The functions that task_configs/*.yaml name. A document is a row of data/<name>/<split>.jsonl.

What a process_* function returns is the sample's row in lmms-eval's log, and each key of it that is a metric of the
task goes to that metric's aggregation, as a list over all samples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rbft_plugin.errors import RbftError
from rbft_plugin.scoring import counts
from rbft_plugin.scoring.answers import NO_ANSWER, parse
from rbft_plugin.scoring.metrics import METRICS, Metric
from rbft_plugin.spec.names import CLASS_METRICS, class_metric

# Workspaces to look for clips in; the lmms-eval plugin adds those of --include_path. A clip's name is a hash of its
# content, so whichever file is found is the right one.
workspaces: list[Path] = [Path()]

Pair = Sequence[str | None]  # (target, prediction)


def doc_to_visual(doc: dict[str, Any]) -> list[str]:
    """The sample's clip, as a path that exists."""
    for workspace in workspaces:
        if (workspace / doc["video"]).is_file():
            return [str(workspace / doc["video"])]
    looked = ", ".join(str(w.resolve()) for w in workspaces)
    raise FileNotFoundError(f"sample {doc['id']}: no {doc['video']} in {looked}; run `rbft prepare` there")


def no_visual(doc: dict[str, Any]) -> list[str]:
    """No video: what the question alone gives away."""
    return []


def label_prompt(doc: dict[str, Any], lmms_eval_specific_kwargs: dict | None = None) -> str:
    return doc["label_prompt"]


def rationale_prompt(doc: dict[str, Any], lmms_eval_specific_kwargs: dict | None = None) -> str:
    return doc["rationale_prompt"]


def hinted_prompt(doc: dict[str, Any], lmms_eval_specific_kwargs: dict | None = None) -> str:
    return doc["hinted_prompt"]


def hinted(docs: Any) -> Any:
    """The samples that have a hinted prompt: those with a label (of a `datasets.Dataset`)."""
    return docs.filter(lambda doc: bool(doc.get("hinted_prompt")), keep_in_memory=True)


def process_label(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Scores of one answer."""
    return _scored(doc, parse(results[0], doc["labels"]))


def process_likelihoods(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Scores of one sample from the log-likelihood of each label; lmms-eval makes text of them, "(-1.5, True)".

    `probabilities` are the softmax of the sums over each label's tokens. `accuracy_norm` takes the label with the
    best mean over its tokens, or over its characters where the model gives no number of tokens as a third figure.
    """
    from scipy.special import softmax

    labels = doc["labels"]
    given = [_numbers(result) for result in results]
    if len(given) != len(labels):
        raise RbftError(f"sample {doc['id']}: {len(given)} likelihoods for {len(labels)} labels")
    sums = [numbers[0] for numbers in given]
    shares = [float(share) for share in softmax(sums)]
    lengths = [numbers[2] if len(numbers) > 2 else len(label) for numbers, label in zip(given, labels, strict=True)]
    means = [total / length for total, length in zip(sums, lengths, strict=True)]
    ranked = [labels.index(doc["label"]), *shares]
    return _scored(doc, labels[sums.index(max(sums))]) | {
        "probabilities": dict(zip(labels, shares, strict=True)),
        "accuracy_norm": float(labels[means.index(max(means))] == doc["label"]),
        **dict.fromkeys((name for name, metric in METRICS.items() if metric.of_probabilities), ranked),
    }


def _scored(doc: dict[str, Any], prediction: str | None) -> dict[str, Any]:
    """What every scored sample has. `score` (0 or 1) is what lmms-eval's --baseline pairs runs by."""
    target, labels = doc["label"], doc["labels"]
    positions = [*labels, NO_ANSWER]
    cell = [positions.index(prediction), len(positions)]
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
        **{class_metric("confusion", label): cell if label == target else [] for label in labels},
    }


def _numbers(result: str) -> list[float]:
    """The figures of a result of `loglikelihood`, "(-1.5, True, 3)", or with brackets if it was cached."""
    words = {"true": 1.0, "false": 0.0}
    parts = [part.strip() for part in result.strip("()[] ").lower().split(",")]
    return [words[part] if part in words else float(part) for part in parts]


def process_rationale(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    return {"sample_id": doc["id"], "mode": "plain", "words": float(len(results[0].split()))}


def process_hinted(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    return process_rationale(doc, results) | {"mode": "hinted"}


def class_f1(outcomes: Sequence[str]) -> float:
    """F1 of one label from each sample's tp, fp, fn or tn; 0 where the label neither occurs nor is answered."""
    return _of_class("f1", outcomes)


def class_precision(outcomes: Sequence[str]) -> float:
    """Precision of one label, as in `class_f1`; 0 where it is never answered."""
    return _of_class("precision", outcomes)


def class_recall(outcomes: Sequence[str]) -> float:
    """Recall of one label, as in `class_f1`; 0 where it never occurs."""
    return _of_class("recall", outcomes)


def class_support(outcomes: Sequence[str]) -> int:
    """Number of samples whose target is the label, from outcomes as in `class_f1`."""
    return int(_of_class("support", outcomes))


def class_confusion(cells: Sequence[Sequence[int]]) -> list[int]:
    """One label's row of the confusion matrix: how often its samples were answered with each label, and not answered.

    `cells` are [place of the answer among these, their number], and empty for samples with another target; a label
    that never occurs has an empty row.
    """
    answered = Counter(cell[0] for cell in cells if cell)
    return [answered[place] for place in range(max((cell[1] for cell in cells if cell), default=0))]


def majority_accuracy(targets: Sequence[str]) -> float:
    """Accuracy of always answering the most frequent target."""
    return counts.majority_accuracy(targets)


def __getattr__(name: str) -> Callable[[Sequence[Any]], float]:
    """The aggregation of a metric of METRICS over all samples, which a task YAML names as a function of this module."""
    metric = METRICS.get(name)
    if metric is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return partial(_of_pairs if metric.of_counts else _of_ranked, metric)


def _of_class(metric: str, outcomes: Sequence[str]) -> float:
    sides = [("yes" if o in ("tp", "fn") else "no", "yes" if o in ("tp", "fp") else "no") for o in outcomes]
    return counts.per_class(*_columns(sides), ["yes", "no"])["yes"][metric]


def _of_pairs(metric: Metric, pairs: Sequence[Pair]) -> float:
    """A metric of each sample's (target, prediction). Labels that occur in neither do not change it."""
    targets, predictions = _columns(pairs)
    return metric.of(targets, predictions, sorted({*targets, *predictions} - {NO_ANSWER}))


def _of_ranked(metric: Metric, ranked: Sequence[Sequence[float]]) -> float:
    """A metric of each sample's (position of the target, probability of each label)."""
    names = [str(position) for position in range(len(ranked[0]) - 1)]
    assert metric.of_probabilities
    return metric.of_probabilities([str(int(row[0])) for row in ranked], [row[1:] for row in ranked], names)


def _columns(pairs: Sequence[Pair]) -> tuple[list[Any], list[Any]]:
    return [target for target, _ in pairs], [prediction for _, prediction in pairs]


def _outcome(label: str, target: str, prediction: str | None) -> str:
    return ("tp" if prediction == label else "fn") if target == label else ("fp" if prediction == label else "tn")
