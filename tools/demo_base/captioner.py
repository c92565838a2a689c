"""Clips for the demo's base model, batches of them, the model's answers, and how many of these are right."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen

from rbft_plugin.demo.synthetic_video import EVENTS, GENERAL, Camera, Scene, frame_times, random_scene, render
from rbft_plugin.model.chat import chat_text
from tools.demo_base.architecture import MERGE, PROMPTS
from tools.demo_base.meanings import ANSWER, CONCLUDE, EXPLAIN, NAMES, QUESTIONS, WORD_OF, Classes

Shape = tuple[int, int, int]  # frames, height, width
Clips = tuple[list[Scene], np.ndarray]  # scenes, and uint8 (n, frames, height, width, 3)


def draw_clips(n: int, seed: int, shape: Shape, processes: int = 2, look: Camera = GENERAL) -> Clips:
    """`n` clips of one shape and look."""
    jobs = [(seed * 100_003 + i, min(64, n - first), shape, look) for i, first in enumerate(range(0, n, 64))]
    with get_context("fork").Pool(processes) as pool:
        parts = pool.starmap(_draw_some, jobs)
    return [s for scenes, _ in parts for s in scenes], np.concatenate([clips for _, clips in parts])


def _draw_some(seed: int, n: int, shape: Shape, look: Camera) -> Clips:
    rng = random.Random(seed)
    scenes = [random_scene(rng) for _ in range(n)]
    frames, height, width = shape
    return scenes, np.stack([_shrink(render(s, look, frame_times(frames), rng), (width, height), rng) for s in scenes])


def _shrink(frames: np.ndarray, size: tuple[int, int], rng: random.Random) -> np.ndarray:
    """Make the frames smaller, (width, height), and compress them a little, as a canonical clip does."""
    filter_ = rng.choice([Image.Resampling.BOX, Image.Resampling.BICUBIC])
    quality = rng.randint(70, 95)
    small = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).resize(size, filter_).save(file, "JPEG", quality=quality)
        small.append(np.asarray(Image.open(file)))
    return np.stack(small)


def equal_frames_attention(
    self: Any,
    hidden_states: Any,
    cu_seqlens: Any,
    rotary_pos_emb: Any = None,
    position_embeddings: Any = None,
    **_: Any,
) -> Any:
    """Replaces the vision tower's attention for frames of one size: one batched call, not one for each frame."""
    frame = int(cu_seqlens[1])
    n = hidden_states.shape[0]
    q, k, v = self.qkv(hidden_states).reshape(n, 3, self.num_heads, -1).unbind(1)
    q, k = qwen.apply_rotary_pos_emb_vision(q, k, *position_embeddings)
    q, k, v = (x.reshape(n // frame, frame, self.num_heads, -1).transpose(1, 2) for x in (q, k, v))
    return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, -1))


class Captioner:
    """Makes batches of clips of one shape and one time step, so that positions are computed once for each."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor) -> None:
        for block in model.model.visual.blocks:
            block.attn.forward = equal_frames_attention.__get__(block.attn)
        self.model, self.processor, self.tokenizer = model, processor, processor.tokenizer
        self.positions: dict[tuple[tuple[int, ...], float, int], torch.Tensor] = {}

    def inputs(
        self, clips: np.ndarray, prompts: Sequence[str], captions: Sequence[str], step: float
    ) -> dict[str, torch.Tensor]:
        """Right-padded input_ids, labels (-100 outside the caption and its end of turn), positions and pixels.

        `step` is the time from one pair of frames to the next, in seconds.
        """
        videos = [torch.from_numpy(clip).permute(0, 3, 1, 2) for clip in clips]
        seen = self.processor.video_processor(videos, do_resize=False, do_sample_frames=False, return_tensors="pt")
        grid = seen["video_grid_thw"]
        tokens = int(grid[0].prod()) // MERGE**2
        rows = [
            (self._prompt_ids(p, tokens), self.tokenizer(c + "<|im_end|>")["input_ids"])
            for p, c in zip(prompts, captions, strict=True)
        ]
        length = max(len(p) + len(c) for p, c in rows)
        ids = torch.full((len(rows), length), self.tokenizer.pad_token_id)
        labels = torch.full_like(ids, -100)
        for i, (p, c) in enumerate(rows):
            ids[i, : len(p) + len(c)] = torch.tensor(p + c)
            labels[i, len(p) : len(p) + len(c)] = torch.tensor(c)
        key = (tuple(grid[0].tolist()), step, length)
        if key not in self.positions:  # the video stands at the same place in every row
            self.positions[key], _ = self.model.model.get_rope_index(
                ids[:1], video_grid_thw=grid[:1], second_per_grid_ts=[step]
            )
        return dict(
            input_ids=ids,
            labels=labels,
            position_ids=self.positions[key].expand(3, len(rows), -1),
            pixel_values_videos=seen["pixel_values_videos"],
            video_grid_thw=grid,
        )

    def _prompt_ids(self, prompt: str, tokens: int) -> list[int]:
        text = chat_text(self.processor, prompt)
        ids: list[int] = self.tokenizer(text.replace("<|video_pad|>", "<|video_pad|>" * tokens))["input_ids"]
        return ids

    def answer(self, clips: np.ndarray, prompts: list[str], step: float, batch: int = 100) -> list[str]:
        """The greedy answer to each prompt about its clip; `batch` clips are shown at a time."""
        self.model.eval()
        texts: list[str] = []
        order = sorted(range(len(clips)), key=lambda i: len(self._prompt_ids(prompts[i], 0)))
        with torch.no_grad():
            for some in (order[i : i + batch] for i in range(0, len(order), batch)):
                texts += self._answer(clips[some], [prompts[i] for i in some], step)
        self.model.train()
        return [text for _, text in sorted(zip(order, texts, strict=True))]

    def _answer(self, clips: np.ndarray, prompts: list[str], step: float) -> list[str]:
        given = self.inputs(clips, prompts, [""] * len(prompts), step)
        ids = given["input_ids"]
        lengths = (given["labels"] == -100).long().cumprod(1).sum(1)  # up to the end of turn
        left = torch.full((len(ids), int(lengths.max())), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(left)
        for i, n in enumerate(lengths.tolist()):
            left[i, left.shape[1] - n :] = ids[i, :n]
            mask[i, left.shape[1] - n :] = 1
        out = self.model.generate(
            input_ids=left,
            attention_mask=mask,
            pixel_values_videos=given["pixel_values_videos"],
            video_grid_thw=given["video_grid_thw"],
            second_per_grid_ts=torch.tensor([step] * len(ids)),
            max_new_tokens=40,
            do_sample=False,
        )
        return [t.strip() for t in self.tokenizer.batch_decode(out[:, left.shape[1] :], skip_special_tokens=True)]


def accuracy(texts: list[str], scenes: list[Scene]) -> dict[str, float]:
    """The shares of captions that are right as a whole (`exact`) and in each attribute."""

    def words(s: Scene) -> dict[str, str]:
        return {
            "color": f"A {s.color} ",
            "agent": f" {s.agent} comes",
            "side": f"the {s.side} and",
            "event": EVENTS[s.event] + ".",
        }

    pairs = list(zip(texts, scenes, strict=True))
    parts = {k: float(np.mean([words(s)[k] in t for t, s in pairs])) for k in words(scenes[0])}
    return {"exact": float(np.mean([t == s.caption for t, s in pairs])), **parts}


def measure(captioner: Captioner, scenes: list[Scene], clips: np.ndarray, step: float, seed: int) -> dict[str, float]:
    """The shares of right captions (see `accuracy`), names of made-up classes of events, and words for the event.

    `explained` counts names that follow a description, `named` those that are the whole answer. Each of these prompts
    defines all five events; in training it was never more than MOST. `asked` counts words that are the whole answer,
    `concluded` those that end a description.
    """
    rng = random.Random(seed)
    classes = [Classes("event", dict(zip(EVENTS, rng.sample(NAMES, len(EVENTS)), strict=True))) for _ in scenes]
    names = [c.name(s) for c, s in zip(classes, scenes, strict=True)]
    captions = captioner.answer(clips, [PROMPTS[0]] * len(scenes), step)
    explained = captioner.answer(clips, [c.prompt(EXPLAIN) for c in classes], step)
    named = captioner.answer(clips, [c.prompt(ANSWER) for c in classes], step)
    words = [WORD_OF[s.event] for s in scenes]
    asked = captioner.answer(clips, [QUESTIONS["event"]] * len(scenes), step)
    concluded = captioner.answer(clips, [CONCLUDE] * len(scenes), step)
    return accuracy(captions, scenes) | {
        "explained": float(np.mean([t.endswith(f": {n}") for t, n in zip(explained, names, strict=True)])),
        "named": float(np.mean([t == n for t, n in zip(named, names, strict=True)])),
        "asked": float(np.mean([t == w for t, w in zip(asked, words, strict=True)])),
        "concluded": float(np.mean([t.endswith(f"\n\nAnswer: {w}") for t, w in zip(concluded, words, strict=True)])),
    }
