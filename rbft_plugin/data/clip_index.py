"""The index of clips: data/<name>/sources/*.jsonl has a line for each clip that was made, added when it was done.

A process adds lines to one file (that of its shard, or `all.jsonl`), and reads all files when it starts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from typing import Any, NamedTuple

from rbft_plugin.clips.video import Clip, Part
from rbft_plugin.data.prepared import DataFolder, json_line


class ClipKey(NamedTuple):
    """What a clip is looked up by: its video with size and time of the last change, part, and hash of the settings."""

    path: str
    bytes: int
    mtime_ns: int
    part: Part
    settings: str


@dataclass(frozen=True, slots=True)
class MadeClip:
    """A clip and what it was made of. `source` is the hash of the video, `size` that of the clip's file in bytes."""

    key: ClipKey
    source: str
    name: str
    clip: Clip
    size: int


def read(folder: DataFolder) -> dict[ClipKey, MadeClip]:
    """All clips that the index of a dataset has. An incomplete line, left by a process that was killed, is skipped."""
    index: dict[ClipKey, MadeClip] = {}
    for file in sorted(folder.clip_index.glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            try:
                row: dict[str, Any] = json.loads(line)
                key = ClipKey(row["path"], row["bytes"], row["mtime_ns"], Part(*row["part"]), row["settings"])
                clip = Clip(row["frames"], row["width"], row["height"], row["fps"])
                index[key] = MadeClip(key, row["source"], row["clip"], clip, row["size"])
            except (ValueError, TypeError, KeyError):
                continue
    return index


@contextmanager
def adding(folder: DataFolder, name: str) -> Iterator[Callable[[MadeClip], None]]:
    """A function that adds a clip to <name>.jsonl of the index.

    It writes a line in one piece, so that several processes can add to one file.
    """
    path = folder.clip_index / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b", buffering=0) as file:

        def add(made: MadeClip) -> None:
            key = made.key._asdict() | {"part": astuple(made.key.part)}
            row = key | {"source": made.source, "clip": made.name} | asdict(made.clip) | {"size": made.size}
            file.write(json_line(row).encode())

        if size := file.seek(0, os.SEEK_END):
            file.seek(size - 1)
            if file.read(1) != b"\n":  # a process was killed while it wrote a line
                file.write(b"\n")
        yield add
