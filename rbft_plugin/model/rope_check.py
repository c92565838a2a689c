"""Whether the installed transformers places the text after a video where Qwen2-VL and Qwen2.5-VL were trained to."""

from __future__ import annotations

from types import SimpleNamespace

from rbft_plugin.errors import RbftError

FAMILIES = {
    "qwen2_vl": ("transformers.models.qwen2_vl.modeling_qwen2_vl", "Qwen2VLModel"),
    "qwen2_5_vl": ("transformers.models.qwen2_5_vl.modeling_qwen2_5_vl", "Qwen2_5_VLModel"),
}
TESTED = "5.2.0"  # the version of transformers that rbft pins


def installed_misplaces() -> list[str]:
    """Families whose text the installed transformers misplaces. The version that rbft pins is not loaded."""
    from importlib.metadata import version

    return [] if version("transformers") == TESTED else [f for f in FAMILIES if _misplaces(*text_start(f))]


def require_right_positions(family: str) -> None:
    """Raise RbftError if text would not start one position after the largest of the video's.

    transformers 5.5.4 and 5.6.0 start it at start + max(height, width), inside a long video's own range; a model
    trained with the right positions then answers far worse, and no error is raised. This affects no other families.
    """
    if family not in FAMILIES:
        return
    start, largest = text_start(family)
    if _misplaces(start, largest):
        import transformers

        raise RbftError(
            f"transformers {transformers.__version__} misplaces the text after a video for {family} models: at "
            f"position {start}, where the video reaches {largest}. Install the version that rbft pins, {TESTED}."
        )


def _misplaces(start: int, largest: int) -> bool:
    return start != largest + 1


def text_start(family: str) -> tuple[int, int]:
    """(position of the first text token after a video of 4 steps of 2 s, largest position of that video)."""
    import importlib
    import inspect
    from functools import partial

    import torch

    module, name = FAMILIES[family]
    cls = getattr(importlib.import_module(module), name)
    vision = SimpleNamespace(spatial_merge_size=2, tokens_per_second=4)
    ids = SimpleNamespace(image_token_id=1, video_token_id=2, vision_start_token_id=3)
    model = SimpleNamespace(config=SimpleNamespace(vision_config=vision, **vars(ids)))
    tokens = torch.tensor([[9, 3, *[2] * 16, 4, 9]])  # 4 time steps of 2 x 2 merged patches
    arguments = {
        "input_ids": tokens,
        "mm_token_type_ids": (tokens == 2).int() * 2,
        "video_grid_thw": torch.tensor([[4, 4, 4]]),
        "second_per_grid_ts": torch.tensor([2.0]),
        "attention_mask": torch.ones_like(tokens),
    }
    known = inspect.signature(cls.get_rope_index).parameters
    if hasattr(cls, "get_vision_position_ids"):  # version 5.5 and later call it
        model.get_vision_position_ids = partial(cls.get_vision_position_ids, model)
    positions, _ = cls.get_rope_index(model, **{k: v for k, v in arguments.items() if k in known})
    video = positions[:, 0, (tokens[0] == 2).nonzero().flatten()]
    return int(positions[:, 0, -2].max()), int(video.max())
