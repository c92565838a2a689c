"""Writes the demo's videos and annotation file: what a user would bring, from a seed."""

from __future__ import annotations

import csv
import filecmp
import os
import random
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from importlib.resources import files
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from rbft_plugin.errors import RbftError

SOURCE = Path("data/demo/source")
BASE = Path("data/demo/base")
# The labels are rules over the event; the base model knows the events, and none of these words' rules.
LABEL_OF = {"pass": "normal", "stop": "loitering", "turn": "patrol", "drop": "delivery", "take": "theft"}
# Samples of each label, by split; "extra" are training clips whose label is left blank.
SIZES = {"train": 8, "extra": 80, "val": 40, "test": 80}
# The test clips come from a seed of their own, chosen after all settings; docs/demo.md has the hash of what it draws.
TEST_SEED = 20261123
FPS = 4
COLUMNS = ("id", "split", "label")


class Planned(NamedTuple):
    """A clip before it is drawn; `split` is one of SIZES."""

    id: str
    split: str
    event: str
    seed: int


def write_source(
    seed: int = 0,
    sizes: dict[str, int] | None = None,
    progress: Callable[[Iterable[Any], int, str], Iterable[Any]] = lambda items, total, text: items,
) -> int:
    """Write data/demo/source (videos/, annotations.csv) and data/demo/base; returns the number of videos.

    What is there already is kept: the annotation file is written last, so that it stands for a complete set. Raises
    RbftError if it is another version's.
    """
    shipped = Path(str(files("rbft_plugin.demo"))) / "base"
    if not BASE.is_dir():
        partial = BASE.with_suffix(".part")
        shutil.copytree(shipped, partial, dirs_exist_ok=True)
        os.replace(partial, BASE)
    drawn = planned(seed, sizes or SIZES)
    annotations = SOURCE / "annotations.csv"
    if annotations.is_file():
        with annotations.open(encoding="utf-8") as lines:
            there = sum(1 for _ in lines) - 1
        weights = "model.safetensors"
        if there != len(drawn) or not filecmp.cmp(BASE / weights, shipped / weights, shallow=False):
            raise RbftError(
                f"{SOURCE.parent}: is not this version's demo ({there} videos, not {len(drawn)}, or another base): "
                "move it away, and runs/demo, and start again"
            )
        return there
    (SOURCE / "videos").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for _ in progress(pool.map(_write_video, drawn, chunksize=16), len(drawn), "videos of demo"):
            pass
    partial = annotations.with_suffix(".part")
    with partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for clip in drawn:
            label = "" if clip.split == "extra" else LABEL_OF[clip.event]
            writer.writerow({"id": clip.id, "split": "train" if clip.split == "extra" else clip.split, "label": label})
    os.replace(partial, annotations)
    return len(drawn)


def planned(seed: int, sizes: dict[str, int]) -> list[Planned]:
    """The clips of all splits, in an order of their own; those of the test split are the same for every seed."""
    drawn: list[Planned] = []
    for split, count in sizes.items():
        rng = random.Random(f"{TEST_SEED if split == 'test' else seed}/{split}")
        events = list(LABEL_OF) * count
        rng.shuffle(events)
        drawn += [Planned(f"clip_{i:04d}", split, e, rng.getrandbits(32)) for i, e in enumerate(events, len(drawn))]
    return drawn


def _write_video(clip: Planned) -> None:
    from dataclasses import replace

    from rbft_plugin.demo.synthetic_video import NIGHT, frame_times, random_scene, render, write_video

    rng = random.Random(clip.seed)
    scene = replace(random_scene(rng), event=clip.event)
    frames = round(FPS * rng.uniform(4, 8))
    write_video(SOURCE / "videos" / f"{clip.id}.mp4", render(scene, NIGHT, frame_times(frames), rng), FPS)
