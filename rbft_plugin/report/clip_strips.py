"""What the page shows of videos: where they come from, their rationales, and a strip of their frames."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rbft_plugin.data.prepared import DataFolder, PreparedSample, read_jsonl, read_split, read_training_rows
from rbft_plugin.run import layout
from rbft_plugin.spec.dataset_sources import Split

BUDGET = 20_000_000  # bytes that all strips may take in the page
# (frames a strip, height in pixels, JPEG quality), best first: the first that fits the budget is taken.
TIERS = ((8, 112, 74), (8, 96, 70), (8, 80, 64), (6, 72, 60), (6, 64, 55), (4, 64, 50), (4, 48, 45), (3, 40, 40))
GAP, GREY = 2, (128, 128, 128)  # pixels between frames
MEASURED = 16  # strips that are made to choose among TIERS
AT_ONCE = 256  # strips that are made before the budget is looked at again


@dataclass(frozen=True)
class Video:
    """A sample of the scored split, or one with a rationale. `rationale` can be the reason why there is none."""

    id: str
    split: str
    label: str | None
    clip: Path
    source: str
    seconds: float | None
    rationale: str | None = None


@dataclass(frozen=True)
class Strips:
    """JPEG strips in base64 by sample id, and how they were made, in words."""

    of: dict[str, str]
    said: str


def videos(dataset: str, run: Path | None, split: Split = "test") -> list[Video]:
    """The samples of a split, then other training samples with a rationale: those of the run, or in data/<dataset>.

    With folds, samples of the test have rationales too. A rationale that was dropped is shown with its reason.
    """
    samples = read_split(dataset, split)
    own = layout.collected_rationales(run) if run else []
    file = next(iter(own), DataFolder(dataset).rows("rationale"))
    if split == "train" or not file.is_file():
        return [_video(sample, split) for sample in samples]
    written = {row.id: row.answer for row in read_training_rows(file)}
    dropped = file.with_name("rationale.dropped.jsonl")
    for one in read_jsonl(dropped) if dropped.is_file() else []:
        written.setdefault(str(one["id"]), f"(dropped: {one['reason']}) {one['text'] or ''}".strip())
    scored = {sample.id for sample in samples}
    others = [one for one in read_split(dataset, "train") if one.id in written and one.id not in scored]
    return [
        *(_video(sample, split, written.get(sample.id)) for sample in samples),
        *(_video(sample, "train", written[sample.id]) for sample in others),
    ]


def _video(sample: PreparedSample, split: str, rationale: str | None = None) -> Video:
    meta = sample.meta
    return Video(sample.id, split, sample.label, Path(sample.video), meta.source, meta.seconds, rationale)


def strips(shown: Sequence[Video]) -> Strips:
    """Strips of evenly spaced frames. They are smaller where there are more videos, so that the page stays small."""
    existing = [video for video in shown if video.clip.is_file()]
    absent = len(shown) - len(existing)
    lost = f" Without frames, since their clip is missing: {absent}." if absent else ""
    if not existing:
        return Strips({}, lost.strip())
    every = max(1, len(existing) // MEASURED)
    for tier in TIERS:
        sizes = [len(one) for video in existing[::every] if (one := strip(video.clip, *tier))]
        if sum(sizes) / max(1, len(sizes)) * len(existing) <= BUDGET:
            break
    by_id, size = {}, 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(existing), AT_ONCE):
            part = existing[start : start + AT_ONCE]
            for video, one in zip(part, pool.map(lambda video: strip(video.clip, *tier), part), strict=True):
                size += len(one or "")
                if one and size <= 1.5 * BUDGET:
                    by_id[video.id] = one
            if size > 1.5 * BUDGET:  # of many thousands, the rest would be decoded for nothing
                break
    description = f"Frames: at most {tier[0]} of each clip, {tier[1]} pixels high, of the clips that the models saw."
    if tier != TIERS[0]:
        description += " They are few and small so that this file stays small."
    if beyond := len(existing) - len(by_id):
        description += f" Without frames, since unreadable or beyond the file's size: {beyond}."
    return Strips(by_id, description + lost)


def strip(clip: Path, frames: int, height: int, quality: int) -> str | None:
    """At most `frames` frames side by side, no higher than `height` pixels, as JPEG in base64; None if unreadable."""
    import av
    from PIL import Image

    def spaced(every: list[Any]) -> list[Any]:
        count = min(frames, len(every))
        return [every[(2 * place + 1) * len(every) // (2 * count)] for place in range(count)]

    try:
        with av.open(str(clip)) as container:
            stream = container.streams.video[0]
            packets = [packet for packet in container.demux(stream) if packet.size]
            alone = all(packet.is_keyframe for packet in packets)  # as in every canonical clip: others are not decoded
            shown = [
                f for p in [*(spaced(packets) if alone else packets), None] for f in stream.codec_context.decode(p)
            ]
            picked = [frame.to_image() for frame in (shown if alone else spaced(shown))]
    except (av.FFmpegError, IndexError, OSError):
        return None
    if not picked:
        return None
    count = len(picked)
    scale = min(1.0, height / picked[0].height)
    size = (max(1, round(picked[0].width * scale)), max(1, round(picked[0].height * scale)))
    whole = Image.new("RGB", ((size[0] + GAP) * count - GAP, size[1]), GREY)
    for place, frame in enumerate(picked):
        whole.paste(frame.resize(size, Image.Resampling.LANCZOS), (place * (size[0] + GAP), 0))
    packed = io.BytesIO()
    whole.save(packed, "JPEG", quality=quality, optimize=True)
    return base64.b64encode(packed.getvalue()).decode()
