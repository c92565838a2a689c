"""A base model's processor: how many tokens a sample is to it, and what size it gives a clip. No weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from threading import Lock
from typing import Any

from rbft_plugin.clips.video import Clip
from rbft_plugin.errors import RbftError
from rbft_plugin.model.checkpoint import local

MARK = "rbft-answer"
_LOADING = Lock()  # steps of a run are checked side by side


@dataclass(frozen=True, eq=False)
class Base:
    """A base model, as far as its inputs are concerned; `family` is its config's model_type."""

    name: str
    family: str
    processor: Any

    @property
    def cell(self) -> tuple[int, int] | None:
        """(pixels, frames) that one token stands for, along a side and in time; None if the processor does not say."""
        video = self.processor.video_processor
        if not hasattr(video, "patch_size") or not hasattr(video, "merge_size"):
            return None
        return video.patch_size * video.merge_size, getattr(video, "temporal_patch_size", 1)


def load_base(name: str) -> Base:
    """Load processor and family alone, from a folder or the hub (a few MB, never weights); RbftError if there is none.

    transformers asks the hub again and again for minutes where there is no network; a snapshot answers at once. It is
    loaded once; a thread that asks meanwhile waits.
    """
    with _LOADING:
        return _load(name)


@cache
def _load(name: str) -> Base:
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
    return Base(name, family, processor)


def tokens(base: Base, clip: Clip, prompt: str, answer: str | int) -> int:
    """Length of the sequence that LLaMA-Factory trains on: prompt, video, answer and the end of its turn.

    An answer that is not there yet is given as the most tokens that it may have. LLaMA-Factory encodes the answer and
    its end apart from what is before them, and so does this.
    """
    chat, ending = _chat(base, prompt)
    length = len(base.processor.tokenizer(chat)["input_ids"]) + _video_tokens(base, clip)
    return length + (_count(base, answer + ending) if isinstance(answer, str) else answer + _count(base, ending))


def made_of(base: Base, clip: Clip) -> tuple[int, int, int]:
    """(frames, width, height) that the processor makes of a clip; the same if it does not say."""
    return _processed(base, replace(clip, fps=1.0))[1]


def after_video(base: Base) -> str:
    """The white space that the chat template puts between a video and the text after it."""
    before = _chat(base, MARK)[0].partition(MARK)[0]
    return before[len(before.rstrip()) :]


def _chat(base: Base, prompt: str) -> tuple[str, str]:
    """Chat text of a prompt up to the answer, the video as one mark, and what follows an answer."""
    user = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": prompt}]}
    answered = [user, {"role": "assistant", "content": [{"type": "text", "text": MARK}]}]
    template = base.processor.apply_chat_template
    return template([user], add_generation_prompt=True), template(answered).rpartition(MARK)[2]


def _count(base: Base, text: str) -> int:
    return len(base.processor.tokenizer(text, add_special_tokens=False)["input_ids"])


def _video_tokens(base: Base, clip: Clip) -> int:
    """Tokens that stand for a clip, its time marks included, less the one mark in the chat text."""
    length, _ = _processed(base, replace(clip, fps=1.0))
    if hasattr(base.processor, "_calculate_timestamps"):
        # Qwen3-VL writes the seconds before each pair of frames. Text costs little; pixels, even zeros, do.
        unit = 2 * (base.cell or (28, 2))[0]
        small = replace(clip, width=unit, height=unit)
        length += _processed(base, small)[0] - _processed(base, replace(small, fps=1.0))[0]
    return length


@cache
def _processed(base: Base, clip: Clip) -> tuple[int, tuple[int, int, int]]:
    """What the processor makes of a clip: tokens more than those of the chat text, and (frames, width, height)."""
    import torch

    chat, _ = _chat(base, "")
    metadata = {
        "total_num_frames": clip.frames,
        "fps": clip.fps,
        "frames_indices": list(range(clip.frames)),
        "height": clip.height,
        "width": clip.width,
        "duration": clip.frames / clip.fps,
    }
    made = base.processor(
        text=[chat],
        videos=[torch.zeros((clip.frames, 3, clip.height, clip.width), dtype=torch.uint8)],
        video_metadata=[metadata],
        do_sample_frames=False,
        do_rescale=False,  # zeros stay bytes: a quarter of the memory
        do_normalize=False,
    )
    length = len(made["input_ids"][0]) - len(base.processor.tokenizer(chat)["input_ids"])
    if base.cell is None or "video_grid_thw" not in made:
        return length, (clip.frames, clip.width, clip.height)
    t, h, w = (int(n) for n in made["video_grid_thw"][0])
    patch = base.processor.video_processor.patch_size
    return length, (t * base.cell[1], w * patch, h * patch)
