"""What the benchmarks of `rbft_vl` share: clips, models, rates of work, a table and its JSON.

A figure is the median over the rounds of `timing`; a ratio is the median of the rounds' ratios. Time is that of the
clock, and beside it that of the processor, which other load changes less.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import timing
from PIL import Image

ROOT = Path(__file__).parents[1]
BASE = ROOT / "rbft_plugin/demo/base"
CAUTION = (
    "The demo's base, 1.7 M parameters, float32 (lmms-eval's own model: bfloat16, which it always takes), on a CPU: "
    "this measures mostly overhead around the model, and says nothing about a model of real size or a GPU."
)
LMMS = {"device": "cpu", "device_map": "cpu", "max_pixels": 3136, "min_pixels": 3136, "max_num_frames": 8}


def arguments(description: str | None, clips: int = 32) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=clips)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def clips(folder: Path, count: int) -> list[dict[str, Any]]:
    """Documents with canonical clips of 56 x 56 pixels and 8 frames, 4 s long."""
    from rbft_plugin.clips.canonical import write_clip
    from rbft_plugin.demo.synthetic_video import GENERAL, frame_times, random_scene, render

    docs = []
    for i in range(count):
        rng = random.Random(i)
        frames = render(random_scene(rng), GENERAL, frame_times(8), rng)
        small = np.stack([np.asarray(Image.fromarray(f).resize((56, 56))) for f in frames])
        write_clip(folder / f"{i}.mp4", small, Fraction(2), 18)
        docs.append({"video": str(folder / f"{i}.mp4"), "meta": {"frames": 8, "width": 56, "height": 56}})
    return docs


def rbft_vl(docs: Sequence[dict[str, Any]], batch_size: int) -> Any:
    from rbft_plugin.lmms_eval.rbft_vl import RbftVL

    model = RbftVL(str(BASE), device="cpu", batch_size=batch_size)
    model.task_dict = {"task": {"test": docs}}
    return model


def lmms_own(docs: Sequence[dict[str, Any]], dtype: str = "bfloat16") -> Any:
    """lmms-eval's qwen2_5_vl in chat mode, batch size 1."""
    from lmms_eval.models.chat.qwen2_5_vl import Qwen2_5_VL

    model = Qwen2_5_VL(pretrained=str(BASE), batch_size=1, **LMMS)
    model._model = model._model.to(getattr(__import__("torch"), dtype))
    model.task_dict = {"task": {"test": docs}}
    return model


def simple_requests(docs: Sequence[Any], prompt: str, seconds: Sequence[Any]) -> list[Any]:
    """As lmms-eval asks `rbft_vl`: each document with each of `seconds`, labels or settings."""
    visual = lambda doc: [doc["video"]]  # noqa: E731
    return [
        SimpleNamespace(args=(prompt, second, visual, i, "task", "test"))
        for i in range(len(docs))
        for second in seconds
    ]


def chat_requests(docs: Sequence[Any], prompt: str, settings: dict[str, Any]) -> list[Any]:
    """As lmms-eval asks a chat model."""

    def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
        content = [{"type": "video", "url": doc["video"]}, {"type": "text", "text": prompt}]
        return [{"role": "user", "content": content}]

    return [SimpleNamespace(args=(prompt, messages, settings, i, "task", "test")) for i in range(len(docs))]


@dataclass(frozen=True)
class Rates:
    """Units of work a second of each case in each round: by the clock, and by processor time."""

    clock: dict[str, list[float]]
    processor: dict[str, list[float]]

    def ratio(self, of: str, to: str) -> tuple[float, float]:
        """Medians of the rounds' ratios, by the clock and by processor time."""
        both = [
            statistics.median(a / b for a, b in zip(rates[of], rates[to], strict=True))
            for rates in (self.clock, self.processor)
        ]
        return both[0], both[1]


def measure(cases: dict[str, Callable[[], float]], rounds: int) -> Rates:
    """Run each case once to warm up, and once a round; a case returns its units of work, always as many."""
    done: dict[str, float] = {}
    spent = timing.rounds({name: lambda name=name: done.update({name: cases[name]()}) for name in cases}, rounds)
    clock, processor = ({n: [done[n] / seconds for seconds in spent[n][k]] for n in cases} for k in ("wall", "cpu"))
    return Rates(clock, processor)


def report(name: str, unit: str, rates: Rates, goals: list[tuple[str, str, str, str]], size: str) -> None:
    """Print a table, and write benchmarks/results/<name>.json. A goal is (text, case, to which case, wanted)."""
    import torch
    import transformers

    width, rounds = max(map(len, rates.clock)), len(next(iter(rates.clock.values())))
    lines = [f"{'':{width}}  {unit:>9}  {f'in {rounds} rounds':>16}  {unit:>9} of processor time"]
    for case, values in rates.clock.items():
        spread = f"{min(values):.1f} to {max(values):.1f}"
        worked = statistics.median(rates.processor[case])
        lines.append(f"{case:{width}}  {statistics.median(values):9.1f}  {spread:>16}  {worked:9.1f}")
    ratios = {text: rates.ratio(of, to) for text, of, to, _ in goals}
    lines.append("")
    for text, _, _, wanted in goals:
        lines.append(f"{text}: {ratios[text][0]:.2f} by the clock, {ratios[text][1]:.2f} by processor time ({wanted})")
    lines += ["", size, CAUTION]
    print("\n".join(lines))
    result = {
        "unit": unit,
        "median": {case: statistics.median(values) for case, values in rates.clock.items()},
        "median_processor": {case: statistics.median(values) for case, values in rates.processor.items()},
        "ratios": {
            text: {"clock": r[0], "processor": r[1], "goal": g[3]}
            for (text, r), g in zip(ratios.items(), goals, strict=True)
        },
        "rounds": {"clock": rates.clock, "processor": rates.processor},
        "setting": size,
        "caution": CAUTION,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
    }
    target = Path(__file__).parent / "results" / f"{name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written: {target.relative_to(ROOT)}")
