"""Answers of a model to a batch. The draw for a sample does not depend on the other samples of its batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rbft_plugin.errors import ProblemsError
from rbft_plugin.model.inputs import on_device, pad_id

MAX_NEW_TOKENS = 512  # used where the settings name no limit; transformers' own default is 20
SAMPLING = ("temperature", "top_k", "top_p", "min_p")


@dataclass(frozen=True)
class Generation:
    """An answer. `text` holds no special tokens; the counts of tokens leave out padding and the end of turn."""

    text: str
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class GenerationSettings:
    """Generation settings as they are used. Decoding is greedy where `sampling` is None.

    `until` holds texts that end an answer; `other` holds settings that transformers' generate takes as they are.
    """

    max_new_tokens: int
    until: tuple[str, ...]
    sampling: dict[str, float] | None
    seed: int | None
    other: dict[str, Any]


def generation_settings(generation_kwargs: dict[str, Any]) -> GenerationSettings:
    """Read lmms-eval's generation_kwargs. Raises ProblemsError that names all that is wrong with them.

    Sampling is on with a temperature above 0, and with do_sample where there is no temperature (it is 1 then). Only
    these settings limit it. The top_k and top_p of a checkpoint's generation_config.json (1 and 0.001 for Qwen2.5-VL)
    do not count, because they would make any temperature greedy.
    """
    from transformers import GenerationConfig

    other = {name: value for name, value in generation_kwargs.items() if value is not None}
    until = other.pop("until", ())
    seed = other.pop("seed", None)
    limit = other.pop("max_new_tokens", MAX_NEW_TOKENS)
    do_sample = other.pop("do_sample", False)
    sampling = {name: other.pop(name) for name in SAMPLING if name in other}
    known = vars(GenerationConfig())
    problems = [f"{name}: no setting of transformers' generate" for name in other if name not in known]
    problems += [f"{name}: not a number: {x!r}" for name, x in sampling.items() if not isinstance(x, int | float)]
    if not isinstance(limit, int) or limit < 1:
        problems.append(f"max_new_tokens: not a whole number above 0: {limit!r}")
    if seed is not None and not isinstance(seed, int):
        problems.append(f"seed: not a whole number: {seed!r}")
    if max(other.get("num_return_sequences", 1), other.get("n", 1)) > 1:
        problems.append("num_return_sequences: for several answers a sample use lmms-eval's --repeats")
    samples = not problems and sampling.get("temperature", 1.0 if do_sample else 0.0) > 0
    if samples and other.get("num_beams", 1) > 1:
        problems.append("num_beams: cannot be sampled")
    if problems:
        raise ProblemsError("generation_kwargs", problems)
    stops = tuple(stop for stop in ((until,) if isinstance(until, str) else until) if stop)
    return GenerationSettings(limit, stops, {"temperature": 1.0} | sampling if samples else None, seed, other)


def seed_of(seed: int, *request: object) -> int:
    """A seed of 63 bits for one answer to one request, the same in every run and on every rank."""
    text = ":".join(map(str, (seed, *request)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@torch.no_grad()
def generate(
    model: Any, processor: Any, inputs: Any, generation_kwargs: dict[str, Any], seeds: Sequence[int] | None = None
) -> list[Generation]:
    """Answers to a batch (from `batch_inputs`). For `generation_kwargs` see `generation_settings`.

    Each row of sampled answers has its own seed; without `seeds` these follow from the rows' numbers. The same seeds
    draw the same random numbers in any batch. The answers are then the same if the model's logits do not depend on the
    batch. That holds but for ties in float32, and not for every token in bfloat16.
    """
    from transformers import LogitsProcessorList, StoppingCriteriaList

    settings = generation_settings(generation_kwargs)
    rows, prompt_length = inputs["input_ids"].shape
    processors = LogitsProcessorList()
    if settings.sampling:
        seeds = seeds or [seed_of(settings.seed or 0, row) for row in range(rows)]
        processors = LogitsProcessorList([*_limits(settings.sampling), Draw(seeds, model.device)])
    stops = [_Until(processor.tokenizer, settings.until, prompt_length)] if settings.until else []
    output = model.generate(
        **on_device(inputs, model),
        max_new_tokens=settings.max_new_tokens,
        **dict.fromkeys(SAMPLING),  # or the settings of the checkpoint would count
        do_sample=False,
        logits_processor=processors,
        stopping_criteria=StoppingCriteriaList(stops),
        **settings.other,
    )
    eos = model.generation_config.eos_token_id
    ends = {processor.tokenizer.eos_token_id, pad_id(processor), *(eos if isinstance(eos, list) else [eos])}
    results = []
    for ids, mask in zip(output[:, prompt_length:].tolist(), inputs["attention_mask"], strict=True):
        length = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        text = processor.tokenizer.decode(ids[:length], skip_special_tokens=True)
        for stop in settings.until:
            text = text.split(stop)[0]
        results.append(Generation(text, int(mask.sum()), length))
    return results


def _limits(sampling: dict[str, float]) -> list[Any]:
    """Logits processors for the temperature and the limits of the distribution, in the order that transformers uses."""
    from transformers.generation import logits_process

    limits: list[Any] = [logits_process.TemperatureLogitsWarper(float(sampling["temperature"]))]
    if sampling.get("top_k"):
        limits.append(logits_process.TopKLogitsWarper(int(sampling["top_k"])))
    if sampling.get("top_p", 1.0) < 1.0:
        limits.append(logits_process.TopPLogitsWarper(float(sampling["top_p"])))
    if sampling.get("min_p"):
        limits.append(logits_process.MinPLogitsWarper(float(sampling["min_p"])))
    return limits


class Draw:
    """A logits processor that makes the largest score a draw from the distribution: the exponential race.

    With e ~ Exp(1) for each token, a token has the largest p / e with probability p. The same token has the largest
    logit - log(e) (the Gumbel-max trick). Each row has a generator of its own, which gives the same count of numbers
    at every step, whatever the other rows do.
    """

    def __init__(self, seeds: Sequence[int], device: Any) -> None:
        self.generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = torch.empty_like(scores)
        for row, generator in zip(noise, self.generators, strict=True):
            row.exponential_(generator=generator)
        return scores - noise.log()


class _Until:
    """A stopping criterion: a row is done when its answer holds one of the texts `until`."""

    def __init__(self, tokenizer: Any, until: Sequence[str], prompt_length: int) -> None:
        self.tokenizer, self.until, self.prompt_length = tokenizer, until, prompt_length
        self.window = 2 * max(len(stop.encode()) for stop in until) + 8  # so many tokens surely hold a text of `until`

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        start = max(self.prompt_length, input_ids.shape[1] - self.window)
        texts = self.tokenizer.batch_decode(input_ids[:, start:], skip_special_tokens=True)
        done = [any(stop in text for stop in self.until) for text in texts]
        return torch.tensor(done, device=input_ids.device)
