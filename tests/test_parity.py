"""The frame contract: for one sample, a model of each family is given the same by LLaMA-Factory when it is trained, by
`rbft_vl` when it is scored, and by lmms-eval's own model of the family.

All three run their own code on prepared clips, up to the network itself: LLaMA-Factory's trainer is stopped where it
would train, and its batches read; lmms-eval's models answer with one token, and what reaches the network is noted.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import families
import pytest
import torch
import yaml
from conftest import QUIET, small_yaml, write_csv, write_video, write_yaml

from rbft_plugin import preparation
from rbft_plugin.dataset import load

ROOT = Path(__file__).parents[1]
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
SIZES = [(112, 112), (160, 96), (96, 160), (320, 180), (180, 320), (64, 64)]
VIDEOS = [  # 24 videos: (seconds, frames a second, size)
    (seconds, fps, SIZES[(i + j) % len(SIZES)])
    for i, seconds in enumerate([1.0, 2.5, 4.0, 7.5, 8.0, 13.3])
    for j, fps in enumerate([3, 6, 10, 15])
]
# Frames every 300, 340 and 540 ms: a last bit more or less in a rate moves a timestamp of Qwen3-VL by 0.1 s.
VIDEOS += [(1.8, 10, (112, 112)), (1.36, 25, (112, 112)), (8.64, 25, (112, 112))]
BATCH = 4
# Of lmms-eval's own models, so that they take clips as they are. docs/contract.md tells why.
OWN = {
    "qwen2_vl": "max_num_frames=16,min_pixels=3136,max_pixels=16000",
    "qwen2_5_vl": "fps=1000,min_pixels=3136,max_pixels=16000",
    "qwen3_vl": "fps=1000,max_num_frames=16,min_pixels=4096,max_pixels=16000",
}


@dataclass(frozen=True)
class Seen:
    """What the network is given of one sample, without padding and up to the answer."""

    ids: list[int]
    pixels: torch.Tensor  # (patches, values of a patch)
    grid: tuple[int, ...]  # patches in time, height and width
    step: float | None  # seconds between temporal patches; Qwen2.5-VL alone has it
    positions: torch.Tensor  # (3, ids): in time, height and width


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """For each multiple of the clips' sides, a workspace whose train and test rows are the same samples."""
    sources = tmp_path_factory.mktemp("sources")
    for i, (seconds, fps, size) in enumerate(VIDEOS):
        write_video(sources / f"v{i}.mp4", seconds, fps, size, seed=i)
    rows = [{"id": f"v{i}", "split": "train", "label": ("calm", "busy")[i % 2]} for i in range(len(VIDEOS))]
    write_video(sources / "t.mp4")
    rows.append({"id": "t", "split": "test", "label": "calm"})
    workspaces = {}
    for multiple, max_fps in ((28, 2), (32, 4)):
        folder = workspaces[multiple] = tmp_path_factory.mktemp(f"multiple{multiple}")
        shutil.copytree(ROOT / "task_configs", folder / "task_configs")
        (folder / "mine_videos").symlink_to(sources)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            write_csv("mine.csv", rows)
            settings = {"frames": 16, "max_fps": max_fps, "max_pixels": 16_000, "multiple": multiple}
            write_yaml(small_yaml(clips=settings))
            preparation.prepare(load("mine"), QUIET)
            shutil.copy("data/mine/train.jsonl", "data/mine/test.jsonl")
    return workspaces


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, prepared: dict[int, Path]) -> Iterator[str]:
    """The family's name; the current folder is its workspace, with a model in the folder of that name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(prepared[families.MULTIPLES[request.param]])
        families.build(request.param, Path(request.param))
        yield request.param


@pytest.fixture(scope="module")
def trained_on(family: str) -> list[Seen]:
    return training(family, batch=1)


def training(family: str, batch: int, **changes: Any) -> list[Seen]:
    """The batches of LLaMA-Factory's trainer under recipes/stage2.yaml, in the order of the rows."""
    from llamafactory.hparams import get_train_args
    from llamafactory.train.sft import workflow

    class Stop(Exception):
        pass

    trainers: list[Any] = []

    def train(trainer: Any, **_: Any) -> None:
        trainers.append(trainer)
        raise Stop

    recipe = yaml.safe_load((ROOT / "recipes/stage2.yaml").read_text())
    recipe |= {"model_name_or_path": family, "adapter_name_or_path": None, "create_new_adapter": False}
    recipe |= {"template": families.TEMPLATES[family], "dataset": "mine_label", "output_dir": f"out_{family}"}
    recipe |= {"per_device_train_batch_size": batch, "disable_shuffling": True, "bf16": False, "use_cpu": True}
    recipe |= {"preprocessing_num_workers": 1, "dataloader_num_workers": 0} | changes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow.CustomSeq2SeqTrainer, "train", train)
        with pytest.raises(Stop):
            workflow.run_sft(*get_train_args(recipe), callbacks=[])
    seen = []
    for features in trainers[0].get_train_dataloader():
        prompt = (features["labels"] == -100) & (features["attention_mask"] == 1)
        seen += split(features, prompt, features["position_ids"])
    return seen


def evaluation(model: str, args: str, batch: int, task: str = "rbft_mine") -> list[Seen]:
    """What `lmms-eval --model MODEL --model_args ARGS --batch_size BATCH --tasks TASK` gives the network."""
    from lmms_eval.models import get_model
    from lmms_eval.tasks import TaskManager, get_task_dict

    lm: Any = get_model(model).create_from_arg_string(args, {"batch_size": batch, "device": "cpu"})
    manager = TaskManager(include_defaults=False)
    tasks = get_task_dict([task], manager, "simple" if lm.is_simple else "chat")
    lm.task_dict[task] = tasks[task].dataset
    tasks[task].set_config("num_fewshot", 0)
    tasks[task].set_config("generation_kwargs", {"max_new_tokens": 1}, update=True)
    tasks[task].build_all_requests()
    seen: list[Seen] = []
    generate, language_model = lm.model.generate, lm.model.model.language_model
    positions: list[torch.Tensor] = []
    hook = language_model.register_forward_pre_hook(
        lambda module, given, named: positions.append(named["position_ids"]), with_kwargs=True
    )

    def noting(**inputs: Any) -> Any:
        positions.clear()
        answer = generate(**inputs)
        seen.extend(split(inputs, inputs["attention_mask"] == 1, positions[0]))
        return answer

    lm.model.generate = noting
    lm.generate_until(tasks[task].instances)
    hook.remove()
    return seen


def split(inputs: Any, keep: torch.Tensor, positions: torch.Tensor) -> list[Seen]:
    """The samples of a batch; `keep` (batch, tokens) marks the tokens up to the answer."""
    grids = [tuple(grid) for grid in inputs["video_grid_thw"].tolist()]
    pixels = inputs["pixel_values_videos"].split([math.prod(grid) for grid in grids])
    steps = [float(s) for s in inputs.get("second_per_grid_ts", [])] or [None] * len(grids)
    return [
        # A fourth row of positions, before the three, is that of the text alone.
        Seen(inputs["input_ids"][i][keep[i]].tolist(), pixels[i], grids[i], steps[i], positions[-3:, i][:, keep[i]])
        for i in range(len(grids))
    ]


def differences(expected: list[Seen], found: list[Seen], step_bound: float = 0.0) -> list[str]:
    """Where two lists of the same samples differ, by sample; time steps may, by a share of `step_bound`."""
    said = []
    for k, (a, b) in enumerate(zip(expected, found, strict=True)):
        if a.ids != b.ids:
            said.append(f"{k}: ids")
        if not torch.equal(a.pixels, b.pixels.float()):
            said.append(f"{k}: pixels")
        if a.grid != b.grid:
            said.append(f"{k}: grid")
        if a.step != b.step and not abs((a.step or 0) - (b.step or 0)) <= step_bound * (a.step or 0):
            said.append(f"{k}: step")
        if not torch.equal(a.positions, b.positions):
            said.append(f"{k}: positions")
    return said


def own_name(family: str) -> str:
    return family


def test_clips_differ_in_length_size_and_rate(family: str, trained_on: list[Seen]) -> None:
    rows = preparation.read_jsonl(Path("data/mine/train.jsonl"))
    assert len(trained_on) == len(rows) == len(VIDEOS) >= 20
    rates = {round(r["meta"]["frames"] / r["meta"]["seconds"], 3) for r in rows}
    assert len(rates) >= 5
    assert len({s.grid[0] for s in trained_on}) >= 4
    assert len({s.grid[1:] for s in trained_on}) >= 4
    assert len({s.grid for s in trained_on[:BATCH]}) > 1  # in one batch as well


def test_a_batch_is_trained_on_as_single_rows_are(family: str, trained_on: list[Seen]) -> None:
    assert differences(trained_on, training(family, batch=BATCH)) == []


@pytest.mark.parametrize("batch", [1, BATCH])
def test_rbft_vl_gives_what_was_trained_on(family: str, trained_on: list[Seen], batch: int) -> None:
    assert differences(trained_on, evaluation("rbft_vl", f"pretrained={family}", batch)) == []


@pytest.mark.parametrize("batch", [1, BATCH])
def test_lmms_evals_own_model_gives_what_was_trained_on(family: str, trained_on: list[Seen], batch: int) -> None:
    args = f"pretrained={family},device_map=cpu,{OWN[family]}"
    assert differences(trained_on, evaluation(family, args, batch), 1e-6) == []
