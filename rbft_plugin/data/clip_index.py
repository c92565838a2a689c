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

from rbft_plugin.clips.video import Part
from rbft_plugin.data.prepared import DataFolder


class ClipKey(NamedTuple):
    """What a clip is looked up by. A video that was changed has another size or time; `settings` is a hash."""

    path: str
    bytes: int
    mtime_ns: int
    part: Part
    settings: str


@dataclass(frozen=True, slots=True)
class MadeClip:
    """A clip and the video that it was made of. `path`, `bytes`, `mtime_ns`, `part` and `settings` are its `ClipKey`.

    `source` is the hash of the video, `clip` the name of the clip's file, and `size` the size of that file in bytes.
    """

    path: str
    bytes: int
    mtime_ns: int
    part: Part
    settings: str
    source: str
    clip: str
    frames: int
    width: int
    height: int
    fps: float
    size: int


def read(folder: DataFolder) -> dict[ClipKey, MadeClip]:
    """All clips that the index of a dataset has. An incomplete line, left by a process that was killed, is skipped."""
    index: dict[ClipKey, MadeClip] = {}
    for file in sorted(folder.clip_index.glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            try:
                fields: dict[str, Any] = json.loads(line)
                made = MadeClip(**fields | {"part": Part(*fields["part"])})
            except (ValueError, TypeError, KeyError):
                continue
            index[ClipKey(made.path, made.bytes, made.mtime_ns, made.part, made.settings)] = made
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
            fields = asdict(made) | {"part": astuple(made.part)}
            file.write((json.dumps(fields, ensure_ascii=False) + "\n").encode())

        if size := file.seek(0, os.SEEK_END):
            file.seek(size - 1)
            if file.read(1) != b"\n":  # a process was killed while it wrote a line
                file.write(b"\n")
        yield add
