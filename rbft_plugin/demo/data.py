"""Writes the demo's videos and annotation file from a seed: the files that a user would bring."""

from __future__ import annotations

import csv
import filecmp
import os
import random
import shutil
from concurrent.futures import ProcessPoolExecutor
from importlib.resources import files
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rbft_plugin.data.prepared import DataFolder
from rbft_plugin.errors import RbftError
from rbft_plugin.files import write_bytes

if TYPE_CHECKING:  # each process that draws videos would import it
    from rbft_plugin.data.clip_workers import Progress

SOURCE = DataFolder("demo").source
BASE = DataFolder("demo").path / "base"
# The label of each event. The base model can describe the events, and has never seen these labels for them.
LABEL_OF = {"pass": "normal", "stop": "loitering", "turn": "patrol", "drop": "delivery", "take": "theft"}
# Samples of each label in each split; "extra" are training samples whose label is left blank.
SIZES = {"train": 8, "extra": 80, "val": 40, "test": 80}
# The test clips have a seed of their own, chosen after all settings; docs/demo.md has the hash of what it gives.
TEST_SEED = 20261123
FPS = 4


class PlannedVideo(NamedTuple):
    """A video before it is drawn; `split` is one of SIZES."""

    id: str
    split: str
    event: str
    seed: int


def write_source(
    seed: int = 0,
    sizes: dict[str, int] | None = None,
    progress: Progress = lambda items, total, text: items,
) -> int:
    """Write data/demo/source (videos/ and annotations.csv) and data/demo/base; returns the number of videos.

    Existing files are kept. The annotation file is written last, so that its presence means a complete set. Raises
    RbftError if the existing files are those of another version.
    """
    shipped = Path(str(files("rbft_plugin.demo"))) / "base"
    if not BASE.is_dir():
        partial = BASE.with_suffix(".part")
        shutil.copytree(shipped, partial, dirs_exist_ok=True)
        os.replace(partial, BASE)
    videos = planned(seed, sizes or SIZES)
    annotations = SOURCE / "annotations.csv"
    if annotations.is_file():
        existing = len(annotations.read_text(encoding="utf-8").splitlines()) - 1
        weights = "model.safetensors"
        if existing != len(videos) or not filecmp.cmp(BASE / weights, shipped / weights, shallow=False):
            raise RbftError(
                f"{SOURCE.parent}: this is not the demo of this version ({existing} videos, not {len(videos)}, or "
                "another base model). Move it and runs/demo away, and start again"
            )
        return existing
    (SOURCE / "videos").mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for _ in progress(pool.map(_write_video, videos, chunksize=16), len(videos), "videos of demo"):
            pass
    rows = [
        {"id": video.id, "split": "train", "label": ""}
        if video.split == "extra"
        else {"id": video.id, "split": video.split, "label": LABEL_OF[video.event]}
        for video in videos
    ]
    text = StringIO()
    writer = csv.DictWriter(text, ["id", "split", "label"])
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(annotations, text.getvalue().encode())
    return len(videos)


def planned(seed: int, sizes: dict[str, int]) -> list[PlannedVideo]:
    """The videos of all splits, shuffled within each; those of the test split are the same for every seed."""
    videos: list[PlannedVideo] = []
    for split, count in sizes.items():
        rng = random.Random(f"{TEST_SEED if split == 'test' else seed}/{split}")
        events = list(LABEL_OF) * count
        rng.shuffle(events)
        videos += [
            PlannedVideo(f"clip_{number:04d}", split, event, rng.getrandbits(32))
            for number, event in enumerate(events, len(videos))
        ]
    return videos


def _write_video(video: PlannedVideo) -> None:
    from dataclasses import replace

    from rbft_plugin.demo.synthetic_video import NIGHT, frame_times, random_scene, render, write_video

    rng = random.Random(video.seed)
    scene = replace(random_scene(rng), event=video.event)
    frames = round(FPS * rng.uniform(4, 8))
    write_video(SOURCE / "videos" / f"{video.id}.mp4", render(scene, NIGHT, frame_times(frames), rng), FPS)
