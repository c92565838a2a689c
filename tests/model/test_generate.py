"""Generation settings, stop texts, and draws that depend on a sample's own seed alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from builders import BASE, write_clips
from scipy.stats import chisquare

from rbft_plugin.errors import RbftError
from rbft_plugin.model.generate import Draw, GenerationSettings, _limits, generate, generation_settings, seed_of
from rbft_plugin.model.inputs import batch_inputs
from rbft_plugin.model.load import load_model

pytestmark = pytest.mark.torch

PROMPT = "Describe what happens in the video."
GREEDY = {"max_new_tokens": 32, "do_sample": False, "temperature": 0.0, "until": []}


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    return load_model(str(BASE), device="cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_clips(tmp_path_factory.mktemp("clips"), [8, 2, 6, 8])


@pytest.mark.parametrize(
    ("given", "sampling"),
    [
        ({}, None),
        ({"do_sample": False, "temperature": 0}, None),
        ({"do_sample": True, "temperature": 0}, None),
        ({"do_sample": True}, {"temperature": 1.0}),
        ({"do_sample": False, "temperature": 0.7}, {"temperature": 0.7}),  # --gen_kwargs over a task's YAML
        ({"temperature": 0.7, "top_p": 0.9, "top_k": None}, {"temperature": 0.7, "top_p": 0.9}),
    ],
)
def test_when_answers_are_sampled(given: dict[str, Any], sampling: dict[str, float] | None) -> None:
    assert generation_settings(given) == GenerationSettings(512, (), sampling, None, {})


def test_what_the_settings_mean() -> None:
    given = {"until": ["\n\n", ""], "max_new_tokens": 7, "seed": 3, "num_beams": 2, "repetition_penalty": 1.1}
    assert generation_settings(given) == GenerationSettings(
        7, ("\n\n",), None, 3, {"num_beams": 2, "repetition_penalty": 1.1}
    )
    assert generation_settings({"until": "."}).until == (".",)


def test_all_wrong_settings_are_said_at_once() -> None:
    with pytest.raises(RbftError) as error:
        generation_settings(
            {"max_gen_toks": 5, "max_new_tokens": 0, "temperature": "hot", "seed": 1.5, "num_return_sequences": 4}
        )
    assert str(error.value).splitlines() == [
        "generation_kwargs: 5 problems",
        "  - max_gen_toks: no setting of transformers' generate",
        "  - temperature: not a number: 'hot'",
        "  - max_new_tokens: not a whole number above 0: 0",
        "  - seed: not a whole number: 1.5",
        "  - num_return_sequences: for several answers a sample use lmms-eval's --repeats",
    ]
    with pytest.raises(RbftError, match="num_beams: cannot be sampled"):
        generation_settings({"temperature": 1.0, "num_beams": 2})


def test_until_ends_an_answer_and_the_work_on_it(loaded: Any, videos: list[Path]) -> None:
    model, processor = loaded
    inputs = batch_inputs(processor, videos[:2], [PROMPT] * 2)
    whole = generate(model, processor, inputs, GREEDY)
    passes = []
    handle = model.register_forward_pre_hook(lambda *_: passes.append(1))
    for until in ([" comes"], " comes", ["never", " comes"]):
        passes.clear()
        stopped = generate(model, processor, inputs, GREEDY | {"until": until})
        assert [s.text for s in stopped] == [w.text.split(" comes")[0] for w in whole]
        assert len(passes) == max(s.output_tokens for s in stopped) < min(w.output_tokens for w in whole)
    handle.remove()


def test_a_text_that_ends_answers_in_the_prompt_ends_none(loaded: Any, videos: list[Path]) -> None:
    model, processor = loaded
    inputs = batch_inputs(processor, videos[:1], [PROMPT])
    whole = generate(model, processor, inputs, GREEDY)
    assert generate(model, processor, inputs, GREEDY | {"until": ["assistant", "\n", "\nA"]}) == whole


def test_sampled_answers_do_not_depend_on_the_batch(loaded: Any, videos: list[Path]) -> None:
    model, processor = loaded
    settings = {"max_new_tokens": 24, "temperature": 3.0, "top_k": 50, "top_p": 0.95}
    shown = [videos[i % 4] for i in range(8)]
    answers = []
    for size in (1, 3, 8):
        answers.append([])
        for start in range(0, 8, size):
            some = shown[start : start + size]
            seeds = [seed_of(5, "sample", start + i) for i in range(len(some))]
            answers[-1] += generate(
                model, processor, batch_inputs(processor, some, [PROMPT] * len(some)), settings, seeds
            )
    assert answers[0] == answers[1] == answers[2]
    texts = [a.text for a in answers[0]]
    assert len(set(texts)) == 8  # two samples of one video differ
    assert any(text != greedy.text for text, greedy in zip(texts, _greedy(loaded, shown), strict=True))


def _greedy(loaded: Any, videos: list[Path]) -> list[Any]:
    model, processor = loaded
    return generate(model, processor, batch_inputs(processor, videos, [PROMPT] * len(videos)), GREEDY)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({"temperature": 1.0}, [0.4, 0.3, 0.2, 0.1]),
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        ({"temperature": 1.0, "top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.85}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"temperature": 1.0, "min_p": 0.4}, [4 / 9, 3 / 9, 2 / 9, 0]),
    ],
)
def test_tokens_are_drawn_with_their_probabilities(sampling: dict[str, float], expected: list[float]) -> None:
    scores = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log().repeat(4000, 1)
    for limit in _limits(sampling):
        scores = limit(None, scores)
    draw = Draw([seed_of(1, "sample", i) for i in range(4000)], "cpu")
    first, second = (draw(None, scores).argmax(-1) for _ in range(2))
    for drawn in (first, second):
        counts = torch.bincount(drawn, minlength=4)
        assert [int(c) for c, e in zip(counts, expected, strict=True) if not e] == [0] * expected.count(0)
        kept = [(int(c), e * 4000) for c, e in zip(counts, expected, strict=True) if e]
        assert chisquare(*zip(*kept, strict=True)).pvalue > 0.001
    agree = float((first == second).float().mean())  # one row's draws are independent of each other
    assert agree == pytest.approx(sum(e * e for e in expected), abs=0.04)


def test_a_seed_is_of_the_request_and_its_repeat() -> None:
    assert seed_of(1, "task", "test", 3, 0) == seed_of(1, "task", "test", 3, 0)
    assert len({seed_of(s, t, "test", d, r) for s in (1, 2) for t in "ab" for d in (3, 4) for r in (0, 1)}) == 16
    assert 0 <= seed_of(0) < 2**63
