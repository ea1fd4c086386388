"""The miniature's network: a Qwen2.5-VL of about a million parameters, its tokenizer and processor.

Everything is of the real classes, so transformers and vLLM load the folder like any checkpoint.
The vocabulary is byte-level BPE trained to completion on the miniature's own language: each of
its words is one token, and any other text still falls back to bytes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
)

from r1reward.shapes.scene import IMAGE_SIZE
from tools.chat_template import chat_template
from tools.miniature.corpus import language

PATCH_SIZE = 14
MERGE_SIZE = 2
GRID = IMAGE_SIZE // PATCH_SIZE
NUM_IMAGE_TOKENS = (GRID // MERGE_SIZE) ** 2
# Bounds on the pixels of a resized image. A little slack on both sides of 112 x 112: exact bounds
# lose a patch row to rounding.
PIXEL_BOUNDS = {"shortest_edge": 12_000, "longest_edge": 13_000}

SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
# Tags are ordinary text to every reader, but one token each: shorter traces, and no
# half-written tag for a sampler to stumble over.
TAG_TOKENS = ("<think>", "</think>", "<answer>", "</answer>")

# Qwen's pattern, but a digit takes its leading space along: " 1" is one token, as in "Response 1".
PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def build_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096,  # never reached: training ends when every word is one token
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(language(), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in SPECIAL_TOKENS])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in TAG_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL_TOKENS),
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )


def build_processor() -> Qwen2_5_VLProcessor:
    """Sizes are bounded from both sides, so every square image becomes the same 16 tokens."""
    shape = {"patch_size": PATCH_SIZE, "merge_size": MERGE_SIZE, "temporal_patch_size": 2}
    return Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=PIXEL_BOUNDS, **shape),
        tokenizer=build_tokenizer(),
        video_processor=Qwen2VLVideoProcessor(size=PIXEL_BOUNDS, **shape),
        chat_template=chat_template("<|vision_start|><|image_pad|><|vision_end|>"),
    )


def build_config(tokenizer: PreTrainedTokenizerFast) -> Qwen2_5_VLConfig:
    token_id = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 2048,
        "max_window_layers": 4,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "mrope_section": [4, 6, 6],
        },
        "bos_token_id": None,
        "eos_token_id": token_id("<|im_end|>"),
        "pad_token_id": token_id("<|endoftext|>"),
        "tie_word_embeddings": False,
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_heads": 2,
        "out_hidden_size": 128,
        "patch_size": PATCH_SIZE,
        "spatial_merge_size": MERGE_SIZE,
        "window_size": IMAGE_SIZE,
        "fullatt_block_indexes": [1],
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token_id("<|image_pad|>"),
        video_token_id=token_id("<|video_pad|>"),
        vision_start_token_id=token_id("<|vision_start|>"),
        vision_end_token_id=token_id("<|vision_end|>"),
        tie_word_embeddings=False,
        dtype="float32",
    )


def build_model(config: Qwen2_5_VLConfig, seed: int) -> Qwen2_5_VLForConditionalGeneration:
    torch.manual_seed(seed)
    return Qwen2_5_VLForConditionalGeneration(config)


def save(
    model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, folder: Path
) -> None:
    """Write a complete folder, with neutral sampling: servers take it as their default."""
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        repetition_penalty=1.0,
        eos_token_id=end,
        pad_token_id=processor.tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    )
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # written for its owner only
