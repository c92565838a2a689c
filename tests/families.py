"""Tiny random models of the supported families, in the files that a real checkpoint has: no downloads.

What decides inputs and positions is that of the families: patch and merge sizes, mrope sections, window attention
(Qwen2.5-VL), deepstack and text timestamps (Qwen3-VL), pixel limits, special tokens. The rest is as small as it goes.
Chat templates are reduced to the formats that the families document (no tools, no picture counts).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

BASE = Path(__file__).parents[1] / "rbft_plugin/demo/base"
FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl")
TEMPLATES = {  # of LLaMA-Factory; qwen3_vl itself is the thinking model's
    "qwen2_vl": "qwen2_vl",
    "qwen2_5_vl": "qwen2_vl",
    "qwen3_vl": "qwen3_vl_nothink",
    "internvl": "intern_s1",
}
MULTIPLES = {"qwen2_vl": 28, "qwen2_5_vl": 28, "qwen3_vl": 32, "internvl": 28}  # of a clip's sides
INTERNVL_SIDE = 56  # InternVL resizes every frame to one square
INTERNVL_TOKENS_A_FRAME = 4

SYSTEM = (  # a default system message; Qwen3-VL and InternVL have none
    "{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
)
CHAT = (
    "{{% for message in messages %}}{system}<|im_start|>{{{{ message['role'] }}}}\n"
    "{{% if message['content'] is string %}}{{{{ message['content'] }}}}{{% else %}}"
    "{{% for part in message['content'] %}}"
    "{{% if part['type'] == 'image' %}}{image}"
    "{{% elif part['type'] == 'video' %}}{video}"
    "{{% elif 'text' in part %}}{{{{ part['text'] }}}}{{% endif %}}"
    "{{% endfor %}}{{% endif %}}<|im_end|>\n"
    "{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)
QWEN_MEDIA = {
    "image": "<|vision_start|><|image_pad|><|vision_end|>",
    "video": "<|vision_start|><|video_pad|><|vision_end|>",
}
INTERNVL_TOKENS = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}


def build(family: str, folder: Path, seed: int = 0) -> Path:
    """Write a random model of about 100,000 weights (float32) with its processor; returns the folder.

    Takes about a second, and as much again for the first import of transformers' classes.
    """
    import torch

    tokenizer = _tokenizer(family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, processor = (_internvl if family == "internvl" else _qwen)(family, tokenizer)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _tokenizer(family: str) -> Any:
    """The demo base's byte-level BPE, which has the Qwen families' special tokens; InternVL adds its own."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        BASE, **({"extra_special_tokens": INTERNVL_TOKENS} if family == "internvl" else {})
    )


def internvl_context() -> int:
    """The token that stands for a part of a frame."""
    return int(_tokenizer("internvl").context_image_token_id)


def _text(tokenizer: Any, **changes: Any) -> dict[str, Any]:
    """Configuration of the language model; weights ten times the usual, so that answers depend on the input."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "initializer_range": 0.15,
        "bos_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "dtype": "float32",
        **changes,
    }


def _qwen(family: str, tokenizer: Any) -> tuple[Any, Any]:
    import transformers as hf

    name = {"qwen2_vl": "Qwen2VL", "qwen2_5_vl": "Qwen2_5_VL", "qwen3_vl": "Qwen3VL"}[family]
    rope: dict[str, Any] = {"rope_type": "default", "mrope_section": [4, 2, 2], "rope_theta": 10000.0}
    vision: dict[str, Any] = {
        "patch_size": 16 if family == "qwen3_vl" else 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_heads": 2,
        "initializer_range": 0.15,
    }
    if family == "qwen2_vl":
        vision |= {"depth": 2, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    else:
        vision |= {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 64}
    if family == "qwen2_5_vl":
        vision |= {"window_size": 112, "fullatt_block_indexes": [1], "tokens_per_second": 2}
    if family == "qwen3_vl":
        vision |= {"depth": 3, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
        rope["mrope_interleaved"] = True
    tokens = ("image", "<|image_pad|>"), ("video", "<|video_pad|>")
    tokens += ("vision_start", "<|vision_start|>"), ("vision_end", "<|vision_end|>")
    config = getattr(hf, f"{name}Config")(
        text_config=_text(tokenizer, rope_parameters=rope, head_dim=16),
        vision_config=vision,
        tie_word_embeddings=True,
        **{f"{role}_token_id": tokenizer.convert_tokens_to_ids(token) for role, token in tokens},
    )
    # The limits of real checkpoints, in pixels: of one frame, but for a video in Qwen3-VL of all its frames together.
    given: dict[str, Any] = {"patch_size": vision["patch_size"], "merge_size": 2}
    if family == "qwen3_vl":
        given |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        image_size = {"shortest_edge": 65536, "longest_edge": 16777216}
        video_size = {"shortest_edge": 4096, "longest_edge": 25165824}
        videos = hf.Qwen3VLVideoProcessor(size=video_size, **given)
    else:
        image_size = {"shortest_edge": 3136, "longest_edge": 12845056}
        videos = hf.Qwen2VLVideoProcessor(size=dict(image_size), **given)
    processor = getattr(hf, f"{name}Processor")(
        hf.Qwen2VLImageProcessorFast(size=image_size, **given),
        tokenizer,
        videos,
        chat_template=CHAT.format(system="" if family == "qwen3_vl" else SYSTEM, **QWEN_MEDIA),
    )
    return getattr(hf, f"{name}ForConditionalGeneration")(config), processor


def _internvl(family: str, tokenizer: Any) -> tuple[Any, Any]:
    import transformers as hf

    side = INTERNVL_SIDE
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": [side, side], "patch_size": [14, 14], "initializer_range": 0.15}
    config = hf.InternVLConfig(
        text_config=_text(tokenizer, model_type="qwen2"),
        vision_config=vision,
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=INTERNVL_TOKENS_A_FRAME,
        downsample_ratio=0.5,
        tie_word_embeddings=True,
    )
    given: dict[str, Any] = {"size": {"height": side, "width": side}}
    given |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    processor = hf.InternVLProcessor(
        hf.GotOcr2ImageProcessorFast(crop_to_patches=False, **given),
        tokenizer,
        hf.InternVLVideoProcessor(**given),
        image_seq_length=INTERNVL_TOKENS_A_FRAME,
        chat_template=CHAT.format(system="", image="<IMG_CONTEXT>\n", video="<video>\n"),
    )
    return hf.InternVLForConditionalGeneration(config), processor
