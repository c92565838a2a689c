"""`rbft_vl`: an lmms-eval model for canonical clips, with the inputs that LLaMA-Factory trains on.

Any transformers model of images and text whose processor takes videos. Held equal to itself at batch size 1 by tests:
Qwen2-VL, Qwen2.5-VL, Qwen3-VL, InternVL. LLaVA-OneVision was tried: clips of a batch must have one number of frames.
In bfloat16 a batch's rounding may turn a close decision.
"""

from __future__ import annotations

import json
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from tqdm import tqdm

from rbft_plugin.errors import RbftError
from rbft_plugin.model.checkpoint import Checkpoint, adapter_list
from rbft_plugin.model.generate import generate, seed_of, settings_of
from rbft_plugin.model.inputs import Sample, batches, default_workers
from rbft_plugin.model.load import load_model
from rbft_plugin.model.loglikelihood import answer_ids, score

ARGUMENTS = "pretrained, adapters, dtype, attn_implementation, device_map, trust_remote_code, num_workers, fingerprint"


class RbftVL(lmms):
    """Model arguments of `--model rbft_vl`:

    - pretrained: a folder or a name on the hub; adapters: LoRA folders joined by ':', applied in order;
    - dtype (auto), attn_implementation, device_map, trust_remote_code (false): as in transformers;
    - num_workers: processes that read clips ahead of the model; 0 for none;
    - fingerprint: of base and adapters, as `rbft run` passes it; another model at the same place is then refused.
      lmms-eval's response cache tells models apart by their arguments alone.
    """

    is_simple = True

    def __init__(
        self,
        pretrained: str = "",
        adapters: str = "",
        dtype: str = "auto",
        attn_implementation: str = "",
        device_map: str = "",
        trust_remote_code: bool = False,
        num_workers: int | None = None,
        fingerprint: str = "",
        device: str | None = None,
        batch_size: int | str = 1,
        **unknown: Any,
    ) -> None:
        super().__init__()
        unknown.pop("max_batch_size", None)  # lmms-eval's own, always passed when given
        if unknown:
            raise RbftError(f"rbft_vl: unknown model arguments: {', '.join(unknown)}; known are {ARGUMENTS}")
        if not pretrained:
            raise RbftError("rbft_vl: which model? Give --model_args pretrained=FOLDER, or a name on the hub")
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise RbftError(f"rbft_vl: --batch_size must be a whole number above 0, not {batch_size!r}")
        if num_workers is not None and (not str(num_workers).isdigit()):
            raise RbftError(f"rbft_vl: num_workers must be a whole number, not {num_workers!r}")
        if trust_remote_code not in (True, False):
            raise RbftError(f"rbft_vl: trust_remote_code must be true or false, not {trust_remote_code!r}")
        checkpoint = Checkpoint(str(pretrained), tuple(adapter_list(adapters)))
        if fingerprint and fingerprint != checkpoint.fingerprint():
            raise RbftError(
                f"rbft_vl: the model at {checkpoint.model_args()} has fingerprint {checkpoint.fingerprint()}, not "
                f"{fingerprint}: it has changed since, and answers that were cached for that one are not its own. Pass "
                "its fingerprint, or none."
            )
        if "WORLD_SIZE" in os.environ and (device or "cuda") == "cuda" and torch.cuda.is_available():
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        self.batch_size = int(batch_size)
        self.workers = default_workers() if num_workers is None else int(num_workers)
        self.model, self.processor = load_model(
            checkpoint.base, checkpoint.adapters, device, dtype, attn_implementation, device_map, trust_remote_code
        )
        self.device = self.model.device

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        """One answer a request. A request that comes several times (lmms-eval's --repeats) is drawn anew each time.

        Each answer's random numbers come from the setting `seed` (without it, torch's, which lmms-eval's --seed sets),
        the document, and how often it was asked before: not from batch size, order, or number of processes.
        """
        results: list[Any] = [None] * len(requests)
        seeds: list[int] = []
        repeat: Counter[int] = Counter()  # lmms-eval's --repeats is one object several times
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            _, given, _, doc_id, task, split = request.args
            base = settings_of(given).seed
            base = torch.initial_seed() if base is None else base
            seeds.append(seed_of(base, task, split, doc_id, repeat[id(request)]))
            repeat[id(request)] += 1
            groups.setdefault(json.dumps(given, sort_keys=True, default=str), []).append(i)
        with self._running(len(requests)) as advance:
            for group in groups.values():
                samples = [self._sample(requests[i].args) for i in group]
                for some, inputs in batches(self.processor, samples, self.batch_size, self.workers):
                    rows = [group[i] for i in some]
                    given = requests[rows[0]].args[1]
                    answers = generate(self.model, self.processor, inputs, given, [seeds[i] for i in rows])
                    for i, answer in zip(rows, answers, strict=True):
                        counts = TokenCounts(answer.input_tokens, answer.output_tokens)
                        results[i] = GenerationResult(answer.text, counts)
                    advance(len(rows))
        return results

    def loglikelihood(self, requests: list[Instance]) -> list[Any]:
        """Log-likelihood of each continuation and its end of turn after video and prompt.

        A result is ("(logprob, is_greedy, tokens)", counts of tokens). lmms-eval turns whatever it is given into such
        a text before a task sees it; made here, it is the same from its response cache, which would lose a third
        element and write a list for a tuple.
        """
        documents: dict[tuple, list[int]] = {}
        for i, request in enumerate(requests):
            context, _, _, doc_id, task, split = request.args
            documents.setdefault((task, split, doc_id, context), []).append(i)
        rows = list(documents.values())
        texts = [_continuation(request.args, self.task_dict) for request in requests]
        ids = {text: answer_ids(self.processor, text) for text in set(texts)}
        results: list[Any] = [None] * len(requests)
        samples = [self._sample(requests[row[0]].args) for row in rows]
        with self._running(len(requests)) as advance:
            for some, inputs in batches(self.processor, samples, self.batch_size, self.workers):
                prompts = inputs["attention_mask"].sum(1).tolist()
                scored = score(self.model, inputs, [[ids[texts[i]] for i in rows[k]] for k in some])
                for k, prompt, likelihoods in zip(some, prompts, scored, strict=True):
                    for i, found in zip(rows[k], likelihoods, strict=True):
                        figures = str((found.logprob, found.greedy, found.tokens))
                        results[i] = (figures, {"input_tokens": prompt, "output_tokens": found.tokens})
                    advance(len(rows[k]))
        return results

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise RbftError("rbft_vl answers in one round; the tasks asked for need several")

    def _sample(self, arguments: tuple) -> Sample:
        prompt, _, doc_to_visual, doc_id, task, split = arguments
        doc = self.task_dict[task][split][doc_id]
        visuals = doc_to_visual(doc)
        if len(visuals) > 1 or not all(isinstance(v, str) for v in visuals):
            kinds = ", ".join(type(v).__name__ for v in visuals)
            raise RbftError(f"rbft_vl takes one video file a sample, or none; task {task} gives {kinds}")
        shape = doc.get("meta") or {}
        pixels = shape.get("frames", 0) * shape.get("width", 0) * shape.get("height", 0)
        return Sample(prompt, visuals[0] if visuals else None, pixels if visuals else 0)

    @contextmanager
    def _running(self, total: int) -> Iterator[Callable[[int], Any]]:
        """A progress bar on rank 0, and failures as they have to look from outside.

        lmms-eval logs an exception and exits 0. Of several processes that would leave the others waiting for this one
        for hours; exit status 1 makes the launcher end them.
        """
        try:
            with tqdm(total=total, desc="rbft_vl", disable=self.rank != 0, mininterval=1, leave=None) as progress:
                yield progress.update
        except Exception as error:  # whatever it is, see above
            told = _explained(error, self.batch_size)
            if self.world_size > 1:
                traceback.print_exception(told)
                raise SystemExit(1) from None
            if told is error:
                raise
            raise told from None


def _explained(error: Exception, batch_size: int) -> Exception:
    if not isinstance(error, torch.OutOfMemoryError):
        return error
    if batch_size > 1:
        return RbftError(f"out of GPU memory with --batch_size {batch_size}; try --batch_size {batch_size // 2}")
    return RbftError(
        "out of GPU memory with --batch_size 1; use smaller clips (`clips.frames` or `clips.max_pixels` of the "
        "dataset), a smaller dtype, or the model argument device_map=auto on several GPUs"
    )


def _continuation(arguments: Sequence[Any], task_dict: Any) -> str:
    """The text to score; tasks of output_type loglikelihood give a function of the document."""
    _, continuation, _, doc_id, task, split = arguments
    return continuation if isinstance(continuation, str) else continuation(task_dict[task][split][doc_id])
