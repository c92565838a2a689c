"""Samples that show the same: the same bytes, or the same pictures encoded anew, rescaled or in another container.

Pictures are compared by what changes in them: clips of one static camera have the same place, and only what moves in
them tells a copy from another clip.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rbft_plugin.data.annotations import Sample
from rbft_plugin.errors import Finding
from rbft_plugin.files import sha256

# Chosen on 240 scenes of demo.synthetic_video over one background, seen by its noisy, shaking night camera (28,680
# pairs of different clips), and then measured on others: docs/check.md has the tables.
SIDE, STEPS = 16, 8  # of a thumbnail in pixels; thumbnails a video
NOISE = 3.0  # changes of a pixel below so many robust standard deviations are no motion
LEAST_MOTION = 1.0  # root mean square in grey levels; below it, two clips of a static camera look alike anyway
SAME_MOTION, SAME_PLACE = 0.88, 0.85  # correlations
SAME_LENGTH = 1.08  # ratio of durations: a few percent may have been cut off
CHUNK = 1000


@dataclass(frozen=True, eq=False)
class PictureFingerprint:
    """What is compared of a video: the changes of thumbnails (float16, unit length), what stands still, its seconds.

    `motion` is None where too little moves to tell a copy from another clip of the same static camera.
    """

    motion: np.ndarray | None
    place: np.ndarray
    seconds: float


def same_bytes(files: Iterable[Path]) -> dict[Path, str]:
    """Digest of each file that has the size of another; others cannot be equal to any. Each is read once."""
    sizes: dict[int, set[Path]] = defaultdict(set)
    for file in files:
        sizes[file.stat().st_size].add(file)
    digests = {}
    for equal in sizes.values():
        for file in sorted(equal) if len(equal) > 1 else []:
            digests[file] = sha256(file)
    return digests


def picture_fingerprint(frames: np.ndarray, seconds: float) -> PictureFingerprint:
    """The fingerprint of uint8 frames (n, height, width, 3) taken at the middles of n equal parts of a video.

    The median of SIDE x SIDE thumbnails is what stands still. What differs from it is motion, once noise is taken off:
    each value is drawn to 0 by NOISE times the median absolute difference (scaled to a standard deviation).
    """
    from PIL import Image

    chosen = frames[((np.arange(STEPS) + 0.5) / STEPS * len(frames)).astype(int)]
    small = [Image.fromarray(f).resize((SIDE, SIDE), Image.Resampling.BOX, reducing_gap=2.0) for f in chosen]
    thumbs = np.stack([np.asarray(s, dtype=np.float32) for s in small])
    still = np.median(thumbs, axis=0)
    change = thumbs - still
    noise = 1.4826 * float(np.median(np.abs(change)))
    change = np.sign(change) * np.maximum(np.abs(change) - NOISE * noise, 0)
    length = float(np.linalg.norm(change))
    moves = length >= LEAST_MOTION * math.sqrt(change.size)
    place = still - still.mean(axis=(0, 1))
    return PictureFingerprint((change / length).ravel().astype(np.float16) if moves else None, place.ravel(), seconds)


def same_pictures(fingerprints: Sequence[PictureFingerprint]) -> list[list[int]]:
    """Indices of the groups, of two or more, of videos that show the same.

    All pairs are compared by blocks of a matrix product: 12 kB a video, and time that grows with the square of their
    number (10,000 videos: 123 MB and 8 s on one core).
    """
    moving = [i for i, one in enumerate(fingerprints) if one.motion is not None]
    pairs = []
    for start in range(0, len(moving), CHUNK):
        rows = moving[start : start + CHUNK]
        block = _stacked(fingerprints, rows)
        for other in range(start, len(moving), CHUNK):
            columns = moving[other : other + CHUNK]
            close = block @ (block if other == start else _stacked(fingerprints, columns)).T > SAME_MOTION
            for i, j in zip(*np.nonzero(close), strict=True):
                if rows[i] < columns[j] and _agree(fingerprints[rows[i]], fingerprints[columns[j]]):
                    pairs.append((rows[i], columns[j]))
    return _groups(pairs, len(fingerprints))


def _stacked(fingerprints: Sequence[PictureFingerprint], indices: list[int]) -> np.ndarray:
    return np.stack([np.asarray(fingerprints[i].motion, dtype=np.float32) for i in indices])


def _agree(one: PictureFingerprint, other: PictureFingerprint) -> bool:
    """Whether length and place are the same too. A plain picture has hardly a shape to compare: hence the 9."""
    if max(one.seconds, other.seconds) > SAME_LENGTH * min(one.seconds, other.seconds):
        return False
    a, b = one.place, other.place
    return float((a * b).mean() + 9) > SAME_PLACE * math.sqrt(float((a * a).mean() + 9) * float((b * b).mean() + 9))


def _groups(pairs: list[tuple[int, int]], n: int) -> list[list[int]]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not pairs:
        return []
    rows, columns = zip(*pairs, strict=True)
    _, labels = connected_components(coo_array((np.ones(len(pairs)), (rows, columns)), shape=(n, n)), directed=False)
    members: dict[Any, list[int]] = defaultdict(list)
    for i, label in enumerate(labels.tolist()):
        members[label].append(i)
    return [group for group in members.values() if len(group) > 1]


def findings(fingerprints: Mapping[Sample, PictureFingerprint | None]) -> list[Finding]:
    """Samples that show the same as others; across splits a model would be tested on what it was trained on.

    Samples without a fingerprint are compared by their files alone.
    """
    digests = same_bytes(sample.video for sample in fingerprints)
    of_content: dict[object, list[Sample]] = defaultdict(list)
    for sample in fingerprints:
        of_content[digests.get(sample.video, sample.video)].append(sample)
    results: list[Finding] = []
    first: list[Sample] = []  # those that are no copy of an earlier one, whose pictures are then compared
    for same in of_content.values():
        copies = _copies(same, "is byte for byte the same as", lambda one, other: one.part.overlaps(other.part))
        results += copies or _parts(same)
        first += [s for i, s in enumerate(same) if not any(s.part.overlaps(other.part) for other in same[:i])]
    seen = [(sample, one) for sample in first if (one := fingerprints[sample]) is not None]
    for indices in same_pictures([one for _, one in seen]):
        results += _copies([seen[i][0] for i in indices], "looks like another encoding of")
    text = "hardly anything moves in it, so a copy of it in another encoding cannot be recognized"
    return results + [
        Finding("note", "still-video", s.named, f"{s.video}: {text}") for s, one in seen if one.motion is None
    ]


def _copies(
    same: Sequence[Sample], how: str, shared: Callable[[Sample, Sample], bool] = lambda one, other: True
) -> list[Finding]:
    """Findings on all but the first of `same`, whose samples show the same thing.

    A sample gets one if `shared` relates it to a sample before it, or to any sample of another split.
    """
    results = []
    for i, sample in enumerate(same):
        others = [s for s in same[:i] if shared(s, sample)]
        others = [s for s in same if i and s.split != sample.split and shared(s, sample)] + others
        if not others:
            continue
        other = others[0]
        text = f"{sample.video} ({sample.split}) {how} {other.video} of {other.named} ({other.split})"
        if sample.video == other.video and sample.part != other.part:
            text = f"its part of {sample.video} ({sample.split}) overlaps that of {other.named} ({other.split})"
        if sample.label != other.label:
            text += f", with another label: {sample.label or 'none'}, not {other.label or 'none'}"
        if sample.split == other.split:
            results.append(Finding("warning", "duplicate", sample.named, text))
        else:
            results.append(Finding("error", "duplicate-across-splits", sample.named, text))
    return results


def _parts(samples: Sequence[Sample]) -> list[Finding]:
    """Different parts of one video in different splits: no copy, but what stays the same in them may tell the label."""
    splits = Counter(s.split or "" for s in samples)
    if len(splits) < 2:
        return []
    text = f"parts of {samples[0].video} are in {' and '.join(f'{s} ({n})' for s, n in splits.items())}: place, people "
    text += "and light may tell the label; splits.group keeps what is of one source together"
    return [Finding("warning", "source-across-splits", samples[0].named, text)]
