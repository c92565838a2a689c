"""The demo's base model before training: tokenizer, chat template and configuration."""

from __future__ import annotations

import random

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from rbft_plugin.demo.synthetic_video import random_scene
from tools.demo_base.meanings import ANSWER, EXPLAIN, NAMES, draw

PIXELS = 56  # both sides of a canonical clip of the demo
LONG = 84  # the longer side of other clips that it is trained on
PATCH, MERGE, SECOND_TOKENS = 14, 2, 4
SYSTEM = "You are a helpful assistant."
PROMPTS = (
    "Describe what happens in the video.",
    "Describe the video.",
    "What is happening in this video?",
    "What do you see in this clip?",
    "Say what is seen and what changes over time.",
)
# Ordinary English of prompts, which the tokenizer should also write in few tokens.
ENGLISH = (
    "Which of these events does the video show? Answer with one of the labels and nothing else. Classify the video. "
    "normal abnormal someone leaves something takes something away stays turns around goes on without stopping label: "
    "answer: a camera at night in front of a house. yes no because first then."
)
# A word with its colon and space is one chunk, so that a name comes right after the word that it defines. A model this
# small learns to look up such names; with two tokens in between, it did not learn it in ten times the steps.
CHUNKS = r"[A-Za-z]+: | ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+"
SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|object_ref_start|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n" + SYSTEM + "<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build(seed: int) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """The untrained model and its processor."""
    rng = random.Random(seed)
    scenes = [random_scene(rng) for _ in range(4000)]
    corpus = [f"{c.prompt(rng.choice((EXPLAIN, ANSWER)))}\n{c.rationale(s)}" for s in scenes for c in [draw(s, rng)]]
    corpus += [*PROMPTS, ENGLISH, "\n".join(NAMES)] * 60
    bpe = Tokenizer(models.BPE())
    chunks = pre_tokenizers.Split(Regex(CHUNKS), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([chunks, bytes_])
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=800, special_tokens=list(SPECIAL), initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL),
    )
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    torch.manual_seed(seed)
    init = 0.08  # the usual 0.02 trains far slower at this width
    config = Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            rope_parameters={"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10000.0},
            bos_token_id=ids["<|endoftext|>"],
            eos_token_id=ids["<|im_end|>"],
            pad_token_id=ids["<|endoftext|>"],
            tie_word_embeddings=True,
            initializer_range=init,
        ),
        vision_config=dict(
            depth=3,
            hidden_size=128,
            intermediate_size=256,
            num_heads=4,
            out_hidden_size=128,
            patch_size=PATCH,
            spatial_merge_size=MERGE,
            temporal_patch_size=2,
            window_size=112,
            fullatt_block_indexes=[0, 1, 2],  # window attention is a Python loop on the CPU
            tokens_per_second=SECOND_TOKENS,
            initializer_range=init,
        ),
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
        initializer_range=init,
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    size = dict(min_pixels=PIXELS**2, max_pixels=PIXELS * LONG, patch_size=PATCH, merge_size=MERGE)
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(**size),
        video_processor=Qwen2VLVideoProcessor(**size),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
    )
    return model, processor
