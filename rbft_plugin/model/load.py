"""Load a checkpoint from disk or the hub: a model that is ready to run, and its processor."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rbft_plugin.errors import ProblemsError, RbftError, first_line, shortened
from rbft_plugin.model.rope_check import require_right_positions


def load_model(
    pretrained: str,
    adapters: Sequence[str] = (),
    device: str | None = None,
    dtype: str = "auto",
    attn: str = "",
    device_map: str = "",
    trust_remote_code: bool = False,
) -> tuple[Any, Any]:
    """Return (model, processor), ready to generate.

    Adapters are merged into the model one after the other, as LLaMA-Factory's `create_new_adapter` trained them. With
    `device_map` accelerate spreads the model, and `device` does not count. Raises RbftError for a model or adapter that
    cannot be loaded, a processor that takes no video, and a transformers that misplaces the text after a video.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()  # it prints a line for every weight where output is not a terminal
    trust = {"trust_remote_code": trust_remote_code}
    try:
        family = AutoConfig.from_pretrained(pretrained, **trust).model_type
        processor = AutoProcessor.from_pretrained(pretrained, **trust)
    except (OSError, ValueError, ImportError) as error:
        reason = "no such folder, and the hub gives no model of that name"
        reason = "holds no model with a processor" if Path(pretrained).exists() else reason
        raise RbftError(f"{pretrained}: {reason} ({first_line(error)})") from None
    if getattr(processor, "video_processor", None) is None:
        raise RbftError(f"{pretrained}: its processor takes no video")
    require_right_positions(family)
    options = {k: v for k, v in (("attn_implementation", attn), ("device_map", device_map)) if v}
    try:
        model = AutoModelForImageTextToText.from_pretrained(pretrained, dtype=dtype, **options, **trust)
    except (OSError, ValueError, ImportError) as error:
        raise RbftError(f"{pretrained}: cannot be loaded ({first_line(error)})") from None
    for adapter in adapters:
        model = _merged(model, adapter)
    if not device_map:
        model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model.eval(), processor


def _merged(model: Any, adapter: str) -> Any:
    """The model with an adapter in its weights. Raises RbftError unless adapter and model have the same weights."""
    from peft import PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft warns of missing weights, which are compared below
            adapted = PeftModel.from_pretrained(model, adapter)
    except (OSError, ValueError, RuntimeError) as error:
        raise RbftError(f"{adapter}: this adapter does not fit the model ({first_line(error)})") from None
    stored, expected = set(load_peft_weights(adapter, device="cpu")), set(get_peft_model_state_dict(adapted))
    problems = [f"the model has no place for {shortened(sorted(stored - expected), 2)}"] if stored - expected else []
    problems += [f"it has nothing for {shortened(sorted(expected - stored), 2)}"] if expected - stored else []
    if problems:
        raise ProblemsError(f"{adapter}: this adapter was trained on another model", problems)
    return adapted.merge_and_unload()
