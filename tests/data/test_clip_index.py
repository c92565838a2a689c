"""clip_index: what is kept of a clip that was made, and what a torn line costs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from builders import (
    FIVE_SAMPLES,
    clip_of,
    prepare,
    prepare_mine,
    small_dataset,
)

from rbft_plugin.clips.canonical import settings_key
from rbft_plugin.spec import dataset


def test_what_is_known_of_clips_is_a_line_each_and_a_torn_one_is_passed_over(ws: Path) -> None:
    small_dataset(per_split=FIVE_SAMPLES)
    first = prepare_mine()
    path = Path("data/mine/sources/all.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 5
    by_path = {json.loads(line)["path"]: line for line in lines}
    last = by_path["mine_videos/train0.mp4"]
    source, clip = Path("mine_videos/train0.mp4"), clip_of()
    assert json.loads(last) == {
        "path": "mine_videos/train0.mp4",
        "bytes": source.stat().st_size,
        "mtime_ns": source.stat().st_mtime_ns,
        "part": [0.0, None, 0.0],
        "settings": settings_key(dataset.load("mine").clips),
        "source": hashlib.sha256(source.read_bytes()).hexdigest(),
        "clip": clip.name,
        **{"frames": 6, "width": 56, "height": 56, "fps": 2.0, "size": clip.stat().st_size},
    }
    path.write_bytes(b"".join(line for line in lines if line != last) + last[:-30])  # as if killed while writing
    clip.unlink()
    result = prepare(dataset.load("mine"))
    assert (result.new, result.manifest.model_dump()) == (1, first)
    assert path.read_bytes().splitlines(keepends=True)[-1] == last
    assert prepare(dataset.load("mine")).new == 0
