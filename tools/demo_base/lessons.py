"""What the base model learns from text alone: to look up what a word means, and to match a description with a meaning.

The sets of words and names start small and grow, level by level: a model of this size then learns to look up within a
hundred steps. With all words and names at once, this would take longer than the rest of the training.
"""

from __future__ import annotations

import random
from functools import cache

import torch
from transformers import PreTrainedTokenizerFast

from rbft_plugin.demo.synthetic_video import random_scene
from tools.demo_base.meanings import EXPLAIN, MOST, NAMES, WORD_OF, draw

Row = tuple[list[int], list[int]]  # token ids, and labels: -100 where nothing is learnt
LEVELS = 5
LEARNT = 0.85  # the share of right names at which the next level begins


def look_up(tokenizer: PreTrainedTokenizerFast, rng: random.Random, level: int, asked: int = 12) -> Row:
    """Definitions of words by names, then `asked` of them again; the second time, the name is learnt."""
    words, names = sorted(WORD_OF.values())[: 4 + 4 * level], NAMES[: 6 * 2**level]
    count = rng.randint(2, 2 + min(level, MOST))
    defined = list(zip(rng.sample(words, count), rng.sample(names, count), strict=True))
    ids, labels = [], []
    for place in range(count + asked):
        word, name = defined[place] if place < count else rng.choice(defined)
        before, after = _ids(tokenizer, f"{word}: "), _ids(tokenizer, f"{name}\n")
        ids += before + after
        labels += [-100] * len(before) + (after[:1] if place >= count else [-100]) + [-100] * (len(after) - 1)
    return ids, labels


def relate(tokenizer: PreTrainedTokenizerFast, rng: random.Random, scenes: int = 6) -> Row:
    """A prompt with definitions, and rationales of scenes that meet one of them; captions are not learnt."""
    classes = draw(random_scene(rng), rng)
    ids = tokenizer(f"<|im_start|>user\n{classes.prompt(EXPLAIN)}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    labels = [-100] * len(ids)
    while scenes:
        scene = random_scene(rng)
        if getattr(scene, classes.kind) in classes.name_of:
            caption = _ids(tokenizer, scene.caption + "\n")
            rest = _ids(tokenizer, classes.rationale(scene)[len(scene.caption) + 1 :] + "<|im_end|>\n")
            ids += caption + rest
            labels += [-100] * len(caption) + rest
            scenes -= 1
    return ids, labels


@cache
def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    """Token ids of a text, which are only read: the same few texts come again and again."""
    ids: list[int] = tokenizer(text)["input_ids"]
    return ids


class Words:
    """Batches of text: `look_up`, one level after another; mostly `relate` once all levels are learnt."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, rng: random.Random) -> None:
        self.tokenizer, self.rng = tokenizer, rng
        self.level = 0
        self.right: list[float] = []

    def batch(self) -> dict[str, torch.Tensor]:
        """input_ids and labels, (rows, tokens), and position_ids, (3, rows, tokens).

        Without positions the model would go on from those of the last video.
        """
        if self.level < LEVELS or self.rng.random() < 0.2:
            rows = [look_up(self.tokenizer, self.rng, min(self.level, LEVELS - 1)) for _ in range(32)]
        else:
            rows = [relate(self.tokenizer, self.rng) for _ in range(8)]
        length = max(len(ids) for ids, _ in rows)
        return {
            "input_ids": torch.tensor([ids + [self.tokenizer.pad_token_id] * (length - len(ids)) for ids, _ in rows]),
            "position_ids": torch.arange(length).expand(3, len(rows), -1),
            "labels": torch.tensor([labels + [-100] * (length - len(labels)) for _, labels in rows]),
        }

    def learnt(self, logits: torch.Tensor, labels: torch.Tensor) -> None:
        """Judge the model's logits, (rows, tokens, vocabulary), for the last batch; this may end a level."""
        wanted = labels[:, 1:] != -100
        self.right.append((logits[:, :-1].argmax(-1) == labels[:, 1:])[wanted].float().mean().item())
        if len(self.right) >= 50 and sum(self.right[-10:]) / 10 > LEARNT and self.level < LEVELS:
            self.level += 1
            self.right.clear()
