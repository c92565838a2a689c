"""lmms-eval's response cache (--use_cache DIR), so that a generation that was killed goes on where it stopped.

lmms-eval 0.7.3 alone does not: it asks the model for all answers and stores them after the last one, it starts in a
new folder below DIR each time and reads an earlier one only if that run finished, it forgets token counts, without
which `rbft collect` cannot tell what was cut off, and its key does not tell which videos were asked about. All of that
is put right here by wrapping `ResponseCache.execute`, for our tasks alone; a test fails when its signature changes.

Its key holds the model arguments, not the model's weights. Sampled answers are never stored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from functools import wraps
from types import SimpleNamespace
from typing import Any

FAILED = ("[LMMS_EVAL_REQUEST_FAILED", "[LMMS_EVAL_BUDGET_EXCEEDED")  # lmms-eval's texts in place of an answer


def install(only_ours: bool) -> None:
    """Wrap lmms-eval's cache; once a process."""
    from lmms_eval.caching.response_cache import ResponseCache

    original = ResponseCache.execute
    if only_ours:
        os.environ.setdefault("LMMS_CACHE_RUN_ID", "rbft")  # the folder below DIR: the same at each start

    @wraps(original)
    def execute(self: Any, lm: Any, reqtype: str, requests: list[Any]) -> list:
        if not all(request.task_name.startswith("rbft_") for request in requests):
            return original(self, lm, reqtype, requests)
        for task in {request.task_name for request in requests}:
            prints = self._task_fingerprints
            prints[task] = f"{prints.get(task, '')}-{_videos(lm.task_dict[task])}"
        return original(
            self, SimpleNamespace(**{reqtype: lambda asked: _answers(lm, reqtype, asked)}), reqtype, requests
        )

    ResponseCache.execute = execute


def _videos(splits: dict[str, Iterable[dict[str, Any]]]) -> str:
    """A hash of the samples of a task; a clip's name is a hash of its content."""
    found = [[doc.get("id"), doc.get("video")] for docs in splits.values() for doc in docs]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


def _answers(lm: Any, reqtype: str, requests: list[Any]) -> Iterator[Any]:
    """Answers to some requests after the other, in their order; the cache stores each as it takes it.

    An answer with counts is a pair of text and counts, which lmms-eval reads too, and which a file can hold.
    """
    from lmms_eval.api.instance import GenerationResult

    size = 8 * max(int(getattr(lm, "batch_size", None) or 1), int(getattr(lm, "num_concurrent", None) or 1))
    for some in (requests[i : i + size] for i in range(0, len(requests), size)):
        for request, answer in zip(some, getattr(lm, reqtype)(some), strict=True):
            if isinstance(answer, GenerationResult):
                if answer.text.startswith(FAILED):  # as if sampled: it is not stored, and so asked again next time
                    next(arg for arg in request.args if isinstance(arg, dict))["do_sample"] = True
                answer = (answer.text, answer.token_counts.to_dict() if answer.token_counts else {})
            yield answer
