"""Predict the labels of new videos. The model sees each as in training: as a canonical clip, which is then deleted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rbft_plugin.clips.canonical import make_clip
from rbft_plugin.clips.video import VideoError, probe
from rbft_plugin.data import prompts
from rbft_plugin.errors import RbftError
from rbft_plugin.model import checkpoint
from rbft_plugin.scoring.answers import listed_options, parse
from rbft_plugin.spec.dataset import available, load


@dataclass(frozen=True)
class Prediction:
    """`label` is None where the answer names no label or several; `problem` says why there is no answer at all."""

    video: Path
    label: str | None = None
    answer: str = ""
    problem: str = ""


def predict(model: str, videos: Sequence[Path], dataset: str | None, device: str | None) -> Iterator[Prediction]:
    """Yield one prediction a video, in order. A video that cannot be read gets a `problem`; the others go on."""
    trained = checkpoint.read(model)
    name = dataset or trained.dataset
    if name is None:
        raise RbftError(f"{model} does not say what it was trained on; give --dataset ({', '.join(available())})")
    spec = load(name)

    from rbft_plugin.model.generate import generate
    from rbft_plugin.model.inputs import batch_inputs
    from rbft_plugin.model.load import load_model

    loaded, processor = load_model(trained.base, trained.adapters, device)
    prompt = prompts.label(spec)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        for video in videos:
            try:
                probe(video)
                make_clip(video, clip, spec.clips)
            except VideoError as error:
                yield Prediction(video, problem=str(error))
                continue
            answer = generate(loaded, processor, batch_inputs(processor, [clip], [prompt]), {"max_new_tokens": 64})[0]
            label = parse(answer.text, spec.label_names, listed_options(prompt, spec.label_names))
            yield Prediction(video, label, answer.text)
