"""A checkpoint from disk or the hub -> a model that is ready to run, and its processor."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rbft_plugin.errors import ProblemsError, RbftError, shortened
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
    """(model, processor), ready to generate. Adapters are merged into the model one after the other, in their order,
    as LLaMA-Factory's `create_new_adapter` trained them.

    With `device_map` accelerate spreads the model and `device` does not count. Raises RbftError for what cannot be
    loaded, has no video processor, or misplaces text after a video.
    """
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()  # a line for every weight, where output is not a terminal
    trust = {"trust_remote_code": trust_remote_code}
    try:
        family = AutoConfig.from_pretrained(pretrained, **trust).model_type
        processor = AutoProcessor.from_pretrained(pretrained, **trust)
    except (OSError, ValueError, ImportError) as error:
        raise RbftError(f"{pretrained}: {_reason(pretrained, error)}") from None
    if getattr(processor, "video_processor", None) is None:
        raise RbftError(f"{pretrained}: its processor takes no video")
    require_right_positions(family)
    given = {"attn_implementation": attn} if attn else {}
    given |= {"device_map": device_map} if device_map else {}
    try:
        model = AutoModelForImageTextToText.from_pretrained(pretrained, dtype=dtype, **given, **trust)
    except (OSError, ValueError, ImportError) as error:
        raise RbftError(f"{pretrained}: cannot be loaded ({_first_line(error)})") from None
    for adapter in adapters:
        model = _merged(model, adapter)
    if not device_map:
        model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return model.eval(), processor


def _merged(model: Any, adapter: str) -> Any:
    """The model with an adapter in its weights; raises RbftError if any weight of the adapter found no place."""
    from peft import PeftModel, get_peft_model_state_dict
    from peft.utils import load_peft_weights

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of missing weights, which are counted below
            adapted = PeftModel.from_pretrained(model, adapter)
    except (OSError, ValueError, RuntimeError) as error:
        raise RbftError(f"{adapter}: this adapter does not fit the model ({_first_line(error)})") from None
    there, wanted = set(load_peft_weights(adapter, device="cpu")), set(get_peft_model_state_dict(adapted))
    problems = [f"the model has no place for {shortened(sorted(there - wanted), 2)}"] if there - wanted else []
    problems += [f"it has nothing for {shortened(sorted(wanted - there), 2)}"] if wanted - there else []
    if problems:
        raise ProblemsError(f"{adapter}: this adapter was trained on another model", problems)
    return adapted.merge_and_unload()


def _reason(pretrained: str, error: Exception) -> str:
    if Path(pretrained).exists():
        return f"holds no model with a processor ({_first_line(error)})"
    return f"no such folder, and no model of that name can be had from the hub ({_first_line(error)})"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
