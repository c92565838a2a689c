"""`rbft_vl`: an lmms-eval model for canonical clips, with the inputs that LLaMA-Factory trains on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from tqdm import tqdm

from rbft_plugin import clips
from rbft_plugin.checkpoint import adapter_list
from rbft_plugin.errors import RbftError
from rbft_plugin.positions import require_right_positions


@dataclass(frozen=True)
class Generation:
    """Text without special tokens; tokens count neither padding nor the end of turn."""

    text: str
    input_tokens: int
    output_tokens: int


def load_model(
    pretrained: str, adapters: Sequence[str] = (), device: str | None = None, dtype: str = "auto", attn: str = ""
) -> tuple[Any, Any]:
    """(model, processor), ready to generate. Adapters are merged into the model one after the other, in their order,
    as LLaMA-Factory's `create_new_adapter` trained them.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()  # a line for every weight, where output is not a terminal
    require_right_positions(AutoConfig.from_pretrained(pretrained).model_type)
    given = {"attn_implementation": attn} if attn else {}
    model = AutoModelForImageTextToText.from_pretrained(pretrained, dtype=dtype, **given)
    for adapter in adapters:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    processor = AutoProcessor.from_pretrained(pretrained)
    if getattr(processor, "video_processor", None) is None:
        raise RbftError(f"{pretrained}: its processor takes no video")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return model.to(device).eval(), processor


def batch_inputs(processor: Any, videos: Sequence[str | Path], prompts: Sequence[str]) -> Any:
    """Left-padded inputs for clips of any length and size, one prompt each; equal to LLaMA-Factory's for one row."""
    frames, metadata, texts = [], [], []
    for video, prompt in zip(videos, prompts, strict=True):
        pixels, clip = clips.load(Path(video))
        frames.append(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        metadata.append(
            {
                "total_num_frames": clip.frames,
                "fps": clip.fps,
                "frames_indices": list(range(clip.frames)),
                "height": clip.height,
                "width": clip.width,
                "duration": clip.frames / clip.fps,
            }
        )
        content = [{"type": "video"}, {"type": "text", "text": prompt}]
        texts.append(processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True))
    inputs = processor(
        text=texts,
        videos=frames,
        video_metadata=metadata,
        do_sample_frames=False,
        padding=True,
        padding_side="left",
        return_tensors="pt",
    )
    if "second_per_grid_ts" in inputs:
        # The processor's is float32; positions are truncated from it, and training truncates from doubles.
        steps = [processor.video_processor.temporal_patch_size / m["fps"] for m in metadata]
        inputs["second_per_grid_ts"] = torch.tensor(steps, dtype=torch.float64)
    return inputs


@torch.no_grad()
def generate(model: Any, processor: Any, inputs: Any, settings: dict[str, Any]) -> list[Generation]:
    """Answers to a batch. `settings` are those of transformers' generate, and `until`: texts that end an answer."""
    settings = dict(settings)
    until = settings.pop("until", None) or []
    if not settings.get("do_sample") and not settings.get("temperature"):
        settings |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    else:
        settings["do_sample"] = True
    out = model.generate(**inputs.to(model.device), **settings)
    prompt = inputs["input_ids"].shape[1]
    ends = {processor.tokenizer.eos_token_id, processor.tokenizer.pad_token_id}
    eos = model.generation_config.eos_token_id
    ends |= set(eos) if isinstance(eos, list) else {eos}
    results = []
    for ids, mask in zip(out[:, prompt:].tolist(), inputs["attention_mask"], strict=True):
        length = next((i for i, token in enumerate(ids) if token in ends), len(ids))
        text = processor.tokenizer.decode(ids[:length], skip_special_tokens=True)
        for stop in [until] if isinstance(until, str) else until:
            text = text.split(stop)[0]
        results.append(Generation(text, int(mask.sum()), length))
    return results


class RbftVL(lmms):
    """Model arguments: pretrained, adapters (folders joined by ':', applied in order), dtype, attn_implementation."""

    is_simple = True

    def __init__(
        self,
        pretrained: str,
        adapters: str = "",
        dtype: str = "auto",
        attn_implementation: str = "",
        device: str | None = None,
        batch_size: int | str = 1,
        **unknown: Any,
    ) -> None:
        super().__init__()
        unknown.pop("max_batch_size", None)  # lmms-eval's own, always passed when given
        if unknown:
            raise RbftError(
                f"rbft_vl: unknown model arguments: {', '.join(unknown)}; known are pretrained, adapters, dtype, "
                "attn_implementation"
            )
        if not str(batch_size).isdigit() or int(batch_size) < 1:
            raise RbftError(f"rbft_vl: --batch_size must be a whole number above 0, not {batch_size!r}")
        if "WORLD_SIZE" in os.environ and (device or "cuda") == "cuda" and torch.cuda.is_available():
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        self.batch_size = int(batch_size)
        self.model, self.processor = load_model(pretrained, adapter_list(adapters), device, dtype, attn_implementation)
        self.device = self.model.device

    def generate_until(self, requests: list[Instance]) -> list[GenerationResult]:
        progress = tqdm(total=len(requests), desc="rbft_vl", disable=self.rank != 0, mininterval=1)
        results: list[GenerationResult] = []
        # Requests of one task come one after the other and share their settings.
        for _, same in groupby(requests, key=lambda r: json.dumps(r.args[1], sort_keys=True, default=str)):
            group = list(same)
            for some in (group[i : i + self.batch_size] for i in range(0, len(group), self.batch_size)):
                videos, prompts = [], []
                for request in some:
                    prompt, _, doc_to_visual, doc_id, task, split = request.args
                    visuals = doc_to_visual(self.task_dict[task][split][doc_id])
                    if len(visuals) != 1:
                        raise RbftError(f"rbft_vl takes one video a sample; task {task} gives {len(visuals)}")
                    videos.append(visuals[0])
                    prompts.append(prompt)
                inputs = batch_inputs(self.processor, videos, prompts)
                for answer in generate(self.model, self.processor, inputs, some[0].args[1]):
                    counts = TokenCounts(answer.input_tokens, answer.output_tokens)
                    results.append(GenerationResult(answer.text, counts))
                progress.update(len(some))
        progress.close()
        return results

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise NotImplementedError("rbft_vl does not score likelihoods yet")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        raise NotImplementedError("rbft_vl answers in one round")
