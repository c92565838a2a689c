"""What one clip costs, by its source and by `clips` in the dataset YAML; docs/scale.md multiplies these figures.

Of each source, on one core: making its clip as `rbft prepare` does, and looking at it as `rbft check --deep` does. Of
the clips of the longest one: LLaMA-Factory's preprocessing of a row, at every start of a training, which reads the
clip's header; and its collator, which decodes the clip, for each sample of each step.

python benchmarks/sources.py [--rounds 3] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import loader
import timing

SOURCES = {  # seconds, size, bits a second
    "10 s 480p, 1 Mb/s": (10, (854, 480), 1_000_000),
    "10 s 720p, 3 Mb/s": (10, (1280, 720), 3_000_000),
    "30 s 1080p, 6 Mb/s": (30, (1920, 1080), 6_000_000),
    "120 s 1080p, 6 Mb/s": (120, (1920, 1080), 6_000_000),
}
SETTINGS = {  # clips.frames, clips.max_pixels
    "as they are": (16, 200_704),
    "max_pixels: 100352": (16, 100_352),
    "frames: 32": (32, 200_704),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="Where the videos are made, or are already.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run(options.keep or Path(folder), Path(folder), options.rounds)


def run(videos: Path, folder: Path, rounds: int) -> None:
    from rbft_plugin.check import near_duplicates as duplicates
    from rbft_plugin.clips.canonical import make_clip, read_frames
    from rbft_plugin.spec.dataset import ClipSettings

    def look(video: Path) -> object:
        return duplicates.picture_fingerprint(*read_frames(video, ClipSettings()))

    videos.mkdir(exist_ok=True)
    cases: dict[str, Any] = {}
    sizes: dict[str, Any] = {}
    for number, (source, (seconds, size, rate)) in enumerate(SOURCES.items()):
        video = videos / f"{number}.mp4"
        if not video.is_file():
            timing.write_source(video, seconds, size, number, rate)
        sizes[source] = {"bytes": video.stat().st_size}
        cases[f"check --deep: {source}"] = partial(look, video)
        for keys, (frames, pixels) in SETTINGS.items():
            of, settings = folder / f"{number}-{frames}-{pixels}", ClipSettings(frames=frames, max_pixels=pixels)
            clip = make_clip(video, of / "clip.mp4", settings)
            name = f"{source}; clips {keys}"
            cases[f"prepare: {name}"] = partial(make_clip, video, of / "again.mp4", settings)
            sizes[name] = {"bytes": (of / "clip.mp4").stat().st_size}
            sizes[name] |= {"frames": clip.frames, "width": clip.width, "height": clip.height}
            if source == [*SOURCES][-1]:
                with contextlib.redirect_stdout(sys.stderr):  # LLaMA-Factory prints its first sample
                    read = loader.loader(of, clip.frames, pixels)
                cases[f"preprocessing: clips {keys}"] = read.tokenize
                cases[f"training sample: clips {keys}"] = partial(read.batch, str(of / "clip.mp4"))
    spent = timing.rounds(cases, rounds)
    timing.print_rounds(spent)
    for name, figures in sizes.items():
        print(name, figures)
    timing.write("sources", {"rounds": spent, "sizes": sizes})


if __name__ == "__main__":
    main()
