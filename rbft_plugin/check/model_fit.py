"""Whether clips fit a base model and a training recipe: what would be cut off, resized or thinned out silently.

LLaMA-Factory truncates what is longer than `cutoff_len`, shrinks frames above `video_max_pixels` and takes fewer frames
than a clip has above `video_maxlen` or below its rate; a processor resizes what is no multiple of its patches. Training
goes on as if nothing were, on other tensors than the evaluation's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rbft_plugin.clips.geometry import clip_size, frame_count
from rbft_plugin.clips.video import WHOLE, Clip, Part, VideoError, probe
from rbft_plugin.data.prepared import MEDIA_MARK, PreparedSample, TrainingRow
from rbft_plugin.errors import Finding, RbftError, lines
from rbft_plugin.model.chat import after_video
from rbft_plugin.model.processor import BaseProcessor, load_base, processed_size, tokens
from rbft_plugin.spec.dataset import ClipSettings
from rbft_plugin.spec.names import TASK_KINDS
from rbft_plugin.spec.recipe import Recipe
from rbft_plugin.spec.yaml_models import read_yaml

# Of LLaMA-Factory 0.9.5, for what a recipe does not set.
DEFAULTS = {"video_max_pixels": 256 * 256, "video_min_pixels": 16 * 16, "video_maxlen": 128, "video_fps": 2.0}
CUTOFF = 2048


@dataclass(frozen=True)
class TrainingExample:
    """What a stage trains on: a clip, a prompt, and an answer or the most tokens that it may have."""

    where: str
    clip: Clip
    prompt: str
    answer: str | int


def seconds(header: Clip, part: Part = WHOLE) -> float | None:
    """How long a part of a video is by its header, a frame at least; None if the header does not say."""
    if not header.frames or not header.fps:
        return None
    end = min(header.frames / header.fps, math.inf if part.end is None else part.end)
    return max(end - part.cut - part.start, 1 / header.fps)


def planned(header: Clip, length: float | None, settings: ClipSettings) -> Clip:
    """The clip that `prepare` will make of a video, or of a part of it, with this header and length in seconds.

    Where the length is not known it is taken for one with all frames that the settings allow.
    """
    width, height = clip_size(header.width, header.height, settings)
    if not length:
        return Clip(settings.frames, width, height, settings.max_fps)
    frames = frame_count(length, max(1, round(length * header.fps)) if header.fps else settings.frames, settings)
    return Clip(frames, width, height, frames / length)


def longest_rationale(recipe: Recipe) -> int:
    """The most tokens of a rationale: max_new_tokens of the task, unless the recipe's gen_kwargs say otherwise."""
    override = re.search(r"max_new_tokens\W+(\d+)", str(recipe.evaluation.args.get("gen_kwargs", "")))
    if override:
        return int(override.group(1))
    path = Path("task_configs") / TASK_KINDS["rationale"].bases[0]
    try:
        return int(read_yaml(path, functions=True)["generation_kwargs"]["max_new_tokens"])
    except (OSError, RbftError, KeyError, TypeError, ValueError):
        raise RbftError(f"{path}: needs generation_kwargs.max_new_tokens, the most tokens of a rationale") from None


def model_findings(base: BaseProcessor, settings: ClipSettings, clips: Iterable[Clip]) -> list[Finding]:
    """Where the processor would resize clips, or the model would not tell their frames apart in time."""
    findings = []
    if base.family == "qwen2_5_vl" and settings.max_fps > 2:
        findings.append(
            Finding(
                "error", "frame-rate", "clips.max_fps",
                f"is {settings.max_fps:g}, but must be at most 2 for {base.name}: transformers truncates the seconds "
                "between its time steps to whole ones, and all frames would get one position in time",
            )
        )  # fmt: skip
    if base.token_extent is None:  # a processor with a scheme of its own
        return findings
    pixels, frames = base.token_extent
    for key, value, unit in (("multiple", settings.multiple, pixels), ("frames", settings.frames, frames)):
        if value % unit:
            text = f"is {value}, but {base.name} needs a multiple of {unit}: change it and prepare again"
            findings.append(Finding("error", "size-multiple", f"clips.{key}", text))
    if findings:  # every size would be wrong
        return findings
    for clip in sorted({replace(c, fps=1.0) for c in clips}, key=str):
        count, width, height = processed_size(base, clip)
        if (count, width, height) != (clip.frames, clip.width, clip.height):
            size = base.processor.video_processor.size
            limits = f"{size['shortest_edge']} to {size['longest_edge']} pixels"
            text = f"{base.name}'s processor makes {width}x{height} of them, since it takes {limits}; change clips."
            where = f"clips of {clip.frames} frames, {clip.width}x{clip.height}"
            findings.append(Finding("error", "clip-resized", where, text + "max_pixels and prepare again"))
    return findings


def break_findings(base: BaseProcessor, given: Iterable[str]) -> list[Finding]:
    """Where training rows have another space after the video than the evaluation."""
    wanted = after_video(base.processor)
    if wrong := sorted(set(given) - {wanted}):
        text = f"is {wrong[0]!r}, but {base.name} has {wanted!r} there: set it so and prepare again"
        return [Finding("error", "after-video", "prompts.after_video", text)]
    return []


def stage_findings(
    base: BaseProcessor | None, merged: dict[str, Any], stage: str, examples: Sequence[TrainingExample]
) -> list[Finding]:
    """What LLaMA-Factory would silently do to a stage's examples; `merged` are its settings.

    Without a base model only whether it changes clips, not whether it cuts texts.
    """
    findings = _changed_clips(merged, stage, [e.clip for e in examples])
    return findings if base is None else findings + _too_long(base, merged, stage, examples)


def run_problems(
    recipe: Recipe, settings: ClipSettings, merged: dict[str, Any], stage: str, rows: Sequence[TrainingRow]
) -> list[str]:
    """What `model_findings`, `break_findings` and `stage_findings` say of the training rows of a stage, as lines.

    `checks.row_problems` must have found the rows right.

    Where the base model cannot be loaded here (the harness may know other caches or mirrors), it is not asked.
    """
    try:
        examples = _examples(rows)
    except VideoError as error:
        return [str(error)]
    try:
        base = load_base(recipe.base_model)
    except RbftError:
        return lines(stage_findings(None, merged, stage, examples))
    findings = model_findings(base, settings, [e.clip for e in examples])
    texts = [row.message.partition(MEDIA_MARK)[2] for row in rows]
    findings += break_findings(base, {text[: len(text) - len(text.lstrip())] for text in texts})
    return lines(findings + stage_findings(base, merged, stage, examples))


def run_tokens(base_model: str, rows: Sequence[TrainingRow]) -> int | None:
    """The number of tokens of all rows, or None if the base model cannot be loaded here.

    `run_problems` must have found the rows right.
    """
    try:
        base = load_base(base_model)
    except RbftError:
        return None
    return sum(tokens(base, e.clip, e.prompt, e.answer) for e in _examples(rows))


def split_problems(recipe: Recipe, settings: ClipSettings, rows: Iterable[PreparedSample]) -> list[str]:
    """Lines on whether the base model would see the clips of a prepared split as they are."""
    try:
        base = load_base(recipe.base_model)
    except RbftError:  # see run_problems
        return []
    return lines(model_findings(base, settings, [clip_of(row) for row in rows]))


def clip_of(sample: PreparedSample) -> Clip:
    """The clip of a prepared sample."""
    meta = sample.meta
    return Clip(meta.frames, meta.width, meta.height, meta.frames / meta.seconds)


def _examples(rows: Sequence[TrainingRow]) -> list[TrainingExample]:
    made = []
    for number, row in enumerate(rows, 1):
        where = f"row {number}" + (f" (id '{row.id}')" if row.id else "")
        try:
            made.append(
                TrainingExample(
                    where, probe(Path(row.video)), row.message.replace(MEDIA_MARK, "", 1).lstrip(), row.answer
                )
            )
        except VideoError as error:
            raise VideoError(f"{where}: {row.video} {error}") from None
    return made


def _changed_clips(merged: dict[str, Any], stage: str, clips: Sequence[Clip]) -> list[Finding]:
    """Where LLaMA-Factory would resize clips or leave out frames."""
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
        "video_fps": (lambda v: v > rate, f"above {rate:.4g} (the frames a second of the fastest clip), such as 1024"),
    }
    given = {key: merged.get(key, DEFAULTS[key]) for key in bounds}
    return [
        Finding("error", "clip-changed", f"training.stages.{stage}", f"{key} must be a number {text}, not {given[key]}")
        for key, (right, text) in bounds.items()
        if not isinstance(given[key], int | float) or isinstance(given[key], bool) or not right(given[key])
    ]


def _too_long(
    base: BaseProcessor, merged: dict[str, Any], stage: str, examples: Sequence[TrainingExample]
) -> list[Finding]:
    """Examples that LLaMA-Factory would cut."""
    cutoff = merged.get("cutoff_len", CUTOFF)
    if not isinstance(cutoff, int):
        return [
            Finding("error", "cutoff", f"training.stages.{stage}", f"cutoff_len must be a whole number, not {cutoff}")
        ]
    lengths = [(e, tokens(base, e.clip, e.prompt, e.answer)) for e in examples]
    most = max((n for _, n in lengths), default=0)
    cut = f"training.stages.{stage} silently cuts at {cutoff}; cutoff_len: {most} would hold every sample"
    findings = []
    for example, n in lengths:
        if n <= cutoff:
            continue
        if isinstance(example.answer, str) or n - example.answer >= cutoff:
            findings.append(Finding("error", "too-long", example.where, f"{n} tokens, and {cut}"))
        else:
            text = f"{n} tokens, should the rationale be as long as it may ({example.answer}), and {cut}"
            findings.append(Finding("warning", "may-be-too-long", example.where, text))
    return findings
