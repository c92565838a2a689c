"""Batches of inputs: padding, order, processes that read ahead, and what cannot be read."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import BASE, write_clips

from rbft_plugin.errors import RbftError
from rbft_plugin.model import inputs
from rbft_plugin.model.inputs import ModelInput, batch_inputs, batches, collate, default_workers, pad_id, sample_inputs

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def processor() -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(BASE)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[ModelInput]:
    lengths = [4, 8, 2, 6, 8]
    videos = write_clips(tmp_path_factory.mktemp("clips"), lengths)
    return [ModelInput("word " * i, str(v), n) for i, (v, n) in enumerate(zip(videos, lengths, strict=True))]


def test_prompts_are_padded_on_the_left_and_videos_joined(processor: Any, samples: list[ModelInput]) -> None:
    batch = batch_inputs(processor, [samples[0].video, None, samples[2].video], ["Well?", "Well?", "What is it?"])
    alone = [batch_inputs(processor, [v], [p]) for v, p in ((samples[0].video, "Well?"), (None, "Well?"))]
    length = batch["input_ids"].shape[1]
    for row, sample in enumerate(alone):
        own = sample["input_ids"].shape[1]
        padding = [pad_id(processor)] * (length - own)
        assert batch["input_ids"][row].tolist() == padding + sample["input_ids"][0].tolist()
        assert batch["attention_mask"][row].tolist() == [0] * (length - own) + [1] * own
    assert set(alone[1]) == {"input_ids", "attention_mask"}
    assert batch["video_grid_thw"][:, 0].tolist() == [2, 1]
    assert batch["second_per_grid_ts"].dtype == torch.float64
    assert batch["second_per_grid_ts"].tolist() == pytest.approx([1.0, 1.4])


def test_videos_that_cannot_be_joined_are_refused() -> None:
    samples = [
        {"input_ids": torch.ones(1, 3, dtype=torch.long), "pixel_values_videos": torch.zeros(1, frames, 3, 2, 2)}
        for frames in (4, 6)
    ]
    with pytest.raises(RbftError) as error:
        collate(samples, 0)
    assert str(error.value) == (
        "this model's videos cannot share a batch, because their shapes differ (pixel_values_videos: (1, 4, 3, 2, 2), "
        "(1, 6, 3, 2, 2)); use --batch_size 1"
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_the_longest_come_first_whoever_reads_them(processor: Any, samples: list[ModelInput], workers: int) -> None:
    got = list(batches(processor, samples, 2, workers))
    assert [group for group, _ in got] == [[4, 1], [3, 0], [2]]
    for group, batch in got:
        expected = batch_inputs(processor, [samples[i].video for i in group], [samples[i].prompt for i in group])
        assert set(batch) == set(expected)
        assert all(torch.equal(batch[k], expected[k]) for k in expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_clip_that_cannot_be_read_is_named(
    processor: Any, samples: list[ModelInput], tmp_path: Path, workers: int
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("no video")
    reader = batches(processor, [samples[1], ModelInput("What?", str(broken), 1)], 1, workers)
    assert next(reader)[0] == [0]
    with pytest.raises(RbftError) as error:
        next(reader)
    assert str(error.value) == f"{broken}: cannot be opened (Invalid data found when processing input)"


def test_the_next_batch_is_read_while_one_is_in_use(processor: Any, samples: list[ModelInput], tmp_path: Path) -> None:
    """With a worker, all clips may go once the first batch is there: the others have been read, or are being read."""
    import shutil
    import time

    copies = [ModelInput(s.prompt, shutil.copy(s.video, tmp_path), s.size) for s in samples[:3] if s.video]
    reader = batches(processor, copies, 1, 1)
    next(reader)
    time.sleep(3)
    for copy in copies:
        Path(str(copy.video)).unlink()
    assert [group for group, _ in reader] == [[0], [2]]
    with pytest.raises(RbftError):
        list(batches(processor, copies, 1, 1))


def test_a_reader_that_is_killed_is_explained(
    processor: Any, samples: list[ModelInput], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "sample_inputs", lambda *_: os.kill(os.getpid(), 9))
    looks = torch.utils.data.dataloader._MultiProcessingDataLoaderIter._try_get_data
    monkeypatch.setattr(looks, "__defaults__", (0.2,))  # seconds between two looks at the processes; torch has 5
    with pytest.raises(RbftError) as error:
        list(batches(processor, samples, 2, 1))
    assert str(error.value).startswith("a process that reads clips died (DataLoader worker (pid")
    assert str(error.value).endswith("(docker's --shm-size): use the model argument num_workers=0")


def test_readers_may_be_started_afresh(processor: Any, samples: list[ModelInput]) -> None:
    """What goes to a process that is spawned, not forked, can be pickled."""
    dataset = pickle.loads(pickle.dumps(inputs._SampleInputs(processor, samples)))
    expected = sample_inputs(processor, samples[0].video, samples[0].prompt)
    assert torch.equal(dataset[0]["pixel_values_videos"], expected["pixel_values_videos"])


def test_processes_on_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, local, expected in ((1, 1, 0), (2, 1, 1), (4, 2, 1), (16, 2, 4), (2, 8, 0)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, n=cores: set(range(n)))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(local))
        assert default_workers() == expected
