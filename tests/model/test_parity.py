"""The frame contract: for one sample, a model of each family is given the same by LLaMA-Factory when it is trained, by
`rbft_vl` when it is scored, and by lmms-eval's own model of the family. docs/contract.md says what a user has to set.

All three run their own code on prepared clips, up to the network itself: LLaMA-Factory's trainer is stopped where it
would train, and its batches read; a model in lmms-eval computes one token, and what reaches the network is noted.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import families
import pytest
import torch
import yaml
from builders import QUIET, prepare, small_yaml, write_csv, write_video, write_yaml

from rbft_plugin.data.prepared import read_jsonl
from rbft_plugin.spec.dataset import load

pytestmark = [pytest.mark.e2e, pytest.mark.torch]

ROOT = Path(__file__).parents[2]
QWEN = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
SIZES = [(112, 112), (160, 96), (96, 160), (320, 180), (180, 320), (64, 64)]
VIDEOS = [  # (seconds, frames a second, size)
    (seconds, fps, SIZES[(i + j) % len(SIZES)])
    for i, seconds in enumerate([1.0, 2.5, 4.0, 7.5, 8.0, 13.3])
    for j, fps in enumerate([3, 5, 8, 10])
]
# Frames every 300, 340 and 540 ms: a last bit more or less in a rate moves a timestamp of Qwen3-VL by 0.1 s.
VIDEOS += [(1.8, 10, (112, 112)), (1.36, 25, (112, 112)), (8.64, 25, (112, 112))]
BATCH = 4
OWN = {  # model arguments of lmms-eval's own models, so that they take clips as they are
    "qwen2_vl": "",
    "qwen2_5_vl": ",fps=1000,min_pixels=3136",
    "qwen3_vl": ",fps=1000,min_pixels=4096",
}
OWN_SYSTEM = {"qwen3_vl": "You are a helpful assistant."}  # which lmms-eval puts before every prompt
OWN_STEP_BOUND = {"qwen2_5_vl": 2.0**-24}  # it has time steps in float32, training in float64


@dataclass(frozen=True)
class Seen:
    """What the network is given of one sample, without padding and up to the answer."""

    ids: list[int]
    pixels: torch.Tensor  # (patches, values of a patch), or (frames, 3, height, width)
    grid: tuple[int, ...]  # patches in time, height and width; () where a family has none
    step: float | None  # seconds between temporal patches; Qwen2.5-VL alone has it
    positions: list[list[int]] | None  # in time, height and width, of every token; None: they are counted


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
            prepare(load("mine"), QUIET)
            shutil.copy("data/mine/train.jsonl", "data/mine/test.jsonl")
    return workspaces


@pytest.fixture
def in_workspace(prepared: dict[int, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Goes to a family's workspace, and builds its model there."""

    def go(family: str) -> None:
        monkeypatch.chdir(prepared[families.MULTIPLES[family]])
        families.build(family, Path(family))

    return go


@pytest.fixture(scope="module", params=QWEN)
def family(request: pytest.FixtureRequest, prepared: dict[int, Path]) -> Iterator[str]:
    """The family's name; the current folder is its workspace, with a model in the folder of that name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(prepared[families.MULTIPLES[request.param]])
        families.build(request.param, Path(request.param))
        yield request.param


@pytest.fixture(scope="module")
def trained_on(family: str) -> list[Seen]:
    return training(family)


@pytest.fixture(scope="module")
def trained_as_own(family: str, trained_on: list[Seen]) -> list[Seen]:
    """As `trained_on`, with the system message of lmms-eval's own model where that has one."""
    return training(family, default_system=OWN_SYSTEM[family]) if family in OWN_SYSTEM else trained_on


def training(family: str, batch: int = 1, **changes: Any) -> list[Seen]:
    """The batches of LLaMA-Factory's trainer under recipes/stage2.yaml, in the order of the rows."""
    from llamafactory.data.template import TEMPLATES
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
        template = TEMPLATES[recipe["template"]]  # LLaMA-Factory writes `default_system` into it, for good
        patch.setattr(template, "default_system", template.default_system)
        with pytest.raises(Stop):
            workflow.run_sft(*get_train_args(recipe), callbacks=[])
    seen = []
    for features in trainers[0].get_train_dataloader():
        prompt = (features["labels"] == -100) & (features["attention_mask"] == 1)
        seen += split(features, prompt, features.get("position_ids"))
    return seen


def evaluation(model: str, args: str, batch: int = 1, limit: int | None = None) -> list[Seen]:
    """What `lmms-eval --model MODEL --model_args ARGS --batch_size BATCH --limit LIMIT --tasks rbft_mine` gives the
    network, in the order of the rows.
    """
    from lmms_eval.models import get_model
    from lmms_eval.tasks import TaskManager, get_task_dict

    lm: Any = get_model(model).create_from_arg_string(args, {"batch_size": batch, "device": "cpu"})
    task = get_task_dict(["rbft_mine"], TaskManager(include_defaults=False), "simple" if lm.is_simple else "chat")[
        "rbft_mine"
    ]
    lm.task_dict["rbft_mine"] = task.dataset
    task.set_config("num_fewshot", 0)
    task.build_all_requests(limit=limit)
    seen: list[Seen] = []
    positions: list[Any] = []
    generate = lm.model.generate

    def noting(**inputs: Any) -> torch.Tensor:
        """Answers each sample with its number in `seen`, for models sort their requests."""
        positions.clear()
        generate(**inputs | {"max_new_tokens": 1})
        some = split(inputs, inputs["attention_mask"] == 1, positions[0])
        numbers = [f"{len(seen) + i:03}" for i in range(len(some))]
        seen.extend(some)
        answers = lm.processor.tokenizer(numbers, return_tensors="pt")["input_ids"]
        return torch.cat([inputs["input_ids"], answers], dim=1)

    lm.model.generate = noting
    lm.model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: positions.append(kwargs["position_ids"]), with_kwargs=True
    )
    answers = lm.generate_until(task.instances)
    return [seen[int(getattr(answer, "text", answer))] for answer in answers]


def split(inputs: Any, keep: torch.Tensor, positions: torch.Tensor | None) -> list[Seen]:
    """The samples of a batch; `keep` (batch, tokens) marks the tokens up to the answer."""
    ids = [row[kept].tolist() for row, kept in zip(inputs["input_ids"], keep, strict=True)]
    if "video_grid_thw" not in inputs:
        frames = [row.count(families.internvl_context()) // families.INTERNVL_TOKENS_A_FRAME for row in ids]
        parts = inputs["pixel_values"].float().split(frames)
        return [Seen(row, pixels, (), None, None) for row, pixels in zip(ids, parts, strict=True)]
    grids = [tuple(grid) for grid in inputs["video_grid_thw"].tolist()]
    parts = inputs["pixel_values_videos"].float().split([math.prod(grid) for grid in grids])
    steps = [float(s) for s in inputs.get("second_per_grid_ts", [])] or [None] * len(grids)
    # Before the three rows of positions there may be one more, of text alone.
    where = [positions[-3:, i][:, kept].tolist() for i, kept in enumerate(keep)]
    return [Seen(*values) for values in zip(ids, parts, grids, steps, where, strict=True)]


def differences(expected: list[Seen], actual: list[Seen], step_bound: float = 0.0) -> list[str]:
    """Where two lists of the same samples differ, by sample; a time step may, by a share of `step_bound`."""
    differing = []
    for k, (a, b) in enumerate(zip(expected, actual, strict=True)):
        same = {
            "ids": a.ids == b.ids,
            "pixels": torch.equal(a.pixels, b.pixels),
            "grid": a.grid == b.grid,
            "step": a.step == b.step or abs(a.step - b.step) <= step_bound * a.step,
            "positions": a.positions == b.positions,
        }
        differing += [f"{k}: {name}" for name, equal in same.items() if not equal]
    return differing


def own(family: str, batch: int = 1, limit: int | None = None) -> list[Seen]:
    """By lmms-eval's own model: Qwen2-VL's simple class, the chat classes of the others."""
    return evaluation(family, f"pretrained={family},device_map=cpu{OWN[family]}", batch, limit)


def ours(family: str, batch: int = 1, limit: int | None = None) -> list[Seen]:
    return evaluation("rbft_vl", f"pretrained={family},num_workers=0", batch, limit)


def test_clips_differ_in_length_size_and_rate(trained_on: list[Seen]) -> None:
    rows = read_jsonl(Path("data/mine/train.jsonl"))
    assert len(trained_on) == len(rows) == len(VIDEOS) == 27
    assert len({round(r["meta"]["frames"] / r["meta"]["seconds"], 3) for r in rows}) >= 8
    assert len({s.grid[0] for s in trained_on}) >= 5
    assert len({s.grid[1:] for s in trained_on}) >= 4
    assert all(len({s.grid for s in trained_on[k : k + BATCH]}) > 1 for k in range(0, 24, BATCH))


def test_a_batch_is_trained_on_as_its_rows_are(family: str, trained_on: list[Seen]) -> None:
    assert differences(trained_on, training(family, batch=BATCH)) == []


@pytest.mark.parametrize("batch", [1, BATCH])
def test_rbft_vl_gives_what_was_trained_on(family: str, trained_on: list[Seen], batch: int) -> None:
    assert differences(trained_on, ours(family, batch)) == []


@pytest.mark.parametrize("batch", [1, BATCH])
def test_lmms_evals_own_model_gives_what_was_trained_on(family: str, trained_as_own: list[Seen], batch: int) -> None:
    assert differences(trained_as_own, own(family, batch), OWN_STEP_BOUND.get(family, 0.0)) == []


def test_all_that_lmms_eval_adds_for_qwen3_vl_is_a_system_message(in_workspace: Callable[[str], None]) -> None:
    """It puts off every position by its length."""
    from transformers import AutoTokenizer

    in_workspace("qwen3_vl")
    message = f"<|im_start|>system\n{OWN_SYSTEM['qwen3_vl']}<|im_end|>\n"
    extra = AutoTokenizer.from_pretrained("qwen3_vl")(message)["input_ids"]
    for mine, theirs in zip(ours("qwen3_vl", limit=BATCH), own("qwen3_vl", limit=BATCH), strict=True):
        assert theirs.ids == extra + mine.ids
        assert [r[len(extra) :] for r in theirs.positions] == [[p + len(extra) for p in r] for r in mine.positions]


@pytest.mark.parametrize("side", [training, ours, own])
def test_a_shift_of_one_frame_is_noticed(
    family: str, trained_on: list[Seen], trained_as_own: list[Seen], side: Callable
) -> None:
    for clip in Path("data/mine/clips").glob("*.mp4"):
        shift(clip, Path("data/mine/shifted") / clip.name)
    with changed_rows("/clips/", "/shifted/"):
        seen = side(family, batch=BATCH)
    expected = trained_as_own if side is own else trained_on
    assert differences(expected, seen, OWN_STEP_BOUND.get(family, 0.0)) == [f"{k}: pixels" for k in range(len(VIDEOS))]


def shift(clip: Path, target: Path) -> None:
    """Write a clip without its first frame and with its last one twice; all else stays, to the bit."""
    import av

    target.parent.mkdir(exist_ok=True)
    with av.open(str(clip)) as source, av.open(str(target), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        packets = [p for p in source.demux(video=0) if p.size]
        for packet, later in zip(packets, [*packets[1:], packets[-1]], strict=True):
            moved = av.Packet(bytes(later))
            moved.pts, moved.dts, moved.duration = packet.pts, packet.dts, packet.duration
            moved.time_base, moved.is_keyframe, moved.stream = packet.time_base, True, stream
            container.mux(moved)


def test_internvl_is_evaluated_as_it_is_trained(in_workspace: Callable[[str], None]) -> None:
    """Its chat template breaks the line after a video, and so must the rows."""
    in_workspace("internvl")
    with changed_rows("<video>", "<video>\\n"):
        trained_on = training("internvl")
        assert differences(trained_on, training("internvl", batch=BATCH)) == []
        assert differences(trained_on, ours("internvl")) == []
        assert differences(trained_on, ours("internvl", BATCH)) == []
    assert [b.pixels.shape for b in trained_on] != [b.pixels.shape for b in reversed(trained_on)]  # lengths differ


@contextmanager
def changed_rows(old: str, new: str) -> Iterator[None]:
    """The rows of both harnesses, with one text in another's place."""
    paths = [Path("data/mine/label.jsonl"), Path("data/mine/test.jsonl")]
    texts = [path.read_text() for path in paths]
    assert any(old in text for text in texts)
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text.replace(old, new))
    yield
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text)
