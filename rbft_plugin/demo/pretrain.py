"""Trains the demo's base model from a seed: a 1.6 M parameter Qwen2.5-VL that describes clips of `world`.

    python -m rbft_plugin.demo.pretrain OUT

It never sees the demo's look, nor a class of the demo: its classes are made up (`meanings`). XX minutes on one core.
"""

from __future__ import annotations

import argparse
import io
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen

from rbft_plugin.demo import lessons
from rbft_plugin.demo.architecture import LONG, MERGE, PIXELS, PROMPTS, build
from rbft_plugin.demo.meanings import ANSWER, EXPLAIN, NAMES, Classes, draw
from rbft_plugin.demo.world import EVENTS, GENERAL, Scene, frame_times, random_scene, render

Shape = tuple[int, int, int]  # frames, height, width
Clips = tuple[list[Scene], np.ndarray]  # scenes, and uint8 (n, frames, height, width, 3)
# Of all training clips, how many have which shape; most are as in the demo.
POOLS: dict[Shape, float] = {
    (8, PIXELS, PIXELS): 0.7,
    (6, PIXELS, PIXELS): 0.08,
    (10, PIXELS, PIXELS): 0.08,
    (8, PIXELS, LONG): 0.07,
    (8, LONG, PIXELS): 0.07,
}
SECONDS = (0.75, 1, 1, 1, 1.25, 1.5, 1.75, 2, 2, 2.5, 3)  # between the model's time steps, each two frames


@dataclass(frozen=True)
class Phase:
    """A part of the training: its peak learning rate, and what it shows.

    `words` of its batches are text; `related` of the others ask for a definition, not for a description alone; events
    with a box are drawn `hard` times as often until near its end.
    """

    rate: float
    words: float = 0.0
    related: float = 0.0
    hard: float = 1.0


# Videos first: a model that has learnt to relate text to text looks at no video for a thousand steps.
PHASES = (Phase(2e-3), Phase(2e-3, words=0.75), Phase(1.2e-3, words=0.05, related=0.5, hard=3.0))


def draw_clips(n: int, seed: int, shape: Shape, processes: int = 2) -> Clips:
    """`n` clips of one shape, in the general look."""
    jobs = [(seed * 100_003 + i, 64, shape) for i in range(-(-n // 64))]
    with get_context("fork").Pool(processes) as pool:
        parts = pool.starmap(_draw_some, jobs)
    return [s for scenes, _ in parts for s in scenes][:n], np.concatenate([clips for _, clips in parts])[:n]


def _draw_some(seed: int, n: int, shape: Shape) -> Clips:
    rng = random.Random(seed)
    scenes = [random_scene(rng) for _ in range(n)]
    frames, height, width = shape
    return scenes, np.stack(
        [_shrink(render(s, GENERAL, frame_times(frames), rng), (width, height), rng) for s in scenes]
    )


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


def _equal_frames_attention(self, hidden_states, cu_seqlens, rotary_pos_emb=None, position_embeddings=None, **_):
    """The vision tower's attention for frames of one size: one batched call where the original loops over frames."""
    frame = int(cu_seqlens[1])
    n = hidden_states.shape[0]
    q, k, v = self.qkv(hidden_states).reshape(n, 3, self.num_heads, -1).unbind(1)
    q, k = qwen.apply_rotary_pos_emb_vision(q, k, *position_embeddings)
    q, k, v = (x.reshape(n // frame, frame, self.num_heads, -1).transpose(1, 2) for x in (q, k, v))
    return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, -1))


class Captioner:
    """Batches of clips of one Shape and one time step, so that prompts and positions are computed once."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor) -> None:
        self.model, self.processor, self.tokenizer = model, processor, processor.tokenizer
        self.positions: dict[tuple, torch.Tensor] = {}

    def inputs(self, clips: np.ndarray, prompts: Sequence[str], captions: Sequence[str], step: float) -> dict:
        """Right-padded input_ids, labels (-100 but on the caption and its end), positions and pixels."""
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
        content = [{"type": "video"}, {"type": "text", "text": prompt}]
        text = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        return self.tokenizer(text.replace("<|video_pad|>", "<|video_pad|>" * tokens))["input_ids"]

    @torch.no_grad()
    def answer(self, clips: np.ndarray, prompts: list[str], step: float, batch: int = 100) -> list[str]:
        """Greedy answers."""
        self.model.eval()
        texts: list[str] = []
        order = sorted(range(len(clips)), key=lambda i: len(self._prompt_ids(prompts[i], 0)))
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
    """Shares of captions that are right as a whole, and in each attribute."""

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
    """Shares of right captions (see `accuracy`), and of right names of made-up classes of events: `explained`, after a
    description, and `named` at once; both among all five events, of which it has never been shown more than MOST.
    """
    rng = random.Random(seed)
    classes = [Classes("event", dict(zip(EVENTS, rng.sample(NAMES, len(EVENTS)), strict=True))) for _ in scenes]
    names = [c.name(s) for c, s in zip(classes, scenes, strict=True)]
    captions = captioner.answer(clips, [PROMPTS[0]] * len(scenes), step)
    explained = captioner.answer(clips, [c.prompt(EXPLAIN) for c in classes], step)
    named = captioner.answer(clips, [c.prompt(ANSWER) for c in classes], step)
    return accuracy(captions, scenes) | {
        "explained": float(np.mean([t.endswith(f": {n}") for t, n in zip(explained, names, strict=True)])),
        "named": float(np.mean([t == n for t, n in zip(named, names, strict=True)])),
    }


def lesson(scene: Scene, rng: random.Random, share: float) -> tuple[str, str]:
    """(prompt, answer): a description, one that ends with the definition it meets, or the defined name alone.

    `share` of lessons are of the last two kinds.
    """
    kind = rng.choices(["describe", "explain", "name"], [1 - share, 0.6 * share, 0.4 * share])[0]
    if kind == "describe":
        return rng.choice(PROMPTS), scene.caption
    classes = draw(scene, rng)
    return (
        (classes.prompt(EXPLAIN), classes.rationale(scene))
        if kind == "explain"
        else (classes.prompt(ANSWER), classes.name(scene))
    )


def train(out: Path, seed: int, steps: tuple[int, int, int], pool: int, batch: int = 32) -> None:
    model, processor = build(seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(processor.tokenizer)} tokens", flush=True)
    started = time.time()
    sizes = {shape: round(pool * share) for shape, share in POOLS.items()}
    pools = {shape: draw_clips(n, seed + i, shape) for i, (shape, n) in enumerate(sizes.items())}
    held_out = {shape: draw_clips(300, 99_991 + i, shape) for i, shape in enumerate(POOLS)}
    print(f"clips drawn in {time.time() - started:.0f} s", flush=True)
    for block in model.model.visual.blocks:
        block.attn.forward = _equal_frames_attention.__get__(block.attn)
    captioner, rng, started = Captioner(model, processor), random.Random(seed + 1), time.time()
    words = lessons.Words(processor.tokenizer, random.Random(seed + 2))
    for phase, total in zip(PHASES, steps, strict=True):
        optimizer = torch.optim.AdamW(model.parameters(), lr=phase.rate, weight_decay=0.02, betas=(0.9, 0.98))
        losses: list[float] = []
        for step in range(total):
            warm, cosine = min(1, (step + 1) / min(100, total)), 0.5 * (1 + np.cos(np.pi * step / total))
            for group in optimizer.param_groups:
                group["lr"] = phase.rate * warm * (0.02 + 0.98 * cosine)
            if rng.random() < phase.words:
                given = words.batch()
                result = model(**given, use_cache=False)
                words.learnt(result.logits, given["labels"])
            else:
                scenes, clips = pools[rng.choices(list(POOLS), list(POOLS.values()))[0]]
                odds = [phase.hard if s.event in ("drop", "take") and step < 0.7 * total else 1.0 for s in scenes]
                chosen = rng.choices(range(len(scenes)), odds, k=batch)
                prompts, answers = zip(*(lesson(scenes[i], rng, phase.related) for i in chosen), strict=True)
                given = captioner.inputs(clips[chosen], prompts, answers, rng.choice(SECONDS))
                result = model(**given, use_cache=False)
                losses.append(result.loss.item())
            result.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if (step + 1) % 50 == 0:
                done = f"loss {np.mean(losses[-50:]):.4f}  level {words.level}  {time.time() - started:.0f} s"
                print(step + 1, done, flush=True)
            if (step + 1) % 500 == 0 or step + 1 == total:
                model.save_pretrained(out)
                processor.save_pretrained(out)
                _report(captioner, dict(list(held_out.items())[:1]), (1,))
    _report(captioner, held_out, (1, 1.5, 2))


def _report(
    captioner: Captioner, held_out: dict[Shape, tuple[list[Scene], np.ndarray]], steps: Sequence[float]
) -> None:
    for shape, (scenes, clips) in held_out.items():
        for second in steps:
            shares = {k: round(v, 3) for k, v in measure(captioner, scenes, clips, second, 0).items()}
            print(f"held out, {shape}, {second} s a step:", shares, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, nargs=3, default=(2000, 1200, 1400), help="of each of PHASES")
    parser.add_argument("--pool", type=int, default=20_000)
    parser.add_argument("--measure", type=int, metavar="SEED", help="only measure the model OUT on new clips")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    if args.measure is None:
        train(args.out, args.seed, tuple(args.steps), args.pool)
        return
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(args.out)
    captioner = Captioner(model, Qwen2_5_VLProcessor.from_pretrained(args.out))
    fresh = {shape: draw_clips(500, args.measure + i, shape) for i, shape in enumerate(POOLS)}
    _report(captioner, fresh, (1, 1.5, 2))


if __name__ == "__main__":
    main()
