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
        ours = all(request.task_name.startswith("rbft_") for request in requests)
        if not ours or reqtype != "generate_until":
            return original(self, lm, reqtype, requests)
        prints = self._task_fingerprints
        for task in {request.task_name for request in requests}:
            prints[task] = f"{prints.get(task, '')}-{_videos(lm.task_dict[task])}"
        asked = SimpleNamespace(generate_until=lambda missing: _answers(lm, missing))
        return original(self, asked, reqtype, requests)

    ResponseCache.execute = execute


def _videos(splits: dict[str, Iterable[dict[str, Any]]]) -> str:
    """A hash of the samples of a task; a clip's name is a hash of its content."""
    found = [[doc.get("id"), doc.get("video")] for docs in splits.values() for doc in docs]
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


def _answers(lm: Any, requests: list[Any]) -> Iterator[Any]:
    """Answers to some requests after the other, in their order; the cache stores each as it takes it.

    An answer with counts is a pair of text and counts, which lmms-eval reads too, and which a file can hold.
    """
    from lmms_eval.api.instance import GenerationResult
    from lmms_eval.caching.response_cache import extract_gen_kwargs, is_deterministic
    from tqdm import tqdm

    at_once = [str(getattr(lm, name, "")) for name in ("batch_size", "num_concurrent")]
    size = 8 * max([int(number) for number in at_once if number.isdigit()], default=1)
    if not all(is_deterministic("generate_until", extract_gen_kwargs(request)) for request in requests):
        size = len(requests)  # nothing is stored, and a model may count how often it was asked
    starts = range(0, len(requests), size)
    hidden = len(starts) < 2 or getattr(lm, "rank", 0) != 0
    with tqdm(total=len(requests), desc="answers", disable=hidden) as progress:
        for some in (requests[start : start + size] for start in starts):
            answers = lm.generate_until(some)
            progress.update(len(some))
            for request, answer in zip(some, answers, strict=True):
                if isinstance(answer, GenerationResult):
                    if answer.text.startswith(FAILED):  # as if sampled: it is not stored, and so asked again next time
                        extract_gen_kwargs(request)["do_sample"] = True
                    answer = (answer.text, answer.token_counts.to_dict() if answer.token_counts else {})
                yield answer
