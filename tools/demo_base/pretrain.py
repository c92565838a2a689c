"""Trains the demo's base model from a seed: a Qwen2.5-VL of 1.7 million parameters that describes generated clips.

    python -m tools.demo_base.pretrain OUT
    python -m tools.demo_base.pretrain NEW --start FOLDER   # a further phase, from the weights in FOLDER
    python -m tools.demo_base.pretrain OUT --measure SEED   # only measures it, on clips drawn from that seed

It sees neither the demo's look nor its classes: its classes are made up (see meanings.py). The training takes about an
hour on one core, and 40 minutes on two (OMP_NUM_THREADS=2).
"""

from __future__ import annotations

import argparse
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from rbft_plugin.demo.synthetic_video import NIGHT, Scene
from tools.demo_base import lessons
from tools.demo_base.architecture import LONG, PIXELS, PROMPTS, build
from tools.demo_base.captioner import Captioner, Clips, Shape, draw_clips, measure
from tools.demo_base.meanings import ANSWER, CONCLUDE, EXPLAIN, QUESTIONS, WORD_OF, conclusion, draw

# The share of training clips of each shape; most clips are as in the demo.
POOLS: dict[Shape, float] = {
    (8, PIXELS, PIXELS): 0.7,
    (6, PIXELS, PIXELS): 0.08,
    (10, PIXELS, PIXELS): 0.08,
    (8, PIXELS, LONG): 0.07,
    (8, LONG, PIXELS): 0.07,
}
SECONDS = (0.75, 1, 1, 1, 1.25, 1.5, 1.75, 2, 2, 2.5, 3)  # between two time steps of the model, which are two frames
BATCH, WARM_UP = 32, 100


@dataclass(frozen=True)
class Phase:
    """A part of the training: optimizer steps, their peak learning rate, and what they show.

    With `anew` the language model starts from its first weights. `words` is the share of batches that are text. Of the
    video samples, the share `related` asks for a definition, `asked` for a word at once, and `concluded` for a
    description and the word for its event. In the first 70 % of the steps, events in `hard` are drawn three times as
    often.
    """

    steps: int
    rate: float
    anew: bool = False
    words: float = 0.0
    related: float = 0.0
    asked: float = 0.0
    concluded: float = 0.0
    hard: tuple[str, ...] = ()


# The vision tower learns first, and its language model is thrown away: a language model that describes videos does not
# learn to look up words (in 750 steps of text), and with one that does, the vision tower learns nothing (in 950 steps).
PHASES = (
    Phase(3500, 2e-3),
    Phase(500, 7e-4, anew=True, words=1.0),
    Phase(1400, 1.2e-3, words=0.05, related=0.5, hard=("drop", "take")),
    Phase(2500, 1.2e-3, words=0.05, related=0.5, hard=("pass", "turn")),
)
# With --start: words at once and conclusions, for a base that can also answer without a description. The shipped
# weights are without this phase.
FURTHER: tuple[Phase, ...] = (Phase(600, 8e-4, words=0.05, related=0.15, asked=0.5, concluded=0.15),)


def lesson(scene: Scene, rng: random.Random, phase: Phase) -> tuple[str, str]:
    """(prompt, answer). The answer is a description, alone or with a definition or a word, or a name or a word alone.

    Of the words at once, two in three are for the event, which is the hardest to see.
    """
    shares = {
        "explain": 0.6 * phase.related,
        "name": 0.4 * phase.related,
        "ask": phase.asked,
        "conclude": phase.concluded,
    }
    shares["describe"] = 1 - sum(shares.values())
    kind = rng.choices(list(shares), list(shares.values()))[0]
    if kind == "describe":
        return rng.choice(PROMPTS), scene.caption
    if kind == "ask":
        about = rng.choices(list(QUESTIONS), [6, 1, 1, 1])[0]
        return QUESTIONS[about], WORD_OF[getattr(scene, about)]
    if kind == "conclude":
        return CONCLUDE, conclusion(scene)
    classes = draw(scene, rng)
    if kind == "explain":
        return classes.prompt(EXPLAIN), classes.rationale(scene)
    return classes.prompt(ANSWER), classes.name(scene)


def video_batch(
    pools: dict[Shape, Clips], phase: Phase, hard: bool, rng: random.Random
) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Clips of one shape, uint8 (BATCH, frames, height, width, 3), and their lessons."""
    scenes, clips = pools[rng.choices(list(pools), [POOLS[shape] for shape in pools])[0]]
    odds = [3.0 if hard and s.event in phase.hard else 1.0 for s in scenes]
    chosen = rng.choices(range(len(scenes)), odds, k=BATCH)
    return clips[chosen], [lesson(scenes[i], rng, phase) for i in chosen]


def train(
    out: Path, seed: int, phases: Sequence[Phase], pool: int, held_out: int = 300, start: Path | None = None
) -> None:
    """Train through the phases on `pool` clips; every 500 steps, save model and processor in `out`.

    The model is measured on `held_out` further clips of each shape. `start` is a folder of weights that have already
    learnt the lessons of text; without it, the model is new.
    """
    model, processor = build(seed)
    if start is not None:
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(start)
        processor = Qwen2_5_VLProcessor.from_pretrained(start)
        shutil.copytree(start, out)  # a processor that was loaded is not saved as it was
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(processor.tokenizer)} tokens", flush=True)
    began = time.time()
    pools = {shape: draw_clips(round(pool * share), seed + i, shape) for i, (shape, share) in enumerate(POOLS.items())}
    others = {shape: draw_clips(held_out, 99_991 + i, shape) for i, shape in enumerate(POOLS)}
    print(f"clips drawn in {time.time() - began:.0f} s", flush=True)
    language = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("model.visual.")}
    captioner, rng, began = Captioner(model, processor), random.Random(seed + 1), time.time()
    words = lessons.Words(processor.tokenizer, random.Random(seed + 2))
    words.level = 0 if start is None else lessons.LEVELS
    for phase in phases:
        if phase.anew:
            model.load_state_dict(language, strict=False)
        optimizer = torch.optim.AdamW(model.parameters(), lr=phase.rate, weight_decay=0.02, betas=(0.9, 0.98))
        losses: list[float] = []
        step = taken = 0
        while step < phase.steps:
            warm, cosine = min(1, (step + 1) / WARM_UP), 0.5 * (1 + np.cos(np.pi * step / phase.steps))
            for group in optimizer.param_groups:
                group["lr"] = phase.rate * warm * (0.02 + 0.98 * cosine)
            if rng.random() < phase.words:
                given = words.batch()
                result = model(**given, use_cache=False)
                words.learnt(result.logits, given["labels"])
            else:
                clips, pairs = video_batch(pools, phase, step < 0.7 * phase.steps, rng)
                prompts, answers = zip(*pairs, strict=True)
                result = model(**captioner.inputs(clips, prompts, answers, rng.choice(SECONDS)), use_cache=False)
            result.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(result.loss.item())
            # It is a matter of luck when a model learns to look up, so a phase of text alone waits for it.
            step += phase.words < 1 or words.level == lessons.LEVELS or step < WARM_UP
            taken += 1
            if taken % 50 == 0:
                progress = f"loss {np.mean(losses[-50:]):.4f}, words of level {words.level}"
                print(f"{step} of {phase.steps}: {progress}, {time.time() - began:.0f} s", flush=True)
            if taken % 500 == 0 or step == phase.steps:
                model.save_pretrained(out)
                if start is None:
                    processor.save_pretrained(out)
                report(captioner, dict(list(others.items())[:1]), (1,))
    report(captioner, others, (1, 1.5, 2))


def report(captioner: Captioner, clips: dict[Shape, Clips], seconds: Sequence[float]) -> None:
    """Print what `measure` gives on clips outside the training set, for each shape and each time step in `seconds`."""
    for shape, (scenes, frames) in clips.items():
        for second in seconds:
            shares = {k: round(v, 3) for k, v in measure(captioner, scenes, frames, second, 0).items()}
            print(f"held out, {shape}, {second} s a step:", shares, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="train a further phase, from the weights in this folder")
    parser.add_argument("--steps", type=int, nargs="+", help="optimizer steps of each phase that is trained")
    parser.add_argument("--pool", type=int, default=20_000, help="how many clips to train on")
    parser.add_argument("--measure", type=int, metavar="SEED", help="only measure the model in OUT, on new clips")
    args = parser.parse_args()
    torch.set_flush_denormal(True)
    if args.measure is None:
        phases: tuple[Phase, ...] = PHASES if args.start is None else FURTHER
        steps = args.steps or [phase.steps for phase in phases]
        if args.start is not None and args.out.exists():
            parser.error(f"{args.out} is there already; name a new folder")
        if len(steps) != len(phases):
            parser.error(f"--steps needs one number for each phase that is trained: {len(phases)}")
        phases = tuple(replace(phase, steps=n) for phase, n in zip(phases, steps, strict=True))
        train(args.out, args.seed, phases, args.pool, start=args.start)
        return
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(args.out)
    captioner = Captioner(model, Qwen2_5_VLProcessor.from_pretrained(args.out))
    fresh = {shape: draw_clips(500, args.measure + i, shape) for i, shape in enumerate(POOLS)}
    report(captioner, fresh, (1, 1.5, 2))
    shape = next(iter(POOLS))
    shares = measure(captioner, *draw_clips(500, args.measure, shape, look=NIGHT), 1, 0)
    print("held out, at night:", {k: round(v, 3) for k, v in shares.items()}, flush=True)


if __name__ == "__main__":
    main()
