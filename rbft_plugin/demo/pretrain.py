"""Trains the demo's base model from a seed: a 1.6 M parameter Qwen2.5-VL that describes clips of `world`.

    python -m rbft_plugin.demo.pretrain OUT_DIR

It sees captions only, never a label of the demo's domain nor its look. About 25 minutes on one CPU core.
"""

from __future__ import annotations

import argparse
import io
import random
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen

from rbft_plugin.demo.architecture import MERGE, PIXELS, PROMPTS, build
from rbft_plugin.demo.world import EVENTS, GENERAL, Scene, frame_times, random_scene, render


def draw_clips(n: int, seed: int, frames: int, processes: int = 2) -> tuple[list[Scene], np.ndarray]:
    """`n` scenes in the general look; the clips are uint8 (n, frames, PIXELS, PIXELS, 3)."""
    jobs = [(seed * 100_003 + i, 64, frames) for i in range(-(-n // 64))]
    with get_context("fork").Pool(processes) as pool:
        parts = pool.starmap(_draw_some, jobs)
    return [s for scenes, _ in parts for s in scenes][:n], np.concatenate([clips for _, clips in parts])[:n]


def _draw_some(seed: int, n: int, frames: int) -> tuple[list[Scene], np.ndarray]:
    rng = random.Random(seed)
    scenes = [random_scene(rng) for _ in range(n)]
    return scenes, np.stack([_shrink(render(s, GENERAL, frame_times(frames), rng), rng) for s in scenes])


def _shrink(frames: np.ndarray, rng: random.Random) -> np.ndarray:
    """Halve the frames and compress them a little, as a canonical clip does."""
    filter_ = rng.choice([Image.Resampling.BOX, Image.Resampling.BICUBIC])
    quality = rng.randint(70, 95)
    small = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).resize((PIXELS, PIXELS), filter_).save(file, "JPEG", quality=quality)
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
    """Batches of clips with one frame count and one time step, so that prompts and positions are computed once."""

    def __init__(self, model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor) -> None:
        self.model, self.processor, self.tokenizer = model, processor, processor.tokenizer
        self.positions: dict[tuple, torch.Tensor] = {}

    def inputs(self, clips: np.ndarray, prompts: list[str], captions: list[str], step: int) -> dict:
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
    def describe(self, clips: np.ndarray, step: int, batch: int = 100) -> list[str]:
        """Greedy captions."""
        self.model.eval()
        texts: list[str] = []
        for some in np.split(clips, range(batch, len(clips), batch)):
            given = self.inputs(some, [PROMPTS[0]] * len(some), [""] * len(some), step)
            ids = given["input_ids"][:, :-1]  # without the end of turn
            out = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                pixel_values_videos=given["pixel_values_videos"],
                video_grid_thw=given["video_grid_thw"],
                second_per_grid_ts=torch.tensor([step] * len(some)),
                max_new_tokens=32,
                do_sample=False,
            )
            texts += self.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        self.model.train()
        return texts


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
    return {"exact": float(np.mean([t.strip() == s.caption for t, s in pairs])), **parts}


def train(out: Path, seed: int, steps: tuple[int, int], pool: int, batch: int = 32) -> None:
    model, processor = build(seed)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(processor.tokenizer)} tokens", flush=True)
    started = time.time()
    pools = {n: draw_clips(size, seed + n, n) for n, size in ((8, pool), (6, pool // 8))}
    held_out = {n: draw_clips(300, 99_991 + n, n) for n in pools}
    print(f"clips drawn in {time.time() - started:.0f} s", flush=True)
    for block in model.model.visual.blocks:
        block.attn.forward = _equal_frames_attention.__get__(block.attn)
    captioner, rng, started = Captioner(model, processor), random.Random(seed + 1), time.time()
    model.train()
    for total, peak, hard in ((steps[0], 2e-3, 1.0), (steps[1], 1.2e-3, 3.0)):
        optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.02, betas=(0.9, 0.98))
        losses: list[float] = []
        for step in range(total):
            warm, cosine = min(1, (step + 1) / min(100, total)), 0.5 * (1 + np.cos(np.pi * step / total))
            for group in optimizer.param_groups:
                group["lr"] = peak * warm * (0.02 + 0.98 * cosine)
            # Most clips have 8 frames and a time step of 1 s; the rest keeps the model from knowing only those.
            scenes, clips = pools[rng.choices([8, 6], [0.85, 0.15])[0]]
            second = rng.choices([1, 2, 3], [0.6, 0.25, 0.15])[0]
            odds = [hard if s.event in ("drop", "take") and step < 0.7 * total else 1.0 for s in scenes]
            chosen = rng.choices(range(len(scenes)), odds, k=batch)
            loss = model(
                **captioner.inputs(
                    clips[chosen], [rng.choice(PROMPTS)] * batch, [scenes[i].caption for i in chosen], second
                ),
                use_cache=False,
            ).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            if (step + 1) % 50 == 0:
                print(step + 1, f"loss {np.mean(losses[-50:]):.4f}  {time.time() - started:.0f} s", flush=True)
            if (step + 1) % 400 == 0 or step + 1 == total:
                model.save_pretrained(out)
                processor.save_pretrained(out)
                for n, (scenes_, clips_) in held_out.items():
                    for second in (1, 2):
                        shares = accuracy(captioner.describe(clips_, second), scenes_)
                        print(f"held out, {n} frames, {second} s a step:", shares, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, nargs=2, default=(2400, 750))
    parser.add_argument("--pool", type=int, default=16_000)
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    train(args.out, args.seed, tuple(args.steps), args.pool)


if __name__ == "__main__":
    main()
