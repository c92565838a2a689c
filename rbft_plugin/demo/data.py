"""Writes the demo's videos and annotation file: what a user would bring, from a seed."""

from __future__ import annotations

import csv
import os
import random
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
from typing import Any

SOURCE = Path("data/demo/source")
BASE = Path("data/demo/base")
# The labels are rules over the event; the base model knows the events, and none of these words' rules.
LABEL_OF = {"pass": "normal", "stop": "loitering", "turn": "patrol", "drop": "delivery", "take": "theft"}
# Samples of each label, by split; "extra" are training clips whose label is left blank.
SIZES = {"train": 8, "extra": 80, "val": 40, "test": 80}
FPS = 4
COLUMNS = ("id", "split", "label")


def write_source(
    seed: int = 0,
    sizes: dict[str, int] | None = None,
    progress: Callable[[Iterable[Any], int, str], Iterable[Any]] = lambda items, total, text: items,
) -> int:
    """Write data/demo/source (videos/, annotations.csv) and data/demo/base; returns the number of videos.

    What is there already is kept: the annotation file is written last, so that it stands for a complete set.
    """
    if not BASE.is_dir():
        partial = BASE.with_suffix(".part")
        shutil.copytree(Path(str(files("rbft_plugin.demo"))) / "base", partial, dirs_exist_ok=True)
        os.replace(partial, BASE)
    annotations = SOURCE / "annotations.csv"
    if annotations.is_file():
        with annotations.open(encoding="utf-8") as lines:
            return sum(1 for _ in lines) - 1
    jobs: list[tuple[Path, str, int]] = []
    rows: list[dict[str, str]] = []
    for split, count in (sizes or SIZES).items():
        rng = random.Random(f"{seed}/{split}")
        events = list(LABEL_OF) * count
        rng.shuffle(events)
        for event in events:
            name = f"clip_{len(rows):04d}"
            label = "" if split == "extra" else LABEL_OF[event]
            rows.append({"id": name, "split": "train" if split == "extra" else split, "label": label})
            jobs.append((SOURCE / "videos" / f"{name}.mp4", event, rng.getrandbits(32)))
    (SOURCE / "videos").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for _ in progress(pool.map(_write_video, jobs, chunksize=16), len(jobs), "videos of demo"):
            pass
    partial = annotations.with_suffix(".part")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    os.replace(partial, annotations)
    return len(rows)


def _write_video(job: tuple[Path, str, int]) -> None:
    from dataclasses import replace

    from rbft_plugin.demo.world import NIGHT, frame_times, random_scene, render, write_video

    path, event, seed = job
    rng = random.Random(seed)
    scene = replace(random_scene(rng), event=event)
    frames = round(FPS * rng.uniform(4, 8))
    write_video(path, render(scene, NIGHT, frame_times(frames), rng), FPS)
