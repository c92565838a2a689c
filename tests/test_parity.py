"""The frame contract: what LLaMA-Factory's collator gives for a training row equals what the evaluation side gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import BASE, QUIET, small_yaml, write_csv, write_video, write_yaml

from rbft_plugin import clips, preparation
from rbft_plugin.dataset import load

BATCH = 4
SIZES = [(112, 112), (160, 96), (96, 160), (320, 180), (180, 320), (64, 64)]
VIDEOS = [  # 24 videos: (seconds, frames a second, size)
    (seconds, fps, SIZES[(i + j) % len(SIZES)])
    for i, seconds in enumerate([1.0, 2.5, 4.0, 7.5, 8.0, 13.3])
    for j, fps in enumerate([3, 10, 24, 30])
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the videos prepared, and a model whose processor keeps clips of up to 200 x 200 pixels."""
    folder = tmp_path_factory.mktemp("parity")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        rows = []
        for i, (seconds, fps, size) in enumerate(VIDEOS):
            write_video(Path(f"mine_videos/v{i}.mp4"), seconds, fps, size, seed=i)
            rows.append({"id": f"v{i}", "split": "train", "label": ("calm", "busy")[i % 2]})
        write_video(Path("mine_videos/t.mp4"))
        rows.append({"id": "t", "split": "test", "label": "calm"})
        write_csv("mine.csv", rows)
        write_yaml(small_yaml(clips={"frames": 16, "max_fps": 2, "max_pixels": 40_000, "multiple": 28}))
        preparation.prepare(load("mine"), QUIET)
    shutil.copytree(BASE, folder / "model")
    config = json.loads((BASE / "processor_config.json").read_text())
    for part in ("image_processor", "video_processor"):
        config[part]["size"] = {"shortest_edge": 3136, "longest_edge": 1_000_000}
    (folder / "model/processor_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def trained_on(prepared: Path) -> list[dict[str, Any]]:
    """Batches as LLaMA-Factory collates them from the registered rows under recipes/stage2.yaml."""
    from llamafactory.data import SFTDataCollatorWith4DAttentionMask, get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_model, load_tokenizer

    recipe = yaml.safe_load((Path(__file__).parents[1] / "recipes/stage2.yaml").read_text())
    recipe |= {"model_name_or_path": "model", "adapter_name_or_path": None, "create_new_adapter": False}
    recipe |= {"dataset": "mine_label", "bf16": False, "use_cpu": True, "preprocessing_num_workers": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(prepared)
        model_args, data_args, training_args, finetuning_args, _ = get_train_args(recipe)
        tokens = load_tokenizer(model_args)
        template = get_template_and_fix_tokenizer(tokens["tokenizer"], data_args)
        data = get_dataset(template, model_args, data_args, training_args, stage="sft", **tokens)["train_dataset"]
        model = load_model(tokens["tokenizer"], model_args, finetuning_args)
        collate = SFTDataCollatorWith4DAttentionMask(
            template=template, model=model, label_pad_token_id=-100, pad_to_multiple_of=8, **tokens
        )
        assert len(data) == len(VIDEOS)
        return [collate([data[i] for i in range(k, k + BATCH)]) for k in range(0, len(data), BATCH)]


def evaluated_on(prepared: Path) -> list[Any]:
    """Batches as the evaluation gives them to the model, for the same samples in the same order."""
    from transformers import AutoProcessor

    from rbft_plugin.model import batch_inputs

    processor = AutoProcessor.from_pretrained(prepared / "model")
    rows = preparation.read_jsonl(prepared / "data/mine/train.jsonl")
    return [
        batch_inputs(processor, [prepared / r["video"] for r in some], [r["label_prompt"] for r in some])
        for some in (rows[k : k + BATCH] for k in range(0, len(rows), BATCH))
    ]


def differences(prepared: Path, trained_on: list[dict[str, Any]]) -> list[str]:
    """Where the two differ, by batch and tensor."""
    found = []
    for k, (training, evaluation) in enumerate(zip(trained_on, evaluated_on(prepared), strict=True)):
        for name in ("pixel_values_videos", "video_grid_thw"):
            ours, theirs = evaluation[name], training[name]
            if ours.shape != theirs.shape or not (ours == theirs).all():
                found.append(f"batch {k}: {name}")
        if list(map(float, evaluation["second_per_grid_ts"])) != list(map(float, training["second_per_grid_ts"])):
            found.append(f"batch {k}: second_per_grid_ts")
        for i in range(BATCH):
            prompt = (training["labels"][i] == -100) & (training["attention_mask"][i] == 1)
            ours = evaluation["input_ids"][i][evaluation["attention_mask"][i] == 1]
            if training["input_ids"][i][prompt].tolist() != ours.tolist():
                found.append(f"batch {k}: input_ids of sample {i}")
    return found


def test_training_and_evaluation_see_the_same_tensors(prepared: Path, trained_on: list[dict[str, Any]]) -> None:
    grids = {tuple(row) for batch in trained_on for row in batch["video_grid_thw"].tolist()}
    assert len(grids) >= 8  # clips of different lengths and sizes, several of them in one batch
    assert any(len({tuple(r) for r in batch["video_grid_thw"].tolist()}) > 1 for batch in trained_on)
    assert differences(prepared, trained_on) == []


def test_a_shift_of_one_frame_is_noticed(
    prepared: Path, trained_on: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_clip = clips.load

    def shifted(path: Path) -> Any:
        frames, clip = load_clip(path)
        return frames[[*range(1, len(frames)), len(frames) - 1]], clip

    monkeypatch.setattr(clips, "load", shifted)
    assert differences(prepared, trained_on) == [f"batch {k}: pixel_values_videos" for k in range(len(trained_on))]


def test_positions_are_those_of_training(prepared: Path, trained_on: list[dict[str, Any]]) -> None:
    """The positions that LLaMA-Factory's collator adds equal those that the model computes when it generates."""
    from transformers import Qwen2_5_VLForConditionalGeneration

    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(BASE)
    for training, evaluation in zip(trained_on, evaluated_on(prepared), strict=True):
        ours, _ = model.model.get_rope_index(
            **{k: evaluation[k] for k in ("input_ids", "video_grid_thw", "second_per_grid_ts", "attention_mask")}
        )
        for i in range(BATCH):
            prompt = (training["labels"][i] == -100) & (training["attention_mask"][i] == 1)
            theirs = training["position_ids"][-3:, i][:, prompt]
            assert theirs.tolist() == ours[:, i][:, evaluation["attention_mask"][i] == 1].tolist()
