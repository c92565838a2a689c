"""`rbft_vl` on the tiny model: batches, adapters, token counts, errors."""

from __future__ import annotations

import json
import random
import shutil
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import BASE

from rbft_plugin import clips
from rbft_plugin.demo.world import GENERAL, frame_times, random_scene, render
from rbft_plugin.errors import RbftError
from rbft_plugin.generation import generate
from rbft_plugin.inputs import batch_inputs
from rbft_plugin.loading import load_model
from rbft_plugin.model import RbftVL

PROMPT = "Describe what happens in the video."
GREEDY = {"max_new_tokens": 32, "do_sample": False, "temperature": 0.0, "until": []}
LENGTHS = [8, 2, 6, 8, 4, 12, 8, 6]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny model, with a processor that leaves clips of up to 200 x 200 pixels as they are."""
    folder = tmp_path_factory.mktemp("model") / "base"
    shutil.copytree(BASE, folder)
    config = json.loads((BASE / "processor_config.json").read_text())
    for part in ("image_processor", "video_processor"):
        config[part]["size"] = {"shortest_edge": 3136, "longest_edge": 40_000}
    (folder / "processor_config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Clips of several lengths, sizes and frame rates."""
    from PIL import Image

    folder, paths = tmp_path_factory.mktemp("clips"), []
    for i, length in enumerate(LENGTHS):
        rng = random.Random(i)
        frames = render(random_scene(rng), GENERAL, frame_times(length), rng)
        size = (56, 56) if i % 3 else (84, 56)
        small = torch.stack([torch.from_numpy(_array(Image.fromarray(f).resize(size))) for f in frames]).numpy()
        paths.append(folder / f"{i}.mp4")
        clips.write(paths[-1], small, Fraction(1000, 500 + 100 * i), 18)
    return paths


def _array(image: Any) -> Any:
    import numpy as np

    return np.array(image)


@pytest.fixture(scope="module")
def loaded(model_folder: str) -> tuple[Any, Any]:
    return load_model(model_folder, device="cpu")


def test_a_batch_of_clips_of_different_length_and_size_answers_as_one_by_one(loaded: Any, videos: list[Path]) -> None:
    model, processor = loaded
    prompts = [PROMPT if i % 2 else "What do you see in this clip?" for i in range(len(videos))]
    together = generate(model, processor, batch_inputs(processor, videos, prompts), GREEDY)
    alone = [
        generate(model, processor, batch_inputs(processor, [v], [p]), GREEDY)[0]
        for v, p in zip(videos, prompts, strict=True)
    ]
    assert together == alone
    assert len({g.text for g in together}) > 3 and all(g.text.startswith("A ") for g in together)


def test_tokens_count_neither_padding_nor_the_end_of_turn(loaded: Any, videos: list[Path]) -> None:
    model, processor = loaded
    inputs = batch_inputs(processor, videos[:2], [PROMPT] * 2)
    long, short = generate(model, processor, inputs, GREEDY)
    visual = [8 // 2 * 2 * 3, 2 // 2 * 2 * 2]  # frame pairs x merged patches
    assert long.input_tokens - short.input_tokens == visual[0] - visual[1]
    assert long.output_tokens == len(processor.tokenizer(long.text)["input_ids"])
    for limit in (3, long.output_tokens):
        cut = generate(model, processor, inputs, GREEDY | {"max_new_tokens": limit})[0]
        assert cut.output_tokens == limit  # as long as the limit: it was cut before its end of turn
    assert generate(model, processor, inputs, GREEDY | {"max_new_tokens": long.output_tokens + 1})[0] == long


def test_until_ends_an_answer(loaded: Any, videos: list[Path]) -> None:
    model, processor = loaded
    inputs = batch_inputs(processor, videos[:1], [PROMPT])
    whole = generate(model, processor, inputs, GREEDY)[0].text
    assert generate(model, processor, inputs, GREEDY | {"until": [" comes"]})[0].text == whole.split(" comes")[0]
    assert generate(model, processor, inputs, GREEDY | {"until": " comes"})[0].text == whole.split(" comes")[0]


def random_adapter(model: Any, folder: Path, seed: int) -> str:
    """A LoRA adapter with weights that change what the model says."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    targets = ["q_proj", "v_proj", "down_proj"]
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=targets, init_lora_weights=False))
    adapted.save_pretrained(folder)
    adapted.unload()
    return str(folder)


def test_adapters_are_applied_in_order_each_on_the_merged_model_before(
    model_folder: str, videos: list[Path], tmp_path: Path
) -> None:
    from peft import PeftModel

    base, processor = load_model(model_folder, device="cpu")
    first = random_adapter(base, tmp_path / "first", 1)
    second = random_adapter(base, tmp_path / "second", 2)
    inputs = batch_inputs(processor, videos[:3], [PROMPT] * 3)
    with torch.no_grad():
        plain = base(**inputs).logits
        both = load_model(model_folder, [first, second], device="cpu")[0](**inputs).logits
        only_second = load_model(model_folder, [second], device="cpu")[0](**inputs).logits
        # As LLaMA-Factory trains stage 2: the first merged, the second beside the weights.
        merged = PeftModel.from_pretrained(load_model(model_folder, device="cpu")[0], first).merge_and_unload()
        trained = PeftModel.from_pretrained(merged, second)(**inputs).logits
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(both[real], trained[real], rtol=1e-4, atol=1e-4)
    assert (both[real] - plain[real]).abs().max() > 1
    assert (both[real] - only_second[real]).abs().max() > 1


def requests(samples: list[dict[str, Any]], settings: dict[str, Any]) -> list[Any]:
    """What lmms-eval hands to a simple model."""
    visual = lambda doc: [doc["video"]] * doc.get("times", 1)  # noqa: E731
    return [SimpleNamespace(args=(PROMPT, settings, visual, i, "task", "test")) for i in range(len(samples))]


def test_generate_until_keeps_the_order_at_any_batch_size(model_folder: str, videos: list[Path]) -> None:
    docs = [{"video": str(v)} for v in videos]
    answers = []
    for size in ("1", 3):
        lm = RbftVL(pretrained=model_folder, device="cpu", batch_size=size)
        lm.task_dict = {"task": {"test": docs}}
        results = lm.generate_until(requests(docs, GREEDY))
        answers.append([(r.text, r.token_counts.input_tokens, r.token_counts.output_tokens) for r in results])
    assert answers[0] == answers[1] and len(answers[0]) == len(videos)


def test_what_a_user_can_get_wrong_is_said(model_folder: str, videos: list[Path], tmp_path: Path) -> None:
    def message(**arguments: Any) -> str:
        with pytest.raises(RbftError) as error:
            RbftVL(**{"pretrained": model_folder, "device": "cpu"} | arguments)
        return str(error.value)

    assert message(max_pixels=3, adapter="x") == (
        "rbft_vl: unknown model arguments: max_pixels, adapter; known are pretrained, adapters, dtype, "
        "attn_implementation"
    )
    assert message(batch_size="auto") == "rbft_vl: --batch_size must be a whole number above 0, not 'auto'"
    assert message(adapters=f"{tmp_path}/a:{tmp_path}/b") == (
        f"adapters: no adapter_config.json in {tmp_path}/a, {tmp_path}/b"
    )
    lm = RbftVL(pretrained=model_folder, device="cpu")
    lm.task_dict = {"task": {"test": [{"video": str(videos[0]), "times": 2}]}}
    with pytest.raises(RbftError) as error:
        lm.generate_until(requests([{}], GREEDY))
    assert str(error.value) == "rbft_vl takes one video a sample; task task gives 2"


def test_the_shipped_base_describes_clips_that_it_was_not_trained_on() -> None:
    from rbft_plugin.demo import pretrain

    model, processor = load_model(str(BASE), device="cpu")
    scenes, frames = pretrain.draw_clips(200, seed=424_242, frames=8, processes=1)
    shares = pretrain.accuracy(pretrain.Captioner(model, processor).describe(frames, step=1), scenes)
    assert shares["exact"] > 0.9 and shares["color"] > 0.98
