"""Chooses the demo's settings on its validation clips, with one budget for each arm, in a loop of its own.

    rbft demo --data-only && rbft prepare demo && python benchmarks/demo_search.py BASE

Faster than the harnesses, and the same in small: LLaMA-Factory's optimizer, schedule, batches and tokens, in another
order of rows. It never reads the test split.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from rbft_plugin.data.prepared import read_split
from rbft_plugin.model.chat import chat_text
from rbft_plugin.scoring.answers import parse
from tools.demo_base.architecture import MERGE
from tools.demo_base.captioner import equal_frames_attention

BATCH, WARM_UP = 16, 10
Steps = tuple[int, float]  # optimizer steps, and their peak learning rate
# Eight settings an arm, (stage 1, stage 2); direct SFT has no stage 1.
BUDGET: dict[str, list[tuple[Steps | None, Steps]]] = {
    "direct_sft": [(None, (steps, rate)) for steps in (80, 160) for rate in (1.5e-4, 3e-4, 6e-4, 1.2e-3)],
    "rbft": [
        (first, (steps, 6e-4))
        for first in ((100, 1.5e-4), (100, 5e-4), (300, 5e-4), (300, 1.5e-3))
        for steps in (80, 160)
    ],
    # As many steps as both stages of the best of rbft together.
    "direct_sft_matched": [
        (None, (260, rate)) for rate in (7.5e-5, 1.1e-4, 1.5e-4, 2.1e-4, 3e-4, 4.2e-4, 6e-4, 1.2e-3)
    ],
}


@dataclass(frozen=True)
class Row:
    """A training row: the sample, what it is asked, what it is to answer."""

    sample: dict[str, Any]
    prompt: str
    answer: str


class Loop:
    """One model, fine-tuned again and again from the same base."""

    def __init__(self, base: Path) -> None:
        self.model = Qwen2_5_VLForConditionalGeneration.from_pretrained(base, dtype=torch.float32)
        self.processor = Qwen2_5_VLProcessor.from_pretrained(base)
        for block in self.model.model.visual.blocks:
            block.attn.forward = equal_frames_attention.__get__(block.attn)
        self.start = {name: weights.clone() for name, weights in self.model.state_dict().items()}
        self.tokens: dict[str, list[int]] = {}

    def samples(self, split: str) -> list[dict[str, Any]]:
        return [sample.model_dump() | self._seen(sample.model_dump()) for sample in read_split("demo", split)]

    def _seen(self, row: dict[str, Any]) -> dict[str, Any]:
        with av.open(row["video"]) as opened:
            frames = np.stack([frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)])
        video = torch.from_numpy(frames).permute(0, 3, 1, 2)
        seen = self.processor.video_processor([video], do_resize=False, do_sample_frames=False, return_tensors="pt")
        second = 2 * row["meta"]["seconds"] / len(frames)
        return {"pixels": seen["pixel_values_videos"], "grid": seen["video_grid_thw"][0], "second": second}

    def _ids(self, text: str) -> list[int]:
        if text not in self.tokens:
            self.tokens[text] = self.processor.tokenizer(text)["input_ids"]
        return self.tokens[text]

    def _prompt(self, prompt: str, grid: torch.Tensor) -> list[int]:
        text = chat_text(self.processor, prompt)
        return self._ids(text.replace("<|video_pad|>", "<|video_pad|>" * (int(grid.prod()) // MERGE**2)))

    def _batch(self, rows: Sequence[Row]) -> dict[str, Any]:
        pairs = [(self._prompt(r.prompt, r.sample["grid"]), self._ids(r.answer + "<|im_end|>\n")) for r in rows]
        length = max(len(p) + len(a) for p, a in pairs)
        ids = torch.full((len(rows), length), self.processor.tokenizer.pad_token_id)
        labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
        for i, (p, a) in enumerate(pairs):
            ids[i, : len(p) + len(a)] = torch.tensor(p + a)
            labels[i, len(p) : len(p) + len(a)] = torch.tensor(a)
            mask[i, : len(p) + len(a)] = 1
        return dict(input_ids=ids, labels=labels, attention_mask=mask, **self._videos(rows))

    def _videos(self, rows: Sequence[Row]) -> dict[str, Any]:
        return dict(
            pixel_values_videos=torch.cat([r.sample["pixels"] for r in rows]),
            video_grid_thw=torch.stack([r.sample["grid"] for r in rows]),
            second_per_grid_ts=torch.tensor([r.sample["second"] for r in rows]),
        )

    def train(self, rows: Sequence[Row], steps: int, rate: float, seed: int) -> None:
        self.model.train()
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=0.0)
        rng, order = random.Random(seed), []
        for step in range(steps):
            while len(order) < BATCH:
                order += rng.sample(range(len(rows)), len(rows))
            chosen, order = order[:BATCH], order[BATCH:]
            cosine = 0.5 * (1 + np.cos(np.pi * (step - WARM_UP) / (steps - WARM_UP)))
            for group in optimizer.param_groups:
                group["lr"] = rate * (step / WARM_UP if step < WARM_UP else cosine)
            self.model(**self._batch([rows[i] for i in chosen]), use_cache=False).loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    @torch.no_grad()
    def answers(self, samples: Sequence[dict[str, Any]], key: str, most: int = 40, batch: int = 100) -> list[str]:
        """Greedy answers to the prompt that each sample has under `key`."""
        self.model.eval()
        texts: list[str] = []
        for at in range(0, len(samples), batch):
            rows = [Row(s, s[key], "") for s in samples[at : at + batch]]
            prompts = [self._prompt(r.prompt, r.sample["grid"]) for r in rows]
            assert len(set(map(len, prompts))) == 1
            ids = torch.tensor(prompts)
            out = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=most,
                do_sample=False,
                **self._videos(rows),
            )
            texts += self.processor.tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def accuracy(self, samples: Sequence[dict[str, Any]], key: str = "label_prompt") -> float:
        found = [
            parse(text, s["labels"]) == s["label"] for s, text in zip(samples, self.answers(samples, key), strict=True)
        ]
        return float(np.mean(found))


def labels(samples: Sequence[dict[str, Any]]) -> list[Row]:
    return [Row(s, s["label_prompt"], s["label"]) for s in samples if s["label"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--output", type=Path, default=Path("demo_search.json"))
    parser.add_argument("--base-on", metavar="SPLIT", help="only print how often the base itself is right there")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    loop = Loop(args.base)
    if args.base_on:
        samples = loop.samples(args.base_on)
        print({key: loop.accuracy(samples, key) for key in ("label_prompt", "rationale_prompt")})
        return
    train, val = loop.samples("train"), loop.samples("val")
    results: dict[str, Any] = {"base": {k: loop.accuracy(val, k) for k in ("label_prompt", "rationale_prompt")}}
    print(results, flush=True)
    texts = loop.answers(train, "rationale_prompt")
    stage1 = [Row(s, s["rationale_prompt"], text) for s, text in zip(train, texts, strict=True)]
    results["settings"] = []
    for seed, (arm, settings) in itertools.product(args.seeds, BUDGET.items()):
        adapted: dict[Steps | None, dict[str, torch.Tensor]] = {None: loop.start}
        for first, second in settings:
            if first not in adapted:
                loop.model.load_state_dict(loop.start)
                loop.train(stage1, *first, seed)
                adapted = {first: {name: weights.clone() for name, weights in loop.model.state_dict().items()}}
            loop.model.load_state_dict(adapted[first])
            loop.train(labels(train), *second, seed)
            one = {"arm": arm, "seed": seed, "stage1": first, "stage2": second, "accuracy": loop.accuracy(val)}
            results["settings"].append(one)
            print(one, flush=True)
            args.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
