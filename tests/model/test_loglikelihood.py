"""Scores from a shared cache equal those of one full forward pass a label, in every family."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import FAMILIES, build
from PIL import Image

from rbft_plugin.clips.canonical import write_clip
from rbft_plugin.demo.synthetic_video import GENERAL, frame_times, random_scene, render
from rbft_plugin.model import loglikelihood
from rbft_plugin.model.generate import generate
from rbft_plugin.model.inputs import batch_inputs
from rbft_plugin.model.load import load_model
from rbft_plugin.model.loglikelihood import answer_ids, end_of_turn, score

pytestmark = pytest.mark.torch

# One token and many, common first tokens, one label inside another, one label a prefix of another.
LABELS = ["a", "walk", "walking", "walk away", "walk away from a box that was left behind", "不审者", "box"]
SHAPES = [(8, 112, 56), (2, 56, 56), (12, 56, 112), (4, 84, 84)]  # frames, width, height
PROMPTS = ["Which is it?", "Say which of these classes the video belongs to.", "Well?", "Which one do you see here?"]


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = build(request.param, tmp_path_factory.mktemp(request.param))
    return load_model(str(folder), device="cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, paths = tmp_path_factory.mktemp("clips"), []
    for i, (length, *size) in enumerate(SHAPES):
        rng = random.Random(i)
        frames = render(random_scene(rng), GENERAL, frame_times(length), rng)
        paths.append(folder / f"{i}.mp4")
        small = np.stack([np.array(Image.fromarray(f).resize(tuple(size))) for f in frames])
        write_clip(paths[-1], small, Fraction(1000, 500 + 700 * i), 18)
    return paths


@torch.no_grad()
def naive(model: Any, inputs: Any, ids: list[int]) -> tuple[float, bool]:
    """Sum of log-probabilities from one full forward pass over an unpadded prompt and its answer."""
    answer = torch.tensor([ids])
    prompt = inputs["input_ids"].shape[1]
    whole = dict(inputs) | {"input_ids": torch.cat([inputs["input_ids"], answer], 1)}
    whole["attention_mask"] = torch.ones_like(whole["input_ids"])
    logits = model(**whole, use_cache=False).logits[0, prompt - 1 : -1].float()
    logprobs = logits.log_softmax(-1).gather(1, answer[0][:, None])
    return float(logprobs.sum()), bool((logits.argmax(-1) == answer[0]).all())


def test_a_mixed_batch_is_scored_as_by_full_forward_passes(loaded: Any, videos: list[Path]) -> None:
    model, processor = loaded
    answers = [answer_ids(processor, label) for label in LABELS]
    together = score(model, batch_inputs(processor, videos, PROMPTS), [answers] * len(videos))
    assert [[likelihood.tokens for likelihood in row] for row in together] == [[len(a) for a in answers]] * len(videos)
    for video, prompt, row in zip(videos, PROMPTS, together, strict=True):
        alone = batch_inputs(processor, [video], [prompt])
        expected = [naive(model, alone, ids)[0] for ids in answers]
        assert [likelihood.logprob for likelihood in row] == pytest.approx(expected, abs=1e-4)
        assert len({round(e, 3) for e in expected}) == len(LABELS)


def test_rows_may_have_answers_of_their_own_or_none(loaded: Any, videos: list[Path]) -> None:
    model, processor = loaded
    own = [["walk", "a"], [], ["walking away"], [""]]
    answers = [[answer_ids(processor, label) for label in row] for row in own]
    together = score(model, batch_inputs(processor, videos, PROMPTS), answers)
    assert list(map(len, together)) == [2, 0, 1, 1]
    for i, row in enumerate(together):
        alone = batch_inputs(processor, videos[i : i + 1], PROMPTS[i : i + 1])
        assert [f.logprob for f in row] == pytest.approx([naive(model, alone, ids)[0] for ids in answers[i]], abs=1e-4)
    assert together[3][0].tokens == 1  # the end of turn alone


def test_without_a_video(loaded: Any, videos: list[Path]) -> None:
    model, processor = loaded
    answers = [answer_ids(processor, label) for label in LABELS]
    for row_videos in ([None, None], [videos[0], None], [None, videos[0]]):
        together = score(model, batch_inputs(processor, row_videos, PROMPTS[:2]), [answers] * 2)
        for video, prompt, row in zip(row_videos, PROMPTS[:2], together, strict=True):
            alone = batch_inputs(processor, [video], [prompt])
            assert [f.logprob for f in row] == pytest.approx([naive(model, alone, a)[0] for a in answers], abs=1e-4)


def test_greedy_is_what_greedy_decoding_answers(loaded: Any, videos: list[Path]) -> None:
    model, processor = loaded
    inputs = batch_inputs(processor, videos[:2], PROMPTS[:2])
    out = model.generate(**inputs, max_new_tokens=6, do_sample=False, eos_token_id=-1, pad_token_id=0)
    decoded = out[:, inputs["input_ids"].shape[1] :].tolist()
    answers = [decoded[0], decoded[0][:3], [*decoded[0][:5], decoded[0][5] + 1], decoded[1]]
    greedy = [[likelihood.greedy for likelihood in row] for row in score(model, inputs, [answers] * 2)]
    assert greedy == [[True, True, False, decoded[0] == decoded[1]], [decoded[0] == decoded[1]] * 2 + [False, True]]


def test_answers_in_several_passes_score_as_in_one(
    loaded: Any, videos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = loaded
    inputs = batch_inputs(processor, videos, PROMPTS)
    answers = [[answer_ids(processor, label) for label in LABELS]] * len(videos)
    in_one_pass = score(model, inputs, answers)
    passes = []
    handle = model.register_forward_pre_hook(lambda m, a, k: passes.append(len(k["input_ids"])), with_kwargs=True)
    monkeypatch.setattr(loglikelihood, "MOST_ROWS", 5)
    several = score(model, inputs, answers)
    handle.remove()
    assert passes == [4, 5, 5, 5, 5, 5, 3]
    for a, b in zip(in_one_pass, several, strict=True):
        assert [f.logprob for f in a] == pytest.approx([f.logprob for f in b], abs=1e-5)


def test_answers_of_a_batch_equal_those_of_its_samples_alone(loaded: Any, videos: list[Path]) -> None:
    model, processor = loaded
    settings = {"max_new_tokens": 24}
    together = generate(model, processor, batch_inputs(processor, videos, PROMPTS), settings)
    alone = [
        generate(model, processor, batch_inputs(processor, [v], [p]), settings)[0]
        for v, p in zip(videos, PROMPTS, strict=True)
    ]
    assert together == alone
    assert len({g.text for g in together}) == len(videos)  # they depend on the video


def test_an_answer_ends_as_training_targets_do(loaded: Any) -> None:
    _, processor = loaded
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end_of_turn(processor) == end
    assert answer_ids(processor, "walk away") == [*processor.tokenizer("walk away")["input_ids"], end]
    processor.tokenizer.eos_token = "<|endoftext|>"  # as in some base models
    try:
        assert end_of_turn(processor) == end
    finally:
        processor.tokenizer.eos_token = "<|im_end|>"
