"""Whether clips fit a base model and a training recipe: what would be cut off, resized or thinned out without a word.

LLaMA-Factory truncates what is longer than `cutoff_len`, shrinks frames above `video_max_pixels` and takes fewer frames
than a clip has above `video_maxlen` or below its rate; a processor resizes what is no multiple of its patches. Training
goes on as if nothing were, on other tensors than the evaluation's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rbft_plugin.clips import WHOLE, Clip, Part, clip_size, frame_count
from rbft_plugin.dataset import ClipSettings
from rbft_plugin.errors import Finding, RbftError
from rbft_plugin.recipe import Recipe, Stage
from rbft_plugin.registry import RATIONALE_BASE

# Of LLaMA-Factory 0.9.5, for what a recipe does not set.
DEFAULTS = {"video_max_pixels": 256 * 256, "video_min_pixels": 16 * 16, "video_maxlen": 128, "video_fps": 2.0}
CUTOFF = 2048
MARK = "rbft-answer"


@dataclass(frozen=True)
class Example:
    """What a stage trains on: a clip, a prompt, and an answer or the most tokens that it may have."""

    where: str
    clip: Clip
    prompt: str
    answer: str | int


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
        patch, merge = getattr(video, "patch_size", None), getattr(video, "merge_size", None)
        known = isinstance(patch, int) and isinstance(merge, int)
        return (patch * merge, getattr(video, "temporal_patch_size", 1)) if known else None


@cache
def load_base(name: str) -> Base:
    """Load processor and family alone, from a folder or the hub (a few MB, never weights); RbftError if there is none.

    transformers asks the hub again and again for minutes where there is no network; a snapshot answers at once.
    """
    from huggingface_hub import snapshot_download
    from transformers import AutoConfig, AutoProcessor

    patterns = ["*.json", "*.jinja", "*.txt", "*.model"]
    try:
        folder = name if Path(name).is_dir() else snapshot_download(name, allow_patterns=patterns)
        family = AutoConfig.from_pretrained(folder).model_type
        processor = AutoProcessor.from_pretrained(folder)
    except Exception as error:  # transformers raises as many kinds as there are ways in which files can be wrong
        raise RbftError(f"{name}: its processor cannot be loaded ({str(error).strip().splitlines()[0]})") from None
    if getattr(processor, "video_processor", None) is None:
        raise RbftError(f"{name}: its processor takes no video")
    return Base(name, family, processor)


def planned(header: Clip, settings: ClipSettings, part: Part = WHOLE) -> Clip:
    """The clip that `prepare` will make of a video with this header.

    Where a header has no number of frames the clip is taken for one with all frames that the settings allow.
    """
    width, height = clip_size(header.width, header.height, settings)
    if not header.frames or not header.fps:
        return Clip(settings.frames, width, height, settings.max_fps)
    end = min(header.frames / header.fps, part.end or math.inf) - part.cut
    seconds = max(end - part.start, 1 / header.fps)
    frames = frame_count(seconds, max(1, round(seconds * header.fps)), settings)
    return Clip(frames, width, height, frames / seconds)


def longest_rationale(recipe: Recipe) -> int:
    """The most tokens of a rationale: max_new_tokens of the task, unless the recipe's gen_kwargs say otherwise."""
    said = re.search(r"max_new_tokens\W+(\d+)", str(recipe.evaluation.args.get("gen_kwargs", "")))
    if said:
        return int(said.group(1))
    path = Path("task_configs") / RATIONALE_BASE
    try:
        return int(yaml.load(path.read_text(encoding="utf-8"), Loader=_Tasks)["generation_kwargs"]["max_new_tokens"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        raise RbftError(f"{path}: needs generation_kwargs.max_new_tokens, the most tokens of a rationale") from None


class _Tasks(yaml.SafeLoader):
    """Reads past lmms-eval's !function."""


_Tasks.add_multi_constructor("!", lambda loader, suffix, node: None)


def tokens(base: Base, example: Example) -> int:
    """Length of the sequence that LLaMA-Factory trains on: prompt, video, answer and the end of its turn."""
    chat, ending = _chat(base, example.prompt)
    if isinstance(example.answer, str):
        answer = _count(base, example.answer + ending)
    else:
        answer = example.answer + _count(base, ending)
    return len(base.processor.tokenizer(chat)["input_ids"]) + _video_tokens(base, example.clip) + answer


def findings(
    base: Base | None, settings: ClipSettings, merged: dict[str, Any], stage: Stage, examples: Sequence[Example]
) -> list[Finding]:
    """All that a stage would do to its examples without a word; `merged` are its settings of LLaMA-Factory.

    Without a base model only what these settings alone do.
    """
    found = _cut_or_thinned(merged, stage, {e.clip for e in examples})
    if base is not None:
        found += _misfits(base, settings, {e.clip for e in examples}) + _too_long(base, merged, stage, examples)
    return found


def _cut_or_thinned(merged: dict[str, Any], stage: Stage, clips: Iterable[Clip]) -> list[Finding]:
    """Where LLaMA-Factory would resize clips or leave out frames."""
    clips = list(clips)
    if not clips:
        return []
    sizes = [c.width * c.height for c in clips]
    rate = max(c.fps for c in clips)
    bounds = {
        "video_max_pixels": (lambda v: v >= max(sizes), f"at least {max(sizes)} (the pixels of the largest clip)"),
        "video_min_pixels": (lambda v: v <= min(sizes), f"at most {min(sizes)} (the pixels of the smallest clip)"),
        "video_maxlen": (
            lambda v: v >= max(c.frames for c in clips),
            f"at least {max(c.frames for c in clips)} (the frames of the longest clip)",
        ),
        "video_fps": (lambda v: v > rate, f"above {rate:.4g} (the frames a second of the fastest clip), such as 1000"),
    }
    given = {key: merged.get(key, DEFAULTS[key]) for key in bounds}
    return [
        Finding("error", "clip-changed", f"training.{stage}", f"{key} must be a number {text}, not {given[key]}")
        for key, (right, text) in bounds.items()
        if not isinstance(given[key], int | float) or isinstance(given[key], bool) or not right(given[key])
    ]


def _misfits(base: Base, settings: ClipSettings, clips: Iterable[Clip]) -> list[Finding]:
    """Where the processor would resize clips, or the model would not tell their frames apart in time."""
    found = []
    if base.family == "qwen2_5_vl" and settings.max_fps > 2:
        found.append(
            Finding(
                "error", "frame-rate", "clips.max_fps",
                f"is {settings.max_fps:g}, but must be at most 2 for {base.name}: transformers truncates the seconds "
                "between its time steps to whole ones, and all frames would get one position in time",
            )
        )  # fmt: skip
    if base.cell is None:  # a processor with a scheme of its own
        return found
    pixels, frames = base.cell
    for key, value, unit in (("multiple", settings.multiple, pixels), ("frames", settings.frames, frames)):
        if value % unit:
            text = f"is {value}, but {base.name} needs a multiple of {unit}: change it and prepare again"
            found.append(Finding("error", "size-multiple", f"clips.{key}", text))
    if found:  # every size would be wrong
        return found
    for clip in sorted({replace(c, fps=1.0) for c in clips}, key=str):
        _, (count, width, height) = _processed(base, clip)
        if (count, width, height) != (clip.frames, clip.width, clip.height):
            size = base.processor.video_processor.size
            limits = f"{size['shortest_edge']} to {size['longest_edge']} pixels"
            text = f"{base.name}'s processor makes {width}x{height} of them, since it takes {limits}; change clips."
            where = f"clips of {clip.frames} frames, {clip.width}x{clip.height}"
            found.append(Finding("error", "clip-resized", where, text + "max_pixels and prepare again"))
    return found


def _too_long(base: Base, merged: dict[str, Any], stage: Stage, examples: Sequence[Example]) -> list[Finding]:
    """Examples that LLaMA-Factory would cut."""
    cutoff = merged.get("cutoff_len", CUTOFF)
    if not isinstance(cutoff, int):
        return [Finding("error", "cutoff", f"training.{stage}", f"cutoff_len must be a whole number, not {cutoff}")]
    lengths = {e: tokens(base, e) for e in examples}
    most = max(lengths.values(), default=0)
    return [
        Finding(
            "error", "too-long", e.where,
            f"{n} tokens{'' if isinstance(e.answer, str) else ' with the longest rationale'}, of which LLaMA-Factory "
            f"would cut all after {cutoff} (cutoff_len of training.{stage}; {most} would hold every sample)",
        )
        for e, n in lengths.items() if n > cutoff
    ]  # fmt: skip


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
