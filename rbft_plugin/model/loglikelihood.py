"""Log-likelihoods of answers. One pass runs over video and prompt, and all answers share its key-value cache."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rbft_plugin.model.chat import after_answer
from rbft_plugin.model.inputs import on_device

# Limits of one forward pass over answers: each answer has a copy of the cache of its prompt, and logits of its own.
MOST_PROMPT_TOKENS = 32_768  # 1.9 GB of cache for a 7B Qwen2.5-VL in bfloat16
MOST_ROWS = 64


@dataclass(frozen=True)
class Likelihood:
    """`logprob` is the sum over the answer's tokens and its end of turn, and `tokens` is their number.

    `greedy` says whether greedy decoding would give this answer.
    """

    logprob: float
    greedy: bool
    tokens: int


def answer_ids(processor: Any, answer: str) -> list[int]:
    """Tokens of an answer and of the end of turn, as training targets have them.

    LLaMA-Factory tokenizes an answer apart from its prompt and ends it with the family's end of turn. A line break that
    some of its templates put after that is not part of the answer, and is not counted.
    """
    return [*processor.tokenizer(answer, add_special_tokens=False)["input_ids"], end_of_turn(processor)]


def end_of_turn(processor: Any) -> int:
    """The first special token that the chat template puts after an answer, or else the end token of the tokenizer.

    The end token of a base model's tokenizer may be another one (<|endoftext|>).
    """
    tokenizer = processor.tokenizer
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = tokenizer(after_answer(processor), add_special_tokens=False)["input_ids"]
    return int(next((i for i in ids if i in special), tokenizer.eos_token_id))


def positions(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Positions of left-padded prompts, as transformers' generate makes them: int, (rows, tokens).

    Families with three positions a token get (4, rows, tokens): the place in the text, then time, height and width.
    Without these, the forward pass of a family other than Qwen would count padding.
    """
    text = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    index = getattr(model.model, "get_rope_index", None)
    if index is None:
        return text
    known = inspect.signature(index).parameters
    return torch.cat([text[None], index(**{k: v for k, v in inputs.items() if k in known})[0]])


@torch.no_grad()
def score(model: Any, inputs: Any, answers: Sequence[Sequence[Sequence[int]]]) -> list[list[Likelihood]]:
    """Likelihoods of each row's answers (from `answer_ids`) after its prompt. The prompts are left-padded."""
    inputs = on_device(inputs, model)
    prompt_positions = positions(model, inputs)
    output = model(**inputs, position_ids=prompt_positions, use_cache=True, logits_to_keep=1)
    first = output.logits[:, -1].float().log_softmax(-1)
    best = first.argmax(-1)
    # rope_deltas are no help here: they count padding, and may be those of an earlier batch.
    after = prompt_positions[..., -1:] + 1
    pairs = [(row, ids) for row, row_answers in enumerate(answers) for ids in row_answers]
    rows_per_pass = max(1, min(MOST_ROWS, MOST_PROMPT_TOKENS // inputs["input_ids"].shape[1]))
    likelihoods: list[Likelihood] = []
    for start in range(0, len(pairs), rows_per_pass):
        passed = pairs[start : start + rows_per_pass]
        rows = torch.tensor([row for row, _ in passed], device=model.device)
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(i) for _, i in passed], batch_first=True).to(model.device)
        lengths = torch.tensor([len(i) for _, i in passed], device=model.device)
        real = torch.arange(ids.shape[1], device=model.device) < lengths[:, None]
        logprobs = first[rows].gather(1, ids[:, :1])
        greedy = best[rows, None] == ids[:, :1]
        if ids.shape[1] > 1:
            steps = torch.arange(ids.shape[1] - 1, device=model.device)
            logits = model(
                input_ids=ids[:, :-1],
                attention_mask=torch.cat([inputs["attention_mask"][rows], real[:, :-1].long()], 1),
                position_ids=after[..., rows, :] + steps,
                past_key_values=_selected(output.past_key_values, rows),
                use_cache=True,
            ).logits.float()
            later = logits.gather(2, ids[:, 1:, None])[..., 0] - logits.logsumexp(-1)
            logprobs = torch.cat([logprobs, later], 1)
            greedy = torch.cat([greedy, logits.argmax(-1) == ids[:, 1:]], 1)
        sums = (logprobs * real).sum(1, dtype=torch.float64).tolist()
        exact = (greedy | ~real).all(1).tolist()
        likelihoods += [Likelihood(s, g, len(i)) for s, g, (_, i) in zip(sums, exact, passed, strict=True)]
    ordered = iter(likelihoods)
    return [[next(ordered) for _ in row_answers] for row_answers in answers]


def _selected(cache: Any, rows: torch.Tensor) -> Any:
    """A copy of the cache that holds these rows, each as often as it is named."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]  # `batch_select_indices` replaces a layer's tensors
    chosen.batch_select_indices(rows)
    return chosen
