"""The chat text and the video metadata for a model's processor: the same for training, scoring and checks."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from rbft_plugin.clips.video import Clip

MARK = "rbft-answer"  # stands for an answer or a prompt, to find the chat text around it


def chat_text(processor: Any, prompt: str, video: bool = True) -> str:
    """The chat text up to the answer: a user's turn with a placeholder of the video, and the prompt."""
    text: str = processor.apply_chat_template([_user(prompt, video)], add_generation_prompt=True)
    return text


def after_answer(processor: Any) -> str:
    """What the chat template puts after an answer."""
    answered = {"role": "assistant", "content": [{"type": "text", "text": MARK}]}
    text: str = processor.apply_chat_template([_user("", video=True), answered])
    return text.rpartition(MARK)[2]


def after_video(processor: Any) -> str:
    """The white space that the chat template puts between a video and the prompt."""
    before = chat_text(processor, MARK).partition(MARK)[0]
    return before[len(before.rstrip()) :]


def video_metadata(clip: Clip) -> dict[str, Any]:
    """A video's metadata for transformers, where every frame of the clip is used.

    The rate is rounded to the fraction that training reads from the clip. frames / duration may differ in its last bit,
    and Qwen3-VL's timestamps, which have one decimal, then move by 0.1 s: in 3 % of clips of 0.05 to 5 s a frame.
    """
    return {
        "total_num_frames": clip.frames,
        "fps": float(Fraction(clip.fps).limit_denominator(100_000)),
        "frames_indices": list(range(clip.frames)),
        "height": clip.height,
        "width": clip.width,
        "duration": clip.frames / clip.fps,
    }


def _user(prompt: str, video: bool) -> dict[str, Any]:
    content = [{"type": "video"}] if video else []
    return {"role": "user", "content": [*content, {"type": "text", "text": prompt}]}
