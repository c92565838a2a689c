"""lmms-eval's response cache (--use_cache DIR), changed so that a generation that was killed goes on where it stopped.

lmms-eval 0.7.3 alone does not do that:
- it asks the model for all answers, and stores them only after the last one;
- it starts a new folder below DIR each time, and reads an earlier one only if that evaluation finished;
- it forgets token counts, without which `rbft collect` cannot tell which answers were truncated;
- its key does not tell which videos the questions are about.
This module wraps `ResponseCache.execute` to change that, for our tasks alone. A test fails when its signature changes.

The key holds the model's arguments, not its weights. Sampled answers are never stored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from types import SimpleNamespace
from typing import Any

FAILED = ("[LMMS_EVAL_REQUEST_FAILED", "[LMMS_EVAL_BUDGET_EXCEEDED")  # lmms-eval writes these instead of an answer


def install(only_ours: bool) -> None:
    """Wrap lmms-eval's cache. A process has to call this once."""
    from lmms_eval.caching.response_cache import ResponseCache

    original: Callable[..., list[Any]] = ResponseCache.execute
    if only_ours:
        os.environ.setdefault("LMMS_CACHE_RUN_ID", "rbft")  # the folder below DIR: the same at each start

    @wraps(original)
    def execute(self: Any, lm: Any, reqtype: str, requests: list[Any]) -> list[Any]:
        ours = all(request.task_name.startswith("rbft_") for request in requests)
        if not ours or reqtype != "generate_until":
            return original(self, lm, reqtype, requests)
        fingerprints = self._task_fingerprints
        for task in {request.task_name for request in requests}:
            fingerprints[task] = f"{fingerprints.get(task, '')}-{_samples_hash(lm.task_dict[task])}"
        in_parts = SimpleNamespace(generate_until=lambda missing: _answers(lm, missing))
        return original(self, in_parts, reqtype, requests)

    ResponseCache.execute = execute


def _samples_hash(splits: dict[str, Iterable[dict[str, Any]]]) -> str:
    """A hash of a task's samples and their clips. The name of a clip is a hash of its content."""
    samples = [[doc.get("id"), doc.get("video")] for docs in splits.values() for doc in docs]
    return hashlib.sha256(json.dumps(samples).encode()).hexdigest()[:16]


def _answers(lm: Any, requests: list[Any]) -> Iterator[Any]:
    """The answers in the order of the requests. The model is asked for a part at a time; the cache stores each answer.

    An answer with token counts becomes a pair of text and counts. lmms-eval reads these too, and a file can hold them.
    """
    from lmms_eval.api.instance import GenerationResult
    from lmms_eval.caching.response_cache import extract_gen_kwargs, is_deterministic
    from tqdm import tqdm

    sizes = [str(getattr(lm, name, "")) for name in ("batch_size", "num_concurrent")]
    size = 8 * max([int(number) for number in sizes if number.isdigit()], default=1)
    if not all(is_deterministic("generate_until", extract_gen_kwargs(request)) for request in requests):
        size = len(requests)  # nothing is stored, and the model may count how often it is asked
    starts = range(0, len(requests), size)
    hidden = len(starts) < 2 or getattr(lm, "rank", 0) != 0
    with tqdm(total=len(requests), desc="answers", disable=hidden) as progress:
        for part in (requests[start : start + size] for start in starts):
            answers = lm.generate_until(part)
            progress.update(len(part))
            for request, answer in zip(part, answers, strict=True):
                if isinstance(answer, GenerationResult):
                    if answer.text.startswith(FAILED):  # marked as sampled, it is not stored, and is asked again later
                        extract_gen_kwargs(request)["do_sample"] = True
                    answer = (answer.text, answer.token_counts.to_dict() if answer.token_counts else {})
                yield answer
