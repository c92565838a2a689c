"""The functions that task_configs/*.yaml name. A document is a row of data/<name>/<split>.jsonl."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rbft_plugin.answers import NO_ANSWER, parse
from rbft_plugin.registry import f1_metric

# Workspaces to look for clips in; the lmms-eval plugin adds those of --include_path. A clip's name is a hash of its
# content, so whichever file is found is the right one.
workspaces: list[Path] = [Path()]


def doc_to_visual(doc: dict[str, Any]) -> list[str]:
    """The sample's clip, as a path that exists."""
    for workspace in workspaces:
        if (workspace / doc["video"]).is_file():
            return [str(workspace / doc["video"])]
    looked = ", ".join(str(w.resolve()) for w in workspaces)
    raise FileNotFoundError(f"sample {doc['id']}: no {doc['video']} in {looked}; run `rbft prepare` there")


def label_prompt(doc: dict[str, Any], lmms_eval_specific_kwargs: dict | None = None) -> str:
    return doc["label_prompt"]


def rationale_prompt(doc: dict[str, Any], lmms_eval_specific_kwargs: dict | None = None) -> str:
    return doc["rationale_prompt"]


def process_label(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Scores of one answer. `score` (0 or 1) is what lmms-eval's --baseline pairs runs by."""
    prediction = parse(results[0], doc["labels"])
    right = float(prediction == doc["label"])
    outcome = {
        "sample_id": doc["id"],
        "prediction": prediction,
        "score": right,
        "accuracy": right,
        "no_answer": float(prediction is NO_ANSWER),
        "macro_f1": [doc["label"], prediction],
    }
    return outcome | {f1_metric(n): _outcome(n, doc["label"], prediction) for n in doc["labels"]}


def process_rationale(doc: dict[str, Any], results: Sequence[str]) -> dict[str, Any]:
    return {"sample_id": doc["id"], "words": float(len(results[0].split()))}


def class_f1(outcomes: Sequence[str]) -> float:
    """F1 of one label from each sample's tp, fp, fn or tn; 0 where the label neither occurs nor is answered."""
    count = Counter(outcomes)
    return 2 * count["tp"] / max(1, 2 * count["tp"] + count["fp"] + count["fn"])


def macro_f1(pairs: Sequence[tuple[str, str | None]]) -> float:
    """Mean F1 over the labels that occur as targets, from each sample's (target, prediction)."""
    labels = sorted({target for target, _ in pairs})
    return sum(class_f1([_outcome(n, t, p) for t, p in pairs]) for n in labels) / len(labels)


def _outcome(label: str, target: str, prediction: str | None) -> str:
    return ("tp" if prediction == label else "fn") if target == label else ("fp" if prediction == label else "tn")
