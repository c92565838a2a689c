"""Log-likelihoods of given answers: one pass over video and prompt, whose key-value cache all answers share."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rbft_plugin.model.chat import after_answer
from rbft_plugin.model.inputs import on_device

# What one forward pass over answers may hold: the cache of the prompt is copied for each of them, and each has logits.
MOST_PROMPT_TOKENS = 32_768  # 1.9 GB of cache for a 7B Qwen2.5-VL in bfloat16
MOST_ROWS = 64


@dataclass(frozen=True)
class Likelihood:
    """`logprob` is the sum over the answer's tokens and its end of turn, `tokens` their number; `greedy` says whether
    greedy decoding would give this answer."""

    logprob: float
    greedy: bool
    tokens: int


def answer_ids(processor: Any, answer: str) -> list[int]:
    """Tokens of an answer and of the end of turn, as training targets have them.

    LLaMA-Factory tokenizes an answer apart from its prompt and ends it with the family's end of turn. A line break that
    some of its templates put after that belongs to no answer and is not counted.
    """
    return [*processor.tokenizer(answer, add_special_tokens=False)["input_ids"], end_of_turn(processor)]


def end_of_turn(processor: Any) -> int:
    """The first special token that the chat template puts after an answer; the tokenizer's end where it puts none.

    Not simply the latter: a base model's may be another one (<|endoftext|>).
    """
    tokenizer = processor.tokenizer
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids = tokenizer(after_answer(processor), add_special_tokens=False)["input_ids"]
    return int(next((i for i in ids if i in special), tokenizer.eos_token_id))


def positions(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Positions of left-padded prompts: (rows, tokens), or for families with three of them a token (4, rows, tokens):
    the place in the text, then time, height and width, as transformers' generate makes them.

    A forward pass alone would count padding, outside the Qwen families.
    """
    text = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    index = getattr(model.model, "get_rope_index", None)
    if index is None:
        return text
    known = inspect.signature(index).parameters
    return torch.cat([text[None], index(**{k: v for k, v in inputs.items() if k in known})[0]])


@torch.no_grad()
def score(model: Any, inputs: Any, answers: Sequence[Sequence[Sequence[int]]]) -> list[list[Likelihood]]:
    """Likelihoods of each row's answers (from `answer_ids`) after its prompt; the prompts are left-padded."""
    inputs = on_device(inputs, model)
    place = positions(model, inputs)
    out = model(**inputs, position_ids=place, use_cache=True, logits_to_keep=1)
    first = out.logits[:, -1].float().log_softmax(-1)
    best = first.argmax(-1)
    # One more than the last, not rope_deltas: those count padding, and another batch may have left them behind.
    after = place[..., -1:] + 1
    pairs = [(row, ids) for row, given in enumerate(answers) for ids in given]
    most = max(1, min(MOST_ROWS, MOST_PROMPT_TOKENS // inputs["input_ids"].shape[1]))
    found: list[Likelihood] = []
    for start in range(0, len(pairs), most):
        some = pairs[start : start + most]
        rows = torch.tensor([row for row, _ in some], device=model.device)
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(i) for _, i in some], batch_first=True).to(model.device)
        lengths = torch.tensor([len(i) for _, i in some], device=model.device)
        real = torch.arange(ids.shape[1], device=model.device) < lengths[:, None]
        logprobs = first[rows].gather(1, ids[:, :1])
        greedy = best[rows, None] == ids[:, :1]
        if ids.shape[1] > 1:
            steps = torch.arange(ids.shape[1] - 1, device=model.device)
            logits = model(
                input_ids=ids[:, :-1],
                attention_mask=torch.cat([inputs["attention_mask"][rows], real[:, :-1].long()], 1),
                position_ids=after[..., rows, :] + steps,
                past_key_values=_selected(out.past_key_values, rows),
                use_cache=True,
            ).logits.float()
            rest = logits.gather(2, ids[:, 1:, None])[..., 0] - logits.logsumexp(-1)
            logprobs = torch.cat([logprobs, rest], 1)
            greedy = torch.cat([greedy, logits.argmax(-1) == ids[:, 1:]], 1)
        sums = (logprobs * real).sum(1, dtype=torch.float64).tolist()
        exact = (greedy | ~real).all(1).tolist()
        found += [Likelihood(s, g, len(i)) for s, g, (_, i) in zip(sums, exact, some, strict=True)]
    ordered = iter(found)
    return [[next(ordered) for _ in given] for given in answers]


def _selected(cache: Any, rows: torch.Tensor) -> Any:
    """A cache of its own that holds these rows, any of them several times."""
    chosen = copy.copy(cache)
    chosen.layers = [copy.copy(layer) for layer in cache.layers]  # selecting replaces a layer's tensors
    chosen.batch_select_indices(rows)
    return chosen
