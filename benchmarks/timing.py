"""What the benchmarks share: interleaved rounds; and those of clips: source videos, a table and its JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

RESULTS = Path(__file__).parent / "results"


def write_source(
    path: Path, seconds: float, size: tuple[int, int], seed: int = 0, rate: int = 6_000_000, codec: str = "libx264"
) -> None:
    """A video as a phone or camera makes it: 30 frames a second, a large textured picture that the view wanders over,
    a thing that moves through it, sensor noise, `rate` bits a second; key frames where the encoder's defaults put them.
    """
    rng = np.random.default_rng(seed)
    width, height = size
    scene = np.zeros((height * 2, width * 2, 3), np.float32)
    for octave in (8, 32, 128, 512):
        shape = (max(2, height * octave // 1024), max(2, width * octave // 1024), 3)
        coarse = rng.normal(0, 90 / octave**0.5, shape).astype(np.float32)
        planes = [Image.fromarray(coarse[..., c]).resize((width * 2, height * 2), Image.BICUBIC) for c in range(3)]
        scene += np.stack([np.asarray(plane) for plane in planes], -1)
    picture = np.clip(scene + 120, 0, 245).astype(np.uint8)
    noise = rng.integers(0, 10, (height + 64, width + 64, 1), np.uint8)
    options = {"preset": "veryfast"} if codec == "libx264" else {"preset": "ultrafast", "x265-params": "log-level=none"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.bit_rate, stream.pix_fmt = width, height, rate, "yuv420p"
        for i in range(round(seconds * 30)):
            x = int((np.sin(i / 90 + seed) + 1) / 2 * width * 0.9)
            y = int((np.cos(i / 130 + seed) + 1) / 2 * height * 0.9)
            dx, dy = rng.integers(0, 64, 2)
            frame = picture[y : y + height, x : x + width] + noise[dy : dy + height, dx : dx + width]
            left = i * 7 % (width * 5 // 6)
            frame[height // 3 : height // 2, left : left + width // 8] = (220, 40, 60)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def rounds(cases: dict[str, Callable[[], object]], count: int, warm: bool = True) -> dict[str, dict[str, list[float]]]:
    """Wall-clock and processor seconds of each case; all cases once a round, so that other load falls on all, and each
    round begins with another one, so that none has the better place. With `warm`, each runs once before that.
    """
    spent: dict[str, dict[str, list[float]]] = {name: {"wall": [], "cpu": []} for name in cases}
    for case in cases.values() if warm else ():
        case()
    for number in range(count):
        first = number % len(cases)
        for name in [*cases][first:] + [*cases][:first]:
            began, worked = time.perf_counter(), processor_seconds()
            cases[name]()
            spent[name]["wall"].append(time.perf_counter() - began)
            spent[name]["cpu"].append(processor_seconds() - worked)
        print(f"round {number + 1} of {count}", file=sys.stderr)
    return spent


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


def ratio(spent: dict[str, dict[str, list[float]]], of: str, to: str, kind: str) -> float:
    """Median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(spent[of][kind], spent[to][kind], strict=True))


def print_rounds(spent: dict[str, dict[str, list[float]]], kinds: tuple[str, ...] = ("wall", "cpu")) -> None:
    width = max(map(len, spent))
    for name, times in spent.items():
        columns = [f"{statistics.median(times[k]) * 1000:9.0f} ms {k} (from {min(times[k]) * 1000:.0f})" for k in kinds]
        print(f"{name:{width}} " + " ".join(columns))


def write(name: str, result: dict[str, Any]) -> None:
    """benchmarks/results/<name>.json, with versions and machine."""
    packages = ("av", "decord", "llamafactory", "transformers", "torch", "numpy")
    machine = {
        "cores": len(os.sched_getaffinity(0)),
        "processor": next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), "?")[13:],
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }
    RESULTS.mkdir(exist_ok=True)
    content = result | {"machine": machine, "versions": {p: version(p) for p in packages}}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"written: benchmarks/results/{name}.json")
