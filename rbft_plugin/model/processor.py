"""A base model's processor: how many tokens a sample is to it, and what size it gives a clip. No weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from threading import Lock
from typing import Any

from rbft_plugin.clips.video import Clip
from rbft_plugin.errors import RbftError
from rbft_plugin.model.chat import after_answer, chat_text, video_metadata
from rbft_plugin.model.checkpoint import local

_LOADING = Lock()  # several threads check steps of a run at the same time


@dataclass(frozen=True, eq=False)
class BaseProcessor:
    """A base model, as far as its inputs are concerned; `family` is its config's model_type."""

    name: str
    family: str
    processor: Any

    @property
    def token_cell(self) -> tuple[int, int] | None:
        """(pixels, frames) that one token stands for, along a side and in time; None if the processor does not say."""
        video = self.processor.video_processor
        if not hasattr(video, "patch_size") or not hasattr(video, "merge_size"):
            return None
        return video.patch_size * video.merge_size, getattr(video, "temporal_patch_size", 1)


def load_base(name: str) -> BaseProcessor:
    """Load processor and family alone, from a folder or the hub (a few MB, never weights); RbftError if there is none.

    transformers asks the hub again and again for minutes where there is no network; a snapshot answers at once. It is
    loaded once; a thread that asks meanwhile waits.
    """
    with _LOADING:
        return _load(name)


@cache
def _load(name: str) -> BaseProcessor:
    try:
        folder = local(name)
        from transformers import AutoConfig, AutoProcessor
        from transformers.utils import logging

        logging.set_verbosity_error()
        family = AutoConfig.from_pretrained(folder).model_type
        processor = AutoProcessor.from_pretrained(folder)
    except Exception as error:  # transformers raises as many kinds as there are ways in which files can be wrong
        raise RbftError(f"{name}: its processor cannot be loaded ({str(error).strip().splitlines()[0]})") from None
    if getattr(processor, "video_processor", None) is None:
        raise RbftError(f"{name}: its processor takes no video")
    return BaseProcessor(name, family, processor)


def tokens(base: BaseProcessor, clip: Clip, prompt: str, answer: str | int) -> int:
    """Length of the sequence that LLaMA-Factory trains on: prompt, video, answer and the end of its turn.

    An answer that is not there yet is given as the most tokens that it may have. LLaMA-Factory encodes the answer and
    its end apart from what is before them, and so does this.
    """
    chat, ending = chat_text(base.processor, prompt), after_answer(base.processor)
    length = len(base.processor.tokenizer(chat)["input_ids"]) + _video_tokens(base, clip)
    return length + (_count(base, answer + ending) if isinstance(answer, str) else answer + _count(base, ending))


def made_of(base: BaseProcessor, clip: Clip) -> tuple[int, int, int]:
    """(frames, width, height) that the processor makes of a clip; the same if it does not say."""
    return _processed(base, replace(clip, fps=1.0))[1]


def _count(base: BaseProcessor, text: str) -> int:
    return len(base.processor.tokenizer(text, add_special_tokens=False)["input_ids"])


def _video_tokens(base: BaseProcessor, clip: Clip) -> int:
    """Tokens that stand for a clip, its time marks included, less the one mark in the chat text."""
    length, _ = _processed(base, replace(clip, fps=1.0))
    if hasattr(base.processor, "_calculate_timestamps"):
        # Qwen3-VL writes the seconds before each pair of frames. Text costs little; pixels, even zeros, do.
        unit = 2 * (base.token_cell or (28, 2))[0]
        small = replace(clip, width=unit, height=unit)
        length += _processed(base, small)[0] - _processed(base, replace(small, fps=1.0))[0]
    return length


@cache
def _processed(base: BaseProcessor, clip: Clip) -> tuple[int, tuple[int, int, int]]:
    """What the processor makes of a clip: tokens more than those of the chat text, and (frames, width, height)."""
    import torch

    chat = chat_text(base.processor, "")
    made = base.processor(
        text=[chat],
        videos=[torch.zeros((clip.frames, 3, clip.height, clip.width), dtype=torch.uint8)],
        video_metadata=[video_metadata(clip)],
        do_sample_frames=False,
        do_rescale=False,  # zeros stay bytes: a quarter of the memory
        do_normalize=False,
    )
    length = len(made["input_ids"][0]) - len(base.processor.tokenizer(chat)["input_ids"])
    if base.token_cell is None or "video_grid_thw" not in made:
        return length, (clip.frames, clip.width, clip.height)
    t, h, w = (int(n) for n in made["video_grid_thw"][0])
    patch = base.processor.video_processor.patch_size
    return length, (t * base.token_cell[1], w * patch, h * patch)
