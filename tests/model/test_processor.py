"""processor: lengths equal those of LLaMA-Factory's own encoding, for Qwen2.5-VL and Qwen3-VL."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from builders import BASE, prepared_sample, write_video

from rbft_plugin.clips.canonical import make_clip
from rbft_plugin.clips.video import Clip, probe
from rbft_plugin.data.prepared import write_training_rows
from rbft_plugin.errors import RbftError
from rbft_plugin.llamafactory.registry import dataset_entry, write_entries
from rbft_plugin.model import processor
from rbft_plugin.spec.dataset import ClipSettings

pytestmark = pytest.mark.torch

VIDEOS = [(1.0, (112, 112)), (2.6, (160, 96)), (5.3, (96, 160)), (9.0, (112, 64)), (13.7, (64, 200))]
TEXTS = [
    ("Which event?", "calm"),
    ("Title: 夜の庭 🙂\n\n  two  spaces, a\ttab\n", "\nA line first.\n\n- then a list, with 12 345 things"),
    ("", "x"),
    (" leading", "trailing \n"),
    ("<|im_end|> is text here", "Vague Abnormal"),
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with clips of several lengths and sizes for both families, their rows, and the two base models."""
    from transformers import AutoProcessor, Qwen2VLImageProcessor, Qwen3VLProcessor, Qwen3VLVideoProcessor

    folder = tmp_path_factory.mktemp("lengths")
    shutil.copytree(BASE, folder / "qwen2_5_vl")
    config = json.loads((BASE / "processor_config.json").read_text())
    for part in ("image_processor", "video_processor"):
        config[part]["size"] = {"shortest_edge": 3136, "longest_edge": 1_000_000}
    (folder / "qwen2_5_vl/processor_config.json").write_text(json.dumps(config))
    base, size = AutoProcessor.from_pretrained(BASE), {"shortest_edge": 4096, "longest_edge": 25165824}
    Qwen3VLProcessor(
        image_processor=Qwen2VLImageProcessor(patch_size=16, merge_size=2, size=size),
        video_processor=Qwen3VLVideoProcessor(patch_size=16, merge_size=2, size=size),
        tokenizer=base.tokenizer,
        chat_template=base.chat_template.replace("You are a helpful assistant.", "").replace(
            "<|im_start|>system\n<|im_end|>\n", ""
        ),
    ).save_pretrained(folder / "qwen3_vl")
    (folder / "qwen3_vl/config.json").write_text('{"model_type": "qwen3_vl"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for family, unit in (("qwen2_5_vl", 28), ("qwen3_vl", 32)):
            settings = ClipSettings(frames=16, max_fps=2, max_pixels=20_000, multiple=unit)
            training_rows = []
            for i, ((seconds, shape), (prompt, answer)) in enumerate(zip(VIDEOS, TEXTS, strict=True)):
                source = write_video(Path(f"{i}.mp4"), seconds, 10, shape, seed=i)
                make_clip(source, Path(f"{family}-{i}.mp4"), settings)
                training_rows.append(prepared_sample(str(i), video=f"{family}-{i}.mp4").training_row(prompt, answer))
            write_training_rows(Path(f"{family}.jsonl"), training_rows)
            write_entries(Path(), {family: dataset_entry(f"{family}.jsonl")})
        yield folder


def encoded(family: str, template: str) -> list[list[int]]:
    """The rows as LLaMA-Factory trains on them."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    recipe = yaml.safe_load((Path(__file__).parents[2] / "recipes/stage2.yaml").read_text())
    recipe |= {"model_name_or_path": family, "adapter_name_or_path": None, "create_new_adapter": False}
    recipe |= {"dataset": family, "dataset_dir": ".", "template": template, "bf16": False, "use_cpu": True}
    recipe |= {"preprocessing_num_workers": 1, "output_dir": "out"}
    model_args, data_args, training_args, _, _ = get_train_args(recipe)
    tokens = load_tokenizer(model_args)
    fixed = get_template_and_fix_tokenizer(tokens["tokenizer"], data_args)
    data = get_dataset(fixed, model_args, data_args, training_args, stage="sft", **tokens)["train_dataset"]
    return [row["input_ids"] for row in data]


@pytest.mark.parametrize(("family", "template"), [("qwen2_5_vl", "qwen2_vl"), ("qwen3_vl", "qwen3_vl_nothink")])
@pytest.mark.e2e
def test_lengths_are_those_of_llama_factory(rows: Path, family: str, template: str) -> None:
    base = processor.load_base(str(rows / family))
    assert base.family == family and base.token_extent == ({"qwen2_5_vl": 28, "qwen3_vl": 32}[family], 2)
    clips = [probe(Path(f"{family}-{i}.mp4")) for i in range(len(VIDEOS))]
    assert len({(c.frames, c.width, c.height) for c in clips}) == len(VIDEOS)
    ours = [processor.tokens(base, c, *text) for c, text in zip(clips, TEXTS, strict=True)]
    theirs = [len(ids) for ids in encoded(family, template)]
    assert ours == theirs
    assert [processor.processed_size(base, c) for c in clips] == [(c.frames, c.width, c.height) for c in clips]


def test_an_answer_that_is_not_there_yet_counts_with_the_most_it_may_have(rows: Path) -> None:
    base = processor.load_base(str(rows / "qwen2_5_vl"))
    clip = Clip(8, 56, 56, 2.0)
    text = "Someone leaves a box."
    count = len(base.processor.tokenizer(text)["input_ids"])
    assert processor.tokens(base, clip, "Which?", count) == processor.tokens(base, clip, "Which?", text)
    assert processor.tokens(base, clip, "Which?", 300) == processor.tokens(base, clip, "Which?", 0) + 300


def test_what_a_processor_makes_of_a_clip_that_does_not_suit_it() -> None:
    base = processor.load_base(str(BASE))  # takes no 112 x 112 pixels
    assert processor.processed_size(base, Clip(8, 56, 56, 2.0)) == (8, 56, 56)
    assert processor.processed_size(base, Clip(8, 112, 112, 2.0)) == (8, 56, 56)


def refusal(name: str) -> str:
    with pytest.raises(RbftError) as raised:
        processor.load_base(name)
    return str(raised.value)


def test_a_model_that_cannot_be_loaded_is_a_users_error(tmp_path: Path) -> None:
    assert refusal("no/such/folder").startswith("no/such/folder: its processor cannot be loaded (")
    (tmp_path / "empty").mkdir()
    assert refusal(str(tmp_path / "empty")).startswith(f"{tmp_path}/empty: its processor cannot be loaded (")


def test_a_model_without_videos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    shutil.copy(BASE / "tokenizer.json", tmp_path / "text")
    config = json.loads((BASE / "tokenizer_config.json").read_text())
    config.pop("processor_class", None)
    (tmp_path / "text/tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "text/config.json").write_text('{"model_type": "qwen2"}')
    assert refusal(str(tmp_path / "text")) == f"{tmp_path}/text: its processor takes no video"
