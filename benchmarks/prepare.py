"""`rbft prepare` against the ffmpeg command line, which takes the same frames, scales and encodes them in the same way.

Both work on the same videos with as many processes at a time. ffmpeg once with one thread a process, once with as many
as it likes. Needs ffmpeg (Debian's package).

python benchmarks/prepare.py [--rounds 3] [--processes 2] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import timing
import yaml

VIDEOS = [  # seconds, size, bits a second, codec
    *[(30, (1920, 1080), 6_000_000, "libx264")] * 2,
    *[(15, (1280, 720), 3_000_000, "libx264")] * 2,
    (15, (1280, 720), 2_000_000, "libx265"),
    (30, (854, 480), 1_500_000, "libx264"),
]
MAKE = "make_clip, one video after the other"
RBFT, ONE_THREAD, THREADS = "rbft prepare", "ffmpeg, one thread a process", "ffmpeg, its own choice of threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--keep", type=Path, help="Where the videos are made, or are already.")
    options = parser.parse_args()
    if not shutil.which("ffmpeg"):
        sys.exit("needs the ffmpeg command")
    with tempfile.TemporaryDirectory() as folder:
        run(options.keep or Path(folder), options.rounds, options.processes)


def run(folder: Path, count: int, processes: int) -> None:
    from rbft_plugin import workspace
    from rbft_plugin.clips import decode
    from rbft_plugin.clips.canonical import make_clip, write_clip
    from rbft_plugin.clips.video import WHOLE
    from rbft_plugin.spec.dataset import ClipSettings

    folder.mkdir(exist_ok=True)
    videos = [folder / f"v{i}.mp4" for i in range(len(VIDEOS))]
    for i, (video, (seconds, size, rate, codec)) in enumerate(zip(videos, VIDEOS, strict=True)):
        if not video.is_file():
            timing.write_source(video, seconds, size, i, rate, codec)
    workspace.init(folder)
    rows = [f"v{i},{'test' if i > 3 else 'train'},{('a', 'b')[i % 2]}" for i in range(len(VIDEOS))]
    (folder / "bench.csv").write_text("\n".join(["id,split,label", *rows]) + "\n")
    content = {
        "name": "bench",
        "annotations": {"file": "bench.csv", "id": "id", "label": "label"},
        "videos": "{id}.mp4",
        "labels": [{"name": n, "description": n} for n in "ab"],
        "splits": {"column": "split"},
    }
    (folder / "dataset_info/bench.yaml").write_text(yaml.safe_dump(content))
    settings = ClipSettings()
    choices = [decode.choose(video, settings, WHOLE) for video in videos]

    def prepare() -> None:
        code = "from rbft_plugin.cli.main import main; main()"
        command = [sys.executable, "-c", code, "prepare", "bench", "--overwrite", "--workers", str(processes)]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    def ffmpeg(threads: list[str]) -> None:
        with ThreadPoolExecutor(processes) as pool:
            list(pool.map(lambda choice: encode(choice, folder / "out", threads), choices))

    (folder / "out").mkdir(exist_ok=True)
    cases = {RBFT: prepare, ONE_THREAD: lambda: ffmpeg(["-threads", "1"]), THREADS: lambda: ffmpeg([])}
    spent = timing.rounds(cases, count)

    def make(skips: bool) -> None:
        for choice in choices:
            by = choice if skips else replace(choice, track=replace(choice.track, skips=False))
            target, fps = folder / "out/clip.mp4", Fraction(1, 2)
            decode.with_either_decoder(by, lambda frames, to=target, at=fps: write_clip(to, frames, at, settings.crf))

    alone = timing.rounds(
        {
            MAKE: lambda: [make_clip(video, folder / "out/clip.mp4", settings) for video in videos],
            ONE_THREAD: lambda: [encode(choice, folder / "out", ["-threads", "1"]) for choice in choices],
            "decoding and encoding alone": lambda: make(skips=True),
            "the same, by decord where it is right": lambda: make(skips=False),
        },
        count,
    )
    print(f"{len(videos)} videos, {processes} processes at a time, start of each included")
    timing.print_rounds(spent, ("wall",))
    ratios = {name: timing.ratio(spent, name, RBFT, "wall") for name in (ONE_THREAD, THREADS)}
    for name, value in ratios.items():
        print(f"{name}, to {RBFT}: {value:.2f} by the clock; goal 1 or more")
    print("\nprocessor time alone")
    timing.print_rounds(alone, ("cpu",))
    cpu = timing.ratio(alone, ONE_THREAD, MAKE, "cpu")
    print(f"{ONE_THREAD}, to make_clip: {cpu:.2f} by processor time")
    by = {"decord": sum(c.track.even and not c.track.skips for c in choices)}
    by["PyAV"] = len(choices) - by["decord"]
    said = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True).stdout.splitlines()[0]
    what = {"videos": VIDEOS, "processes": processes, "decoded_by": by, "ffmpeg": said}
    timing.write("prepare", {"ratios": ratios | {"processor time": cpu}, "rounds": spent, "alone": alone, "of": what})


def encode(choice, folder: Path, threads: list[str]) -> None:
    """The frames that `rbft prepare` takes, by ffmpeg."""
    selected = "+".join(f"eq(n,{i})" for i in choice.indices)
    filters = f"select='{selected}',scale={choice.width}:{choice.height}:flags=bilinear"
    video = choice.track.video
    command = ["ffmpeg", "-v", "error", "-y", *threads, "-i", str(video), "-vf", filters, "-vsync", "0", "-an"]
    command += ["-c:v", "libx264", "-crf", "18", "-g", "1", "-tune", "fastdecode", "-pix_fmt", "yuv420p", *threads]
    subprocess.run([*command, str(folder / f"{video.stem}.mp4")], check=True)


if __name__ == "__main__":
    main()
