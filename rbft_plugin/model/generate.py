"""Answers of a model to a batch. What is drawn for a sample does not depend on the batch that it is in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rbft_plugin.errors import ProblemsError
from rbft_plugin.model.inputs import on_device, pad_id

MAX_NEW_TOKENS = 512  # where the settings name none; transformers' own default is 20
SAMPLING = ("temperature", "top_k", "top_p", "min_p")


@dataclass(frozen=True)
class Generation:
    """Text without special tokens; tokens count neither padding nor the end of turn."""

    text: str
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Settings:
    """Generation settings as they are used: `sampling` is None for greedy decoding, `more` goes to transformers."""

    max_new_tokens: int
    until: tuple[str, ...]
    sampling: dict[str, float] | None
    seed: int | None
    more: dict[str, Any]


def settings_of(given: dict[str, Any]) -> Settings:
    """What lmms-eval's generation_kwargs mean; raises ProblemsError naming all that is wrong with them.

    Sampling is on with a temperature above 0, or with do_sample where no temperature is given (then 1). Only what is
    given limits it: top_k and top_p of a checkpoint's generation_config.json (1 and 0.001 for Qwen2.5-VL) would make
    any temperature greedy.
    """
    from transformers import GenerationConfig

    rest = {k: v for k, v in given.items() if v is not None}
    until = rest.pop("until", None) or ()
    seed = rest.pop("seed", None)
    limit = rest.pop("max_new_tokens", MAX_NEW_TOKENS)
    sampled = rest.pop("do_sample", False)
    sampling = {k: rest.pop(k) for k in SAMPLING if k in rest}
    known = vars(GenerationConfig())
    problems = [f"{k}: no setting of transformers' generate" for k in rest if k not in known]
    problems += [f"{k}: not a number: {v!r}" for k, v in sampling.items() if not isinstance(v, int | float)]
    if not isinstance(limit, int) or limit < 1:
        problems.append(f"max_new_tokens: not a whole number above 0: {limit!r}")
    if seed is not None and not isinstance(seed, int):
        problems.append(f"seed: not a whole number: {seed!r}")
    if max(rest.get("num_return_sequences", 1), rest.get("n", 1)) > 1:
        problems.append("num_return_sequences: for several answers a sample use lmms-eval's --repeats")
    on = not problems and sampling.get("temperature", 1.0 if sampled else 0.0) > 0
    if on and rest.get("num_beams", 1) > 1:
        problems.append("num_beams: cannot be sampled")
    if problems:
        raise ProblemsError("generation_kwargs", problems)
    until = (until,) if isinstance(until, str) else tuple(until)
    return Settings(limit, tuple(u for u in until if u), {"temperature": 1.0} | sampling if on else None, seed, rest)


def seed_of(seed: int, *request: object) -> int:
    """A seed of 63 bits for one answer to one request, the same in every run and on every rank."""
    text = ":".join(map(str, (seed, *request)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@torch.no_grad()
def generate(
    model: Any, processor: Any, inputs: Any, given: dict[str, Any], seeds: Sequence[int] | None = None
) -> list[Generation]:
    """Answers to a batch. `given` are settings of transformers' generate, and `until`: texts that end an answer.

    Sampled answers are drawn with one seed a row; without `seeds` from the rows' numbers. The same seeds draw the same
    random numbers in any batch; that the answers are the same takes a model whose logits do not depend on the batch,
    which holds but for ties in float32, and not for every token in bfloat16.
    """
    from transformers import LogitsProcessorList, StoppingCriteriaList

    settings, prompt = settings_of(given), inputs["input_ids"].shape[1]
    rows = len(inputs["input_ids"])
    processors = LogitsProcessorList()
    if settings.sampling:
        seeds = seeds if seeds is not None else [seed_of(settings.seed or 0, i) for i in range(rows)]
        processors = LogitsProcessorList([*_limits(settings.sampling), Draw(seeds, model.device)])
    criteria = StoppingCriteriaList([_Until(processor.tokenizer, settings.until, prompt)] if settings.until else [])
    out = model.generate(
        **on_device(inputs, model),
        max_new_tokens=settings.max_new_tokens,
        **dict.fromkeys(SAMPLING),  # those of the checkpoint are not ours
        do_sample=False,
        logits_processor=processors,
        stopping_criteria=criteria,
        **settings.more,
    )
    eos = model.generation_config.eos_token_id
    ends = {processor.tokenizer.eos_token_id, pad_id(processor), *(eos if isinstance(eos, list) else [eos])}
    results = []
    for ids, mask in zip(out[:, prompt:].tolist(), inputs["attention_mask"], strict=True):
        length = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        text = processor.tokenizer.decode(ids[:length], skip_special_tokens=True)
        for stop in settings.until:
            text = text.split(stop)[0]
        results.append(Generation(text, int(mask.sum()), length))
    return results


def _limits(sampling: dict[str, float]) -> list[Any]:
    """Temperature and the cuts of the distribution, in transformers' own order."""
    from transformers.generation import logits_process as hf

    made: list[Any] = [hf.TemperatureLogitsWarper(float(sampling["temperature"]))]
    if sampling.get("top_k"):
        made.append(hf.TopKLogitsWarper(int(sampling["top_k"])))
    if sampling.get("top_p", 1.0) < 1.0:
        made.append(hf.TopPLogitsWarper(float(sampling["top_p"])))
    if sampling.get("min_p"):
        made.append(hf.MinPLogitsWarper(float(sampling["min_p"])))
    return made


class Draw:
    """A logits processor that makes the largest score a draw from the distribution: the exponential race.

    With e ~ Exp(1) for each token, the token with the largest p / e has probability p; so has that with the largest
    logit - log(e) (the Gumbel-max trick). Each row has a generator of its own, which gives as many numbers at every
    step, whatever the other rows do.
    """

    def __init__(self, seeds: Sequence[int], device: Any) -> None:
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = torch.empty_like(scores)
        for row, generator in zip(noise, self.generators, strict=True):
            row.exponential_(generator=generator)
        return scores - noise.log()


class _Until:
    """A stopping criterion: a row is done when its answer holds one of the texts."""

    def __init__(self, tokenizer: Any, until: Sequence[str], prompt: int) -> None:
        self.tokenizer, self.until, self.prompt = tokenizer, until, prompt
        self.window = 2 * max(len(u.encode()) for u in until) + 8  # tokens that surely hold the newest text

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        start = max(self.prompt, input_ids.shape[1] - self.window)
        texts = self.tokenizer.batch_decode(input_ids[:, start:], skip_special_tokens=True)
        done = [any(stop in text for stop in self.until) for text in texts]
        return torch.tensor(done, device=input_ids.device)
