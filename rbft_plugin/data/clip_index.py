"""What is known of the clips that were made: data/<name>/sources/*.jsonl, a line a clip, added when it is done.

Each process that prepares adds to a file of its own kind (a shard's, or `all`), and reads all of them when it starts.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from typing import Any

from rbft_plugin.clips.video import Part
from rbft_plugin.data.prepared import DataFolder

Key = tuple[str, int, int, Part, str]


@dataclass(frozen=True, slots=True)
class MadeClip:
    """A clip and what it came from; `settings` and `source` are hashes, `size` is the clip's in bytes."""

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

    @property
    def key(self) -> Key:
        """What a clip is looked up by: a source that is changed has another time or size."""
        return self.path, self.bytes, self.mtime_ns, self.part, self.settings


def read(folder: DataFolder) -> dict[Key, MadeClip]:
    """All clips that were made below `folder`. Lines that are not whole are passed over: a process was ended there."""
    known: dict[Key, MadeClip] = {}
    for file in sorted(folder.clip_index.glob("*.jsonl")):
        for line in file.read_bytes().splitlines():
            try:
                fields: dict[str, Any] = json.loads(line)
                made = MadeClip(**fields | {"part": Part(*fields["part"])})
            except (ValueError, TypeError, KeyError):
                continue
            known[made.key] = made
    return known


class Writer:
    """Adds lines to a journal; each goes to the disk in one piece, so that several processes may add to one file."""

    def __init__(self, folder: DataFolder, name: str) -> None:
        path = folder.clip_index / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        size = os.fstat(self.file).st_size
        if size and os.pread(self.file, 1, size - 1) != b"\n":  # a process was ended in the middle of a line
            os.write(self.file, b"\n")

    def add(self, made: MadeClip) -> None:
        part = [made.part.start, made.part.end, made.part.cut]
        os.write(self.file, (json.dumps(asdict(made) | {"part": part}, ensure_ascii=False) + "\n").encode())

    def close(self) -> None:
        os.close(self.file)
