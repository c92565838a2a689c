"""What grows with the number of clips: comparing all pairs for `rbft check --deep`, and the report.

python benchmarks/many.py [--looks 5000 10000 20000] [--clips 1000 5000] [--texts 20000 100000]
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import timing

LABELS = tuple(f"class {number}" for number in range(5))
ARMS = ("zero_shot", "direct_sft", "rbft")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--looks", type=int, nargs="*", default=[5000, 10000, 20000])
    parser.add_argument("--clips", type=int, nargs="*", default=[1000, 5000])
    parser.add_argument("--texts", type=int, nargs="*", default=[20000, 100000], help="Reports without frames.")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "N"), help="One of these in this process.")
    options = parser.parse_args()
    if options.one:
        kind, n = options.one
        print(json.dumps((pairs(int(n)) if kind == "pairs" else report(int(n), kind == "report")) | peak()))
        return
    found = {}
    for kind, numbers in (("pairs", options.looks), ("report", options.clips), ("texts", options.texts)):
        for n in numbers:
            command = [sys.executable, __file__, "--one", kind, str(n)]  # of its own, for its peak memory
            said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[f"{kind}, {n}"] = json.loads(said.splitlines()[-1])
            print(f"{kind}, {n}: {found[f'{kind}, {n}']}", flush=True)
    timing.write("many", {"sizes": found})


def peak() -> dict[str, float]:
    return {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


def spent(began: float, worked: float) -> dict[str, float]:
    cpu = timing.processor_seconds() - worked
    return {"seconds": round(time.perf_counter() - began, 2), "cpu": round(cpu, 2)}


def pairs(n: int) -> dict[str, float]:
    """Looks of n videos that are all different."""
    from rbft_plugin.check import near_duplicates as duplicates

    rng = np.random.default_rng(0)
    looks = []
    for _ in range(n):
        motion = rng.standard_normal(duplicates.STEPS * duplicates.SIDE**2 * 3, dtype=np.float32)
        place = rng.normal(0, 30, duplicates.SIDE**2 * 3).astype(np.float32)
        looks.append(duplicates.PictureFingerprint((motion / np.linalg.norm(motion)).astype(np.float16), place, 10.0))
    began, worked = time.perf_counter(), timing.processor_seconds()
    assert duplicates.same_pictures(looks) == []
    return spent(began, worked)


def report(n: int, frames: bool) -> dict[str, float]:
    """Three arms on n test clips of the default size; `frames` of them are what takes time."""
    from rbft_plugin.clips.canonical import make_clip
    from rbft_plugin.report.build import summarize, write
    from rbft_plugin.report.clip_strips import Video
    from rbft_plugin.report.evaluations import Evaluation
    from rbft_plugin.spec.dataset import ClipSettings

    rng = random.Random(0)
    ids, targets = tuple(f"clip {i}" for i in range(n)), tuple(rng.choice(LABELS) for _ in range(n))
    evaluations = []
    for place, arm in enumerate(ARMS):
        said = tuple(t if rng.random() < 0.5 + place / 10 else rng.choice(LABELS) for t in targets)
        evaluations.append(Evaluation(arm, 0, ids, targets, said, said, LABELS, "many"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if frames:
            timing.write_source(folder / "source.mp4", 10, (1280, 720), rate=3_000_000)
            make_clip(folder / "source.mp4", folder / "clip.mp4", ClipSettings())
        shown = [Video(i, "test", t, folder / "clip.mp4", "s", 10.0) for i, t in zip(ids, targets, strict=True)]
        began, worked = time.perf_counter(), timing.processor_seconds()
        write(summarize(evaluations), evaluations, folder / "report", shown)
        size = (folder / "report/index.html").stat().st_size / 1e6
        return spent(began, worked) | {"page_mb": round(size, 1)}


if __name__ == "__main__":
    main()
