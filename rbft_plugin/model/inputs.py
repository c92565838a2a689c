"""The tensors that a model takes for clips and prompts: those that LLaMA-Factory trains on, in padded batches.

Every sample goes through the processor alone, and this module joins the samples into batches. So a batch cannot differ
from its samples, and videos of several lengths share a batch although some families' processors refuse that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rbft_plugin.clips.video import VideoError, load_clip
from rbft_plugin.errors import RbftError, first_line
from rbft_plugin.model.chat import chat_text, video_metadata

MOST_WORKERS = 4  # the default limit: more rarely help, and each holds two batches in shared memory


@dataclass(frozen=True)
class ModelInput:
    """What the model is shown. `size` measures its length; a batch holds inputs of similar size."""

    prompt: str
    video: str | None = None  # path of a canonical clip
    size: int = 0


def batch_inputs(processor: Any, videos: Sequence[str | Path | None], prompts: Sequence[str]) -> Any:
    """Left-padded inputs for clips of any length and size, with a prompt for each.

    The inputs of one row are those that LLaMA-Factory makes. Where a video is None, its row is the prompt alone.
    Raises VideoError for a clip that cannot be read.
    """
    return collate([sample_inputs(processor, v, p) for v, p in zip(videos, prompts, strict=True)], pad_id(processor))


def sample_inputs(processor: Any, video: str | Path | None, prompt: str) -> dict[str, torch.Tensor]:
    """Inputs of one sample, unpadded; input_ids and attention_mask have shape (1, tokens)."""
    video_inputs: dict[str, Any] = {}
    if video is not None:
        pixels, clip = load_clip(Path(video))
        frames = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        video_inputs = {"videos": [frames], "video_metadata": [video_metadata(clip)], "do_sample_frames": False}
    text = chat_text(processor, prompt, video is not None)
    inputs = dict(processor(text=[text], return_tensors="pt", **video_inputs))
    if "second_per_grid_ts" in inputs:
        # The processor gives float32. Positions are truncated from this value, and training truncates doubles.
        step = processor.video_processor.temporal_patch_size / clip.fps
        inputs["second_per_grid_ts"] = torch.tensor([step], dtype=torch.float64)
    return inputs


def pad_id(processor: Any) -> int:
    """The token that fills a row: the end token of a tokenizer that has no token for padding."""
    pad = processor.tokenizer.pad_token_id
    return int(processor.tokenizer.eos_token_id if pad is None else pad)


def collate(samples: Sequence[dict[str, torch.Tensor]], pad: int) -> Any:
    """One batch of several samples. Values with one entry a token are padded on the left, and then all are joined.

    Raises RbftError if a family's videos cannot be joined because their shapes differ.
    """
    from transformers import BatchFeature

    length = max(s["input_ids"].shape[1] for s in samples)
    batch = {}
    for key in dict.fromkeys(k for s in samples for k in s):
        parts = [(s[key], s["input_ids"].shape) for s in samples if key in s]
        if all(part.shape == tokens for part, tokens in parts):
            fill = pad if key == "input_ids" else 0
            parts = [(torch.nn.functional.pad(p, (length - p.shape[1], 0), value=fill), t) for p, t in parts]
        if len({part.shape[1:] for part, _ in parts}) > 1:
            raise RbftError(
                f"this model's videos cannot share a batch, because their shapes differ ({key}: "
                f"{', '.join(str(tuple(part.shape)) for part, _ in parts)}); use --batch_size 1"
            )
        batch[key] = torch.cat([part for part, _ in parts])
    return BatchFeature(batch)


def on_device(inputs: Any, model: Any) -> dict[str, torch.Tensor]:
    """The inputs on the device of the model. Pixels get the precision of the model; times stay doubles."""
    return {
        k: v.to(model.device, model.dtype if k.startswith("pixel") else None, non_blocking=True)
        for k, v in inputs.items()
    }


def default_workers() -> int:
    """How many processes read clips: one core is left to the process that runs the model, and ranks share the cores."""
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(0, min(MOST_WORKERS, cores - 1))


def batches(
    processor: Any, samples: Sequence[ModelInput], batch_size: int, workers: int
) -> Iterator[tuple[list[int], Any]]:
    """Yield (indices of samples, their inputs). The next batches are read while one is in use.

    The longest samples come first, so that a batch that does not fit into memory fails at once. Raises RbftError for a
    clip that cannot be read.
    """
    order = sorted(range(len(samples)), key=lambda i: (samples[i].size, len(samples[i].prompt)), reverse=True)
    groups = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    workers = min(workers, len(groups))
    if workers:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or tokenizers warns in every process
    loader = torch.utils.data.DataLoader(
        _SampleInputs(processor, samples),
        batch_sampler=groups,
        num_workers=workers,
        collate_fn=partial(_collate_or_error, pad=pad_id(processor)),
        pin_memory=False,  # a batch is small beside what is computed from it
    )
    loaded = iter(loader)
    for group in groups:
        try:
            inputs = next(loaded)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise RbftError(
                f"a process that reads clips died ({first_line(error)}); the usual reason is too little "
                "shared memory (docker's --shm-size): use the model argument num_workers=0"
            ) from None
        if isinstance(inputs, RbftError):
            raise inputs
        yield group, inputs


class _SampleInputs(torch.utils.data.Dataset):
    """The inputs of each sample, or an RbftError as a value: if it were raised, torch would add a traceback to it."""

    def __init__(self, processor: Any, samples: Sequence[ModelInput]) -> None:
        self.processor, self.samples = processor, samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> Any:
        sample = self.samples[i]
        try:
            return sample_inputs(self.processor, sample.video, sample.prompt)
        except VideoError as error:
            return RbftError(f"{sample.video}: {error}")


def _collate_or_error(samples: Sequence[Any], pad: int) -> Any:
    failed = [s for s in samples if isinstance(s, RbftError)]
    try:
        return failed[0] if failed else collate(samples, pad)
    except RbftError as error:
        return error
