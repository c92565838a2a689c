"""What the tests build: videos, clips, a small dataset, evaluations."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from PIL import Image

from rbft_plugin import files
from rbft_plugin.cli.registrations import register
from rbft_plugin.clips.canonical import write_clip
from rbft_plugin.data.prepare import prepare as prepare_data
from rbft_plugin.data.prepared import DataFolder, Manifest, PreparedSample, write_jsonl
from rbft_plugin.demo.synthetic_video import GENERAL, NIGHT, frame_times, random_scene, render
from rbft_plugin.report.evaluations import Evaluation
from rbft_plugin.spec.dataset import ClipSettings, load

BASE = Path(__file__).parents[1] / "rbft_plugin/demo/base"
QUIET = lambda items, total, text: items  # noqa: E731


def prepare(dataset: Any, progress: Any = QUIET, **options: Any) -> Any:
    """What `rbft prepare` does."""
    prepared = prepare_data(dataset, progress, **options)
    register(dataset)
    return prepared


def write_video(
    path: Path, seconds: float = 4.0, fps: int = 4, size: tuple[int, int] = (112, 112), seed: int = 0, **options: Any
) -> Path:
    """A video of a moving thing; `size` is (width, height), `options` go to the encoder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_video(path.suffix, seconds, fps, size, seed, tuple(options.items())))
    return path


@cache
def _video(
    suffix: str, seconds: float, fps: int, size: tuple[int, int], seed: int, options: tuple[tuple[str, Any], ...]
) -> bytes:
    """The file that `write_video` writes: many tests ask for the same videos."""
    rng = random.Random(seed)
    frames = render(random_scene(rng), NIGHT, frame_times(max(1, round(seconds * fps))), rng)
    with TemporaryDirectory() as folder:
        return encode(Path(folder, f"video{suffix}"), frames, fps, size, **dict(options)).read_bytes()


def encode(path: Path, frames: Any, fps: int, size: tuple[int, int] = (112, 112), **options: Any) -> Path:
    """A video of uint8 frames (n, height, width, 3), scaled to `size`."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    codec = options.pop("codec", "libx264")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps), options={"crf": "18", "threads": "1", **options})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            picture = np.asarray(Image.fromarray(frame).resize(size))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_clips(folder: Path, lengths: list[int]) -> list[Path]:
    """Canonical clips of these numbers of frames, of two sizes and several frame rates."""
    paths = []
    for i, length in enumerate(lengths):
        rng = random.Random(i)
        frames = render(random_scene(rng), GENERAL, frame_times(length), rng)
        size = (56, 56) if i % 3 else (84, 56)
        paths.append(folder / f"{i}.mp4")
        small = np.stack([np.asarray(Image.fromarray(f).resize(size)) for f in frames])
        write_clip(paths[-1], small, Fraction(1000, 500 + 100 * i), 18)
    return paths


def small_yaml(name: str = "mine", **changes: Any) -> dict[str, Any]:
    """The content of a dataset YAML with two labels; `changes` replace top-level keys, None removes one."""
    content: dict[str, Any] = {
        "name": name,
        "annotations": {"file": f"{name}.csv", "id": "id", "label": "label"},
        "videos": f"{name}_videos/{{id}}.mp4",
        "labels": [
            {"name": "calm", "description": "Nothing happens."},
            {"name": "busy", "description": "Something happens."},
        ],
        "splits": {"column": "split"},
        "clips": {"frames": 8, "max_fps": 2, "max_pixels": 3136, "multiple": 28},
    }
    content |= changes
    return {k: v for k, v in content.items() if v is not None}


def write_yaml(content: dict[str, Any]) -> Path:
    path = Path("dataset_info") / f"{content['name']}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def write_csv(path: str | Path, rows: list[dict[str, str]]) -> None:
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def small_dataset(name: str = "mine", per_split: dict[str, int] | None = None, **changes: Any) -> list[dict[str, str]]:
    """Write a dataset of short videos, both labels in every split; returns its annotation rows."""
    rows = []
    for split, count in (per_split or {"train": 4, "val": 2, "test": 4}).items():
        for i in range(count):
            row = {"id": f"{split}{i}", "split": split, "label": ("calm", "busy")[i % 2]}
            write_video(Path(f"{name}_videos/{row['id']}.mp4"), seconds=3 + i % 3, seed=len(rows))
            rows.append(row)
    write_csv(f"{name}.csv", rows)
    write_yaml(small_yaml(name, **changes))
    return rows


FIVE_SAMPLES = {"train": 2, "val": 1, "test": 2}  # for `small_dataset`


def prepare_mine(**options: Any) -> dict[str, Any]:
    """Prepare the dataset `mine`; returns its manifest as JSON values."""
    return prepare(load("mine"), **options).manifest.model_dump()


def clip_of(split: str = "train", index: int = 0) -> Path:
    """The clip of a prepared sample of `mine`."""
    return Path(read_jsonl(f"data/mine/{split}.jsonl")[index]["video"])


def clip_times() -> dict[Path, int]:
    """The clips of `mine`, and when each was written."""
    return {clip: clip.stat().st_mtime_ns for clip in Path("data/mine/clips").iterdir()}


def prepared_sample(sample_id: str, label: str | None = "calm", **changes: Any) -> PreparedSample:
    """A sample of a prepared split of the small dataset; its clip need not exist."""
    fields: dict[str, Any] = {
        "id": sample_id,
        "video": f"data/mine/clips/{sample_id}.mp4",
        "label": label,
        "labels": ("calm", "busy"),
        "rationale_prompt": "Why?",
        "hinted_prompt": f"Why is it {label}?" if label else None,
        "label_prompt": "Which?",
        "after_video": "",
        "meta": {"source": f"raw/{sample_id}.mp4", "start": 0, "seconds": 4, "frames": 8, "width": 56, "height": 56},
    }
    return PreparedSample.model_validate(fields | changes)


def write_prepared(name: str = "mine", **splits: list[PreparedSample]) -> None:
    """A prepared dataset without clips, in the current folder."""
    folder = DataFolder(name)
    for split, samples in splits.items():
        write_jsonl(folder.samples(split), (sample.model_dump() for sample in samples))
    counts = {split: dict(Counter(sample.label or "" for sample in samples)) for split, samples in splits.items()}
    manifest = Manifest(
        dataset=name, counts=counts, clips=ClipSettings(), largest_clip_pixels=3136, most_frames=8, sha256={}
    )
    files.write_json(folder.manifest, manifest.model_dump())


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


TARGETS = ("a", "a", "a", "b", "b", "b")


def scored(arm: str, predictions: tuple[str | None, ...], seed: int = 0, **changes: Any) -> Evaluation:
    """An evaluation of up to six clips with TARGETS, small enough to be done by hand."""
    n = len(predictions)
    one = Evaluation(
        arm=arm,
        seed=seed,
        ids=tuple(f"clip{number}" for number in range(n)),
        targets=TARGETS[:n],
        predictions=predictions,
        answers=tuple(f"The answer is {prediction}." for prediction in predictions),
        labels=("a", "b"),
        dataset="demo",
    )
    return replace(one, **changes)


def random_scored(labels: tuple[str, ...], n: int, arms: dict[str, tuple[int, ...]]) -> list[Evaluation]:
    """Arms of rising skill, with the seeds given; some samples are not answered; those after the first have
    probabilities."""
    rng = np.random.default_rng(0)
    targets = tuple(labels[code] for code in rng.integers(len(labels), size=n))
    ids = tuple(f"clip{number}" for number in range(n))
    evaluations = []
    for place, (arm, seeds) in enumerate(arms.items()):
        for seed in seeds:
            right, silent = rng.random(n) < 0.3 + 0.2 * place, rng.random(n) < 0.1
            guesses = [labels[code] for code in rng.integers(len(labels), size=n)]
            predictions = tuple(
                target if r else None if s else guess
                for target, guess, r, s in zip(targets, guesses, right, silent, strict=True)
            )
            answers = tuple(f"{p}" for p in predictions)
            rows = rng.dirichlet(np.ones(len(labels)), size=n)
            probabilities = tuple(map(tuple, rows.tolist())) if place else None
            evaluations.append(Evaluation(arm, seed, ids, targets, predictions, answers, labels, "demo", probabilities))
    return evaluations
