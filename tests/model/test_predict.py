"""`rbft predict` with the demo's tiny model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from builders import BASE, write_video

from rbft_plugin.clips.canonical import make_clip
from rbft_plugin.data import prompts
from rbft_plugin.errors import RbftError
from rbft_plugin.model.predict import Prediction, predict
from rbft_plugin.scoring.answers import parse
from rbft_plugin.spec.dataset import available, load

pytestmark = pytest.mark.torch


def test_videos_are_labelled_in_order_and_an_unreadable_one_stops_no_other(ws: Path) -> None:
    from rbft_plugin.model.generate import generate
    from rbft_plugin.model.inputs import batch_inputs
    from rbft_plugin.model.load import load_model

    videos = [write_video(ws / "one.mp4", seed=1), ws / "gone.mp4", write_video(ws / "two.mp4", 7, 10, seed=2)]
    (ws / "text.mp4").write_text("no video")
    first, gone, second, text = predict(str(BASE), [*videos, ws / "text.mp4"], "demo", "cpu")
    assert gone == Prediction(ws / "gone.mp4", problem="does not exist")
    assert text.problem == "cannot be opened (Invalid data found when processing input)"
    spec = load("demo")
    model, processor = load_model(str(BASE), device="cpu")
    for prediction, video in ((first, videos[0]), (second, videos[2])):
        make_clip(video, ws / "clip.mp4", spec.clips)  # as training would have seen it
        inputs = batch_inputs(processor, [ws / "clip.mp4"], [prompts.label(spec)])
        answer = generate(model, processor, inputs, {"max_new_tokens": 64})[0].text
        assert prediction == Prediction(video, parse(answer, spec.label_names), answer)
        assert answer.strip()


def test_a_model_of_unknown_training_needs_a_dataset(ws: Path) -> None:
    with pytest.raises(RbftError) as error:
        list(predict(str(BASE), [], None, "cpu"))
    assert str(error.value) == f"{BASE} does not say what it was trained on; give --dataset ({', '.join(available())})"


def test_an_unknown_dataset_is_refused_before_the_model_is_loaded(ws: Path) -> None:
    message = f"dataset_info/nope.yaml: no such dataset. There are: {', '.join(available())}"
    with pytest.raises(RbftError, match=f"^{re.escape(message)}"):
        list(predict(str(BASE), [], "nope", "cpu"))
