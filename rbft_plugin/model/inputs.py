"""Clips and prompts -> the tensors that a model takes: those that LLaMA-Factory trains on, in padded batches.

Every sample goes through the processor alone, and batches are put together here: some families' processors take only
videos of one length at a time, and so a batch cannot differ from its samples.
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
from rbft_plugin.errors import RbftError
from rbft_plugin.model.chat import chat_text, video_metadata

MOST_WORKERS = 4  # by default: more rarely helps, and each holds two batches in shared memory


@dataclass(frozen=True)
class ModelInput:
    """What the model is shown. `size` is a measure of its length; batches are made of inputs of similar size."""

    prompt: str
    video: str | None = None  # a canonical clip
    size: int = 0


def batch_inputs(processor: Any, videos: Sequence[str | Path | None], prompts: Sequence[str]) -> Any:
    """Left-padded inputs for clips of any length and size, one prompt each; equal to LLaMA-Factory's for one row.

    None for a video leaves it out: the prompt alone. Raises VideoError for a clip that cannot be read.
    """
    return collate([sample_inputs(processor, v, p) for v, p in zip(videos, prompts, strict=True)], pad_id(processor))


def sample_inputs(processor: Any, video: str | Path | None, prompt: str) -> dict[str, torch.Tensor]:
    """Inputs of one sample, unpadded; input_ids and attention_mask have shape (1, tokens)."""
    given: dict[str, Any] = {}
    if video is not None:
        pixels, clip = load_clip(Path(video))
        frames = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        given = {"videos": [frames], "video_metadata": [video_metadata(clip)], "do_sample_frames": False}
    text = chat_text(processor, prompt, video is not None)
    inputs = dict(processor(text=[text], return_tensors="pt", **given))
    if "second_per_grid_ts" in inputs:
        # The processor's is float32; positions are truncated from it, and training truncates from doubles.
        step = processor.video_processor.temporal_patch_size / clip.fps
        inputs["second_per_grid_ts"] = torch.tensor([step], dtype=torch.float64)
    return inputs


def pad_id(processor: Any) -> int:
    pad = processor.tokenizer.pad_token_id
    return int(processor.tokenizer.eos_token_id if pad is None else pad)


def collate(samples: Sequence[dict[str, torch.Tensor]], pad: int) -> Any:
    """One batch of several samples. Values that are one a token are padded on the left; others are joined.

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
                f"this model's videos cannot share a batch, for their shapes differ ({key}: "
                f"{', '.join(str(tuple(part.shape)) for part, _ in parts)}); use --batch_size 1"
            )
        batch[key] = torch.cat([part for part, _ in parts])
    return BatchFeature(batch)


def on_device(inputs: Any, model: Any) -> dict[str, torch.Tensor]:
    """Inputs where the model is, pixels in its precision; times stay doubles."""
    return {
        k: v.to(model.device, model.dtype if k.startswith("pixel") else None, non_blocking=True)
        for k, v in inputs.items()
    }


def default_workers() -> int:
    """Reading processes: one core is left to the process that runs the model, and processes share the cores."""
    cores = len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(0, min(MOST_WORKERS, cores - 1))


def batches(
    processor: Any, samples: Sequence[ModelInput], batch_size: int, workers: int
) -> Iterator[tuple[list[int], Any]]:
    """(indices of samples, their inputs), longest first; the next batches are read while one is in use.

    Longest first, so that what does not fit into memory fails at once. Raises RbftError for a clip that cannot be read.
    """
    order = sorted(range(len(samples)), key=lambda i: (samples[i].size, len(samples[i].prompt)), reverse=True)
    groups = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    workers = min(workers, len(groups))
    if workers:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # or it warns in every process
    loader = torch.utils.data.DataLoader(
        _Samples(processor, samples),
        batch_sampler=groups,
        num_workers=workers,
        collate_fn=partial(_batch, pad=pad_id(processor)),
        pin_memory=False,  # a batch is small beside what is computed from it
    )
    rest = iter(loader)
    for group in groups:
        try:
            inputs = next(rest)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise RbftError(
                f"a process that reads clips died ({str(error).splitlines()[0]}); the usual reason is too little "
                "shared memory (docker's --shm-size): use the model argument num_workers=0"
            ) from None
        if isinstance(inputs, RbftError):
            raise inputs
        yield group, inputs


class _Samples(torch.utils.data.Dataset):
    """Inputs of one sample, or the RbftError with its reason: torch would put a traceback into its message."""

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


def _batch(samples: Sequence[Any], pad: int) -> Any:
    failed = [s for s in samples if isinstance(s, RbftError)]
    try:
        return failed[0] if failed else collate(samples, pad)
    except RbftError as error:
        return error
