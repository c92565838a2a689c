"""`rbft_vl`: an lmms-eval model for canonical clips, with the inputs that LLaMA-Factory trains on.

It takes any transformers model of images and text whose processor takes videos. Tests hold that a batch gives the
answers of batch size 1 for Qwen2-VL, Qwen2.5-VL, Qwen3-VL and InternVL. LLaVA-OneVision also works, but all clips of a
batch must have the same number of frames. In bfloat16, the rounding of a batch may change a close decision.
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
from rbft_plugin.model.generate import generate, generation_settings, seed_of
from rbft_plugin.model.inputs import ModelInput, batches, default_workers
from rbft_plugin.model.load import load_model
from rbft_plugin.model.loglikelihood import answer_ids, score

ARGUMENTS = "pretrained, adapters, dtype, attn_implementation, device_map, trust_remote_code, num_workers, fingerprint"


class RbftVL(lmms):
    """The model of `--model rbft_vl`. Its arguments are:

    - pretrained: a folder, or a name on the hub; adapters: LoRA folders joined by ':', applied in order;
    - dtype (auto), attn_implementation, device_map, trust_remote_code (false): as in transformers;
    - num_workers: how many processes read clips ahead of the model; 0 for none;
    - fingerprint: the fingerprint of base and adapters, which `rbft run` passes. A model with another one is refused,
      because lmms-eval's response cache tells models apart by their arguments alone.
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
        unknown.pop("max_batch_size", None)  # lmms-eval passes its own option
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
        if fingerprint and fingerprint != (found := checkpoint.fingerprint()):
            raise RbftError(
                f"rbft_vl: the model at {checkpoint.model_args()} has fingerprint {found}, not {fingerprint}. "
                "It has changed, and cached answers are those of the old model. Pass its fingerprint, or none."
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
        """One answer for each request. A request that comes again (lmms-eval's --repeats) gets a new draw each time.

        The random numbers of an answer depend on the setting `seed` (without it, on torch's seed, which lmms-eval's
        --seed sets), on the sample, and on how often it was asked before. They do not depend on batch size, order or
        number of processes.
        """
        results: list[Any] = [None] * len(requests)
        seeds: list[int] = []
        repeats = Counter[int]()  # with --repeats, lmms-eval gives the same object several times
        groups: dict[str, list[int]] = {}
        for i, request in enumerate(requests):
            _, given, _, doc_id, task, split = request.args
            seed = generation_settings(given).seed
            seed = torch.initial_seed() if seed is None else seed
            seeds.append(seed_of(seed, task, split, doc_id, repeats[id(request)]))
            repeats[id(request)] += 1
            groups.setdefault(json.dumps(given, sort_keys=True, default=str), []).append(i)
        with self._running(len(requests)) as advance:
            for group in groups.values():
                samples = [self._sample(requests[i].args) for i in group]
                for positions, inputs in batches(self.processor, samples, self.batch_size, self.workers):
                    rows = [group[position] for position in positions]
                    given = requests[rows[0]].args[1]
                    answers = generate(self.model, self.processor, inputs, given, [seeds[i] for i in rows])
                    for i, answer in zip(rows, answers, strict=True):
                        counts = TokenCounts(answer.input_tokens, answer.output_tokens)
                        results[i] = GenerationResult(answer.text, counts)
                    advance(len(rows))
        return results

    def loglikelihood(self, requests: list[Instance]) -> list[Any]:
        """The log-likelihood of each continuation and its end of turn, after video and prompt.

        A result is ("(logprob, is_greedy, tokens)", token counts). lmms-eval makes such a text of any result before a
        task sees it. It is made here so that it is the same from lmms-eval's response cache, which would lose a third
        element, and would store a list instead of a tuple.
        """
        of_prompt: dict[Any, list[int]] = {}
        for i, request in enumerate(requests):
            prompt, _, _, doc_id, task, split = request.args
            of_prompt.setdefault((task, split, doc_id, prompt), []).append(i)
        rows = list(of_prompt.values())
        texts = [_continuation(request.args, self.task_dict) for request in requests]
        ids = {text: answer_ids(self.processor, text) for text in set(texts)}
        results: list[Any] = [None] * len(requests)
        samples = [self._sample(requests[row[0]].args) for row in rows]
        with self._running(len(requests)) as advance:
            for positions, inputs in batches(self.processor, samples, self.batch_size, self.workers):
                prompt_tokens = inputs["attention_mask"].sum(1).tolist()
                scored = score(self.model, inputs, [[ids[texts[i]] for i in rows[k]] for k in positions])
                for k, tokens, likelihoods in zip(positions, prompt_tokens, scored, strict=True):
                    for i, found in zip(rows[k], likelihoods, strict=True):
                        text = str((found.logprob, found.greedy, found.tokens))
                        results[i] = (text, {"input_tokens": tokens, "output_tokens": found.tokens})
                    advance(len(rows[k]))
        return results

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise RbftError("rbft_vl answers in one round, but a task needs several")

    def _sample(self, arguments: Sequence[Any]) -> ModelInput:
        prompt, _, doc_to_visual, doc_id, task, split = arguments
        doc = self.task_dict[task][split][doc_id]
        visuals = doc_to_visual(doc)
        if len(visuals) > 1 or not all(isinstance(v, str) for v in visuals):
            kinds = ", ".join(type(v).__name__ for v in visuals)
            raise RbftError(f"rbft_vl takes one video file a sample, or none; task {task} gives {kinds}")
        shape = doc.get("meta") or {}
        pixels = shape.get("frames", 0) * shape.get("width", 0) * shape.get("height", 0)
        return ModelInput(prompt, visuals[0] if visuals else None, pixels if visuals else 0)

    @contextmanager
    def _running(self, total: int) -> Iterator[Callable[[int], Any]]:
        """Show a progress bar on rank 0, and end all processes if this one fails.

        lmms-eval logs an exception and exits 0. Other processes would wait for this one for hours. But exit status 1
        makes the launcher end them.
        """
        try:
            with tqdm(total=total, desc="rbft_vl", disable=self.rank != 0, mininterval=1, leave=None) as progress:
                yield progress.update
        except Exception as error:
            explained = _explained(error, self.batch_size)
            if self.world_size > 1:
                traceback.print_exception(explained)
                raise SystemExit(1) from None
            if explained is error:
                raise
            raise explained from None


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
    """The text to score. A task of output_type loglikelihood gives a function of the sample instead."""
    _, continuation, _, doc_id, task, split = arguments
    return continuation if isinstance(continuation, str) else continuation(task_dict[task][split][doc_id])
