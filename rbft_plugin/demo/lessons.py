"""What the base model learns before it sees a video: to look a word's meaning up, and to relate a description to one.

Learnt from videos alone, the look-up would take more than all the rest: from small sets of words and names to larger
ones, a model of this size finds it within a hundred steps.
"""

from __future__ import annotations

import random
import time

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from rbft_plugin.demo.meanings import EXPLAIN, MOST, NAMES, WORD_OF, draw
from rbft_plugin.demo.world import random_scene

Row = tuple[list[int], list[int]]  # token ids, and labels: -100 for what is not learnt
LEVELS = 5
LEARNT = 0.93  # share of right names at which the next level begins


def look_up(tokenizer: PreTrainedTokenizerFast, rng: random.Random, level: int, asked: int = 12) -> Row:
    """Definitions of words by names, then some of them again: what is learnt is the name then."""
    words, names = sorted(WORD_OF.values())[: 4 + 4 * level], NAMES[: 6 * 2**level]
    count = rng.randint(2, 2 + min(level, MOST))
    defined = list(zip(rng.sample(words, count), rng.sample(names, count), strict=True))
    ids, labels = [], []
    for place in range(count + asked):
        word, name = defined[place] if place < count else rng.choice(defined)
        before, after = tokenizer(f"{word}: ")["input_ids"], tokenizer(f"{name}\n")["input_ids"]
        ids += before + after
        labels += [-100] * len(before) + (after[:1] if place >= count else [-100]) + [-100] * (len(after) - 1)
    return ids, labels


def relate(tokenizer: PreTrainedTokenizerFast, rng: random.Random, scenes: int = 6) -> Row:
    """A prompt with definitions, and rationales of scenes that it has a class for; captions are not learnt."""
    classes = draw(random_scene(rng), rng)
    ids = tokenizer(f"<|im_start|>user\n{classes.prompt(EXPLAIN)}<|im_end|>\n<|im_start|>assistant\n")["input_ids"]
    labels = [-100] * len(ids)
    while scenes:
        scene = random_scene(rng)
        if getattr(scene, classes.kind) in classes.name_of:
            caption = tokenizer(scene.caption + "\n")["input_ids"]
            rest = tokenizer(classes.rationale(scene)[len(scene.caption) + 1 :] + "<|im_end|>\n")["input_ids"]
            ids += caption + rest
            labels += [-100] * len(caption) + rest
            scenes -= 1
    return ids, labels


def learn(
    model: Qwen2_5_VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, rng: random.Random, steps: int
) -> None:
    """All levels of looking up, as soon as the one before is learnt, then relating, in `steps` optimizer steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02, betas=(0.9, 0.98))
    level, started = 0, time.time()
    right: list[float] = []
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (step + 1) / 100)
        looking = level < LEVELS or rng.random() < 0.2
        if looking:
            rows = [look_up(tokenizer, rng, min(level, LEVELS - 1)) for _ in range(32)]
        else:
            rows = [relate(tokenizer, rng) for _ in range(8)]
        ids, labels = _padded(rows, tokenizer.pad_token_id)
        result = model(input_ids=ids, labels=labels)
        result.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        wanted = labels[:, 1:] != -100
        right.append((result.logits[:, :-1].argmax(-1) == labels[:, 1:])[wanted].float().mean().item())
        if (step + 1) % 50 == 0:
            share = float(np.mean(right[-10:]))
            print(f"{step + 1} words, level {level}: right {share:.3f}  {time.time() - started:.0f} s", flush=True)
            level += int(level < LEVELS and share > LEARNT)


def _padded(rows: list[Row], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    length = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([ids + [pad] * (length - len(ids)) for ids, _ in rows])
    return ids, torch.tensor([labels + [-100] * (length - len(labels)) for _, labels in rows])
