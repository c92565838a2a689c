"""A base model's processor: the tokens of a sample and the size that it gives a clip. No weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from threading import Lock
from typing import Any

from rbft_plugin.clips.video import Clip
from rbft_plugin.errors import RbftError, first_line
from rbft_plugin.model.chat import after_answer, chat_text, video_metadata
from rbft_plugin.model.checkpoint import local_folder

_LOADING = Lock()  # several threads check steps of a run at the same time


@dataclass(frozen=True, eq=False)
class BaseProcessor:
    """The part of a base model that makes its inputs. `family` is its config's model_type."""

    name: str
    family: str
    processor: Any

    @property
    def token_extent(self) -> tuple[int, int] | None:
        """(pixels along a side, frames) that one token stands for; None if the processor does not say."""
        video = self.processor.video_processor
        if not hasattr(video, "patch_size") or not hasattr(video, "merge_size"):
            return None
        return video.patch_size * video.merge_size, getattr(video, "temporal_patch_size", 1)


def load_base(name: str) -> BaseProcessor:
    """Load the processor and the family from a folder or the hub (a few MB). Raises RbftError if that fails.

    Without network transformers asks the hub again for minutes; `local_folder` fails at once. Each base is loaded once;
    a thread that asks for it meanwhile waits.
    """
    with _LOADING:
        return _load(name)


@cache
def _load(name: str) -> BaseProcessor:
    try:
        folder = local_folder(name)
        from transformers import AutoConfig, AutoProcessor
        from transformers.utils import logging

        logging.set_verbosity_error()
        family = AutoConfig.from_pretrained(folder).model_type
        processor = AutoProcessor.from_pretrained(folder)
    except Exception as error:  # transformers raises many types for files that are wrong
        raise RbftError(f"{name}: its processor cannot be loaded ({first_line(error)})") from None
    if getattr(processor, "video_processor", None) is None:
        raise RbftError(f"{name}: its processor takes no video")
    return BaseProcessor(name, family, processor)


def tokens(base: BaseProcessor, clip: Clip, prompt: str, answer: str | int) -> int:
    """Length of the sequence that LLaMA-Factory trains on: prompt, video, answer and the end of its turn.

    For an answer that does not exist yet, `answer` is the number of tokens that it may have. LLaMA-Factory encodes the
    answer and the end of turn apart from the prompt, and so does this function.
    """
    length = len(base.processor.tokenizer(chat_text(base.processor, prompt))["input_ids"]) + _video_tokens(base, clip)
    return length + (answer_tokens(base, answer) if isinstance(answer, str) else answer + answer_tokens(base, ""))


def answer_tokens(base: BaseProcessor, answer: str) -> int:
    """Tokens of an answer and of the end of its turn, which are those that a training learns."""
    return len(base.processor.tokenizer(answer + after_answer(base.processor), add_special_tokens=False)["input_ids"])


def processed_size(base: BaseProcessor, clip: Clip) -> tuple[int, int, int]:
    """(frames, width, height) that the processor makes of a clip; those of the clip if the processor does not say."""
    return _processed(base, replace(clip, fps=1.0))[1]


def _video_tokens(base: BaseProcessor, clip: Clip) -> int:
    """Tokens of a clip and its timestamps, less the one placeholder in the chat text."""
    length, _ = _processed(base, replace(clip, fps=1.0))
    if hasattr(base.processor, "_calculate_timestamps"):
        # Qwen3-VL writes timestamps before each pair of frames. They are counted on small frames, which cost less.
        unit = 2 * (base.token_extent or (28, 2))[0]
        small = replace(clip, width=unit, height=unit)
        length += _processed(base, small)[0] - _processed(base, replace(small, fps=1.0))[0]
    return length


@cache
def _processed(base: BaseProcessor, clip: Clip) -> tuple[int, tuple[int, int, int]]:
    """Tokens that a clip adds to the chat text, and (frames, width, height) that the processor makes of the clip."""
    import torch

    chat = chat_text(base.processor, "")
    inputs = base.processor(
        text=[chat],
        videos=[torch.zeros((clip.frames, 3, clip.height, clip.width), dtype=torch.uint8)],
        video_metadata=[video_metadata(clip)],
        do_sample_frames=False,
        do_rescale=False,  # zeros stay bytes, a quarter of the memory of floats
        do_normalize=False,
    )
    length = len(inputs["input_ids"][0]) - len(base.processor.tokenizer(chat)["input_ids"])
    if base.token_extent is None or "video_grid_thw" not in inputs:
        return length, (clip.frames, clip.width, clip.height)
    t, h, w = (int(n) for n in inputs["video_grid_thw"][0])
    patch = base.processor.video_processor.patch_size
    return length, (t * base.token_extent[1], w * patch, h * patch)
