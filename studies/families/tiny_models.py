"""Tiny random models of every family, with real processors whose tokenizers are built here.

Each is a complete folder, which transformers and vLLM load like any checkpoint. Head sizes are those
that vLLM's CPU kernels know; everything else is as small as the architecture allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerFast

from tools.chat_template import chat_template

COMMON_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAG_TOKENS = ("<think>", "</think>", "<answer>", "</answer>")
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
}
ROPE_3D = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [6, 5, 5]}
# transformers knows by the family that the three axes take turns, vLLM by this setting.
ROPE_TURNS = ROPE_3D | {"mrope_interleaved": True}
ROPE_1D = {"rope_type": "default", "rope_theta": 10000.0}
TOWER = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
# The words of Qwen and GLM for a tower whose patches are merged two by two.
GRID_TOWER = {
    "depth": 2,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
EXPERTS = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "decoder_sparse_step": 1,
}


@dataclass(frozen=True)
class TinyModel:
    """How to build a model of a family. ``placeholder`` is what its chat template writes for an image."""

    config: Callable[[Callable[[str], int]], dict[str, Any]]
    processor: Callable[[PreTrainedTokenizerFast, str], Any]
    placeholder: str = ""
    tokens: tuple[str, ...] = ()
    named_tokens: tuple[tuple[str, str], ...] = ()
    plain_tokens: tuple[str, ...] = ()


def build_tokenizer(tiny: TinyModel) -> PreTrainedTokenizerFast:
    """Bytes, and the family's special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = (*COMMON_TOKENS, *tiny.tokens)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    plain = (*TAG_TOKENS, *tiny.plain_tokens)
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in plain])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(special),
        extra_special_tokens=dict(tiny.named_tokens),
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )


def build_tiny_model(name: str, folder: Path, seed: int = 0, **settings: Any) -> Path:
    """The family's model with random weights, in a folder. ``settings`` change its configuration."""
    tiny = TINY_MODELS[name]
    tokenizer = build_tokenizer(tiny)
    ids = tokenizer.convert_tokens_to_ids
    made = merged_settings(tiny.config(ids), settings)
    config = AutoConfig.for_model(**made)
    torch.manual_seed(seed)
    model = auto_class(config).from_config(config)
    scale_up(model)
    processor = tiny.processor(tokenizer, chat_template(tiny.placeholder))
    end, pad = ids("<|im_end|>"), ids("<|endoftext|>")
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=1.0, top_p=1.0, top_k=0, eos_token_id=end, pad_token_id=pad
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    for shard in folder.glob("*.safetensors"):
        shard.chmod(0o644)  # written for its owner only
    return folder


def auto_class(config: Any) -> Any:
    known = transformers.AutoModelForImageTextToText._model_mapping
    if type(config) in known:
        return transformers.AutoModelForImageTextToText
    return transformers.AutoModelForCausalLM


def scale_up(model: Any) -> None:
    """Random weights as large as trained ones: with the usual start all log-probs are nearly alike."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2:
            fan_in = parameter.shape[-1] if "embed_tokens" not in name else parameter.shape[-1] / 4
            parameter.data.normal_(std=1.2 / fan_in**0.5, generator=generator)
        elif "bias" in name:
            parameter.data.normal_(std=0.1, generator=generator)


def merged_settings(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for name, value in changes.items():
        old = result.get(name)
        result[name] = merged_settings(old, value) if isinstance(old, dict) else value
    return result


def text_settings(ids: Callable[[str], int], **settings: Any) -> dict[str, Any]:
    tokens = {
        "vocab_size": VOCAB,
        "bos_token_id": None,
        "eos_token_id": ids("<|im_end|>"),
        "pad_token_id": ids("<|endoftext|>"),
    }
    return TEXT | tokens | settings


# Room for all special tokens of any family.
VOCAB = 384

QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


def qwen_ids(ids: Callable[[str], int]) -> dict[str, int]:
    return {
        "image_token_id": ids("<|image_pad|>"),
        "video_token_id": ids("<|video_pad|>"),
        "vision_start_token_id": ids("<|vision_start|>"),
        "vision_end_token_id": ids("<|vision_end|>"),
    }


def qwen_processor(kind: str, patch: int) -> Callable[[PreTrainedTokenizerFast, str], Any]:
    def build(tokenizer: PreTrainedTokenizerFast, template: str) -> Any:
        side = 2 * patch
        size = {"shortest_edge": 4 * side**2, "longest_edge": 64 * side**2}
        shape = {"patch_size": patch, "merge_size": 2, "temporal_patch_size": 2, "size": size}
        videos = getattr(transformers, f"{kind.replace('2_5_', '2')}VideoProcessor")
        return getattr(transformers, f"{kind}Processor")(
            image_processor=transformers.Qwen2VLImageProcessor(**shape),
            tokenizer=tokenizer,
            video_processor=videos(**shape),
            chat_template=template,
        )

    return build


def qwen2_vl(ids: Callable[[str], int]) -> dict[str, Any]:
    vision = {
        "depth": 2,
        "embed_dim": 64,
        "num_heads": 2,
        "mlp_ratio": 2,
        "hidden_size": 64,
        "patch_size": 14,
    }
    return {
        "model_type": "qwen2_vl",
        "text_config": text_settings(ids, rope_parameters=ROPE_3D),
        "vision_config": vision,
        "tie_word_embeddings": False,
        **qwen_ids(ids),
    }


def qwen2_5_vl(ids: Callable[[str], int]) -> dict[str, Any]:
    return {
        "model_type": "qwen2_5_vl",
        "text_config": text_settings(ids, rope_parameters=ROPE_3D),
        "vision_config": GRID_TOWER | {"window_size": 56, "fullatt_block_indexes": [1]},
        "tie_word_embeddings": False,
        **qwen_ids(ids),
    }


QWEN3_VISION = GRID_TOWER | {"depth": 3, "patch_size": 16, "num_position_embeddings": 64}


def qwen3_vl(ids: Callable[[str], int]) -> dict[str, Any]:
    return {
        "model_type": "qwen3_vl",
        "text_config": text_settings(ids, rope_parameters=ROPE_TURNS),
        "vision_config": QWEN3_VISION | {"deepstack_visual_indexes": [0, 1]},
        "tie_word_embeddings": True,
        **qwen_ids(ids),
    }


def qwen3_vl_moe(ids: Callable[[str], int]) -> dict[str, Any]:
    return qwen3_vl(ids) | {
        "model_type": "qwen3_vl_moe",
        "text_config": text_settings(ids, rope_parameters=ROPE_TURNS, **EXPERTS),
        "tie_word_embeddings": False,
    }


def qwen3_5(ids: Callable[[str], int]) -> dict[str, Any]:
    rope = {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
        "partial_rotary_factor": 0.25,
    }
    text = text_settings(
        ids,
        rope_parameters=rope,
        num_hidden_layers=4,
        layer_types=["linear_attention"] * 3 + ["full_attention"],
        linear_key_head_dim=32,
        linear_value_head_dim=32,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
    )
    return {
        "model_type": "qwen3_5",
        "text_config": text,
        "vision_config": QWEN3_VISION,
        "tie_word_embeddings": False,
        **qwen_ids(ids),
    }


GLM_TOKENS = (
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|video|>",
)


def glm4v(ids: Callable[[str], int]) -> dict[str, Any]:
    rope = ROPE_3D | {"mrope_section": [2, 3, 3], "partial_rotary_factor": 0.5}
    return {
        "model_type": "glm4v",
        "text_config": text_settings(ids, rope_parameters=rope),
        "vision_config": GRID_TOWER | {"image_size": 112},
        "tie_word_embeddings": False,
        "image_token_id": ids("<|image|>"),
        "video_token_id": ids("<|video|>"),
        "image_start_token_id": ids("<|begin_of_image|>"),
        "image_end_token_id": ids("<|end_of_image|>"),
        "video_start_token_id": ids("<|begin_of_video|>"),
        "video_end_token_id": ids("<|end_of_video|>"),
    }


def glm_processor(tokenizer: PreTrainedTokenizerFast, template: str) -> Any:
    size = {"shortest_edge": 8 * 28**2, "longest_edge": 128 * 28**2}
    shape = {"patch_size": 14, "merge_size": 2, "temporal_patch_size": 2, "size": size}
    return transformers.Glm4vProcessor(
        image_processor=transformers.Glm4vImageProcessor(**shape),
        tokenizer=tokenizer,
        video_processor=transformers.Glm4vVideoProcessor(**shape),
        chat_template=template,
    )


def internvl(ids: Callable[[str], int]) -> dict[str, Any]:
    vision = TOWER | {"image_size": [56, 56], "patch_size": [14, 14]}
    return {
        "model_type": "internvl",
        "text_config": {"model_type": "qwen3"} | text_settings(ids, rope_parameters=ROPE_1D),
        "vision_config": vision,
        "image_token_id": ids("<IMG_CONTEXT>"),
        "image_seq_length": 4,
        "downsample_ratio": 0.5,
        "tie_word_embeddings": False,
    }


def internvl_processor(tokenizer: PreTrainedTokenizerFast, template: str) -> Any:
    size = {"height": 56, "width": 56}
    return transformers.InternVLProcessor(
        image_processor=transformers.GotOcr2ImageProcessor(
            size=size, crop_to_patches=True, min_patches=1, max_patches=6
        ),
        tokenizer=tokenizer,
        video_processor=transformers.InternVLVideoProcessor(size=size),
        image_seq_length=4,
        chat_template=template,
    )


GEMMA_NEWLINES = ("\n", "\n\n", "\n\n\n", "\n\n\n\n")


def gemma3(ids: Callable[[str], int]) -> dict[str, Any]:
    return {
        "model_type": "gemma3",
        "text_config": text_settings(
            ids,
            query_pre_attn_scalar=32,
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention"],
        ),
        "vision_config": TOWER | {"image_size": 56, "patch_size": 14, "vision_use_head": False},
        "mm_tokens_per_image": 4,
        "boi_token_index": ids("<start_of_image>"),
        "eoi_token_index": ids("<end_of_image>"),
        "image_token_index": ids("<image_soft_token>"),
        "tie_word_embeddings": True,
    }


def gemma3_processor(tokenizer: PreTrainedTokenizerFast, template: str) -> Any:
    return transformers.Gemma3Processor(
        image_processor=transformers.Gemma3ImageProcessor(size={"height": 56, "width": 56}),
        tokenizer=tokenizer,
        image_seq_length=4,
        chat_template=template,
    )


def gemma4(ids: Callable[[str], int]) -> dict[str, Any]:
    return {
        "model_type": "gemma4",
        "text_config": text_settings(
            ids,
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention"],
            global_head_dim=32,
            hidden_size_per_layer_input=16,
            vocab_size_per_layer_input=VOCAB,
            num_kv_shared_layers=0,
            final_logit_softcapping=3.0,
        ),
        "vision_config": TOWER
        | {
            "patch_size": 16,
            "pooling_kernel_size": 3,
            "head_dim": 32,
            "num_key_value_heads": 2,
            "position_embedding_size": 1024,
            "default_output_length": 280,
        },
        "audio_config": None,
        "image_token_id": ids("<|image|>"),
        "video_token_id": ids("<|video|>"),
        "audio_token_id": ids("<|audio|>"),
        "boi_token_id": ids("<|image>"),
        "eoi_token_id": ids("<image|>"),
        "tie_word_embeddings": True,
    }


def gemma4_processor(tokenizer: PreTrainedTokenizerFast, template: str) -> Any:
    return transformers.Gemma4Processor(
        feature_extractor=transformers.Gemma4AudioFeatureExtractor(),
        image_processor=transformers.Gemma4ImageProcessor(
            patch_size=16, pooling_kernel_size=3, max_soft_tokens=70
        ),
        tokenizer=tokenizer,
        video_processor=transformers.Gemma4VideoProcessor(),
        image_seq_length=70,
        chat_template=template,
    )


def idefics3(ids: Callable[[str], int]) -> dict[str, Any]:
    return {
        "model_type": "idefics3",
        "text_config": {"model_type": "llama"} | text_settings(ids, rope_parameters=ROPE_1D),
        "vision_config": TOWER | {"image_size": 64, "patch_size": 16},
        "image_token_id": ids("<image>"),
        "scale_factor": 2,
        "pad_token_id": ids("<|endoftext|>"),
        "tie_word_embeddings": False,
    }


IDEFICS_TOKENS = (
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
    "<global-img>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)),
)


def idefics3_processor(tokenizer: PreTrainedTokenizerFast, template: str) -> Any:
    return transformers.Idefics3Processor(
        image_processor=transformers.Idefics3ImageProcessor(
            size={"longest_edge": 128}, max_image_size={"longest_edge": 64}
        ),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=template,
    )


def llava(ids: Callable[[str], int]) -> dict[str, Any]:
    """No file of r1reward knows this family: the generic path alone."""
    vision = TOWER | {"model_type": "clip_vision_model", "image_size": 56, "patch_size": 14}
    return {
        "model_type": "llava",
        "text_config": {"model_type": "llama"} | text_settings(ids, rope_parameters=ROPE_1D),
        "vision_config": vision | {"num_hidden_layers": 3},
        "image_token_id": ids("<image>"),
        "image_seq_length": 16,
        "vision_feature_layer": -2,
        "tie_word_embeddings": False,
    }


def llava_processor(tokenizer: PreTrainedTokenizerFast, template: str) -> Any:
    side = {"height": 56, "width": 56}
    return transformers.LlavaProcessor(
        image_processor=transformers.CLIPImageProcessor(size={"shortest_edge": 56}, crop_size=side),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=template,
    )


def qwen3(ids: Callable[[str], int]) -> dict[str, Any]:
    return {"model_type": "qwen3", "tie_word_embeddings": True} | text_settings(ids)


def llama(ids: Callable[[str], int]) -> dict[str, Any]:
    return {"model_type": "llama", "tie_word_embeddings": False} | text_settings(ids)


def tokenizer_alone(tokenizer: PreTrainedTokenizerFast, template: str) -> PreTrainedTokenizerFast:
    tokenizer.chat_template = template
    return tokenizer


QWEN_PLACEHOLDER = "<|vision_start|><|image_pad|><|vision_end|>"
GLM_PLACEHOLDER = "<|begin_of_image|><|image|><|end_of_image|>"
TINY_MODELS = {
    "qwen2_vl": TinyModel(qwen2_vl, qwen_processor("Qwen2VL", 14), QWEN_PLACEHOLDER, QWEN_TOKENS),
    "qwen2_5_vl": TinyModel(
        qwen2_5_vl, qwen_processor("Qwen2_5_VL", 14), QWEN_PLACEHOLDER, QWEN_TOKENS
    ),
    "qwen3_vl": TinyModel(qwen3_vl, qwen_processor("Qwen3VL", 16), QWEN_PLACEHOLDER, QWEN_TOKENS),
    "qwen3_vl_moe": TinyModel(
        qwen3_vl_moe, qwen_processor("Qwen3VL", 16), QWEN_PLACEHOLDER, QWEN_TOKENS
    ),
    "qwen3_5": TinyModel(qwen3_5, qwen_processor("Qwen3VL", 16), QWEN_PLACEHOLDER, QWEN_TOKENS),
    "glm4v": TinyModel(glm4v, glm_processor, GLM_PLACEHOLDER, GLM_TOKENS),
    "internvl": TinyModel(
        internvl,
        internvl_processor,
        "<IMG_CONTEXT>\n",
        ("<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        (
            ("start_image_token", "<img>"),
            ("end_image_token", "</img>"),
            ("context_image_token", "<IMG_CONTEXT>"),
            ("video_token", "<video>"),
        ),
    ),
    "gemma3": TinyModel(
        gemma3,
        gemma3_processor,
        "<start_of_image>",
        ("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
        (
            ("boi_token", "<start_of_image>"),
            ("eoi_token", "<end_of_image>"),
            ("image_token", "<image_soft_token>"),
        ),
        GEMMA_NEWLINES,
    ),
    "gemma4": TinyModel(
        gemma4,
        gemma4_processor,
        "<|image|>",
        ("<|image>", "<image|>", "<|image|>", "<|video|>", "<|audio|>", "<|audio>", "<audio|>"),
        (
            ("boi_token", "<|image>"),
            ("eoi_token", "<image|>"),
            ("image_token", "<|image|>"),
            ("video_token", "<|video|>"),
            ("audio_token", "<|audio|>"),
            ("boa_token", "<|audio>"),
            ("eoa_token", "<audio|>"),
        ),
    ),
    "idefics3": TinyModel(
        idefics3,
        idefics3_processor,
        "<image>",
        IDEFICS_TOKENS,
        (
            ("fake_image_token", "<fake_token_around_image>"),
            ("image_token", "<image>"),
            ("end_of_utterance_token", "<end_of_utterance>"),
            ("global_image_token", "<global-img>"),
        ),
    ),
    "llava": TinyModel(
        llava, llava_processor, "<image>", ("<image>",), (("image_token", "<image>"),)
    ),
    "qwen3": TinyModel(qwen3, tokenizer_alone),
    "llama": TinyModel(llama, tokenizer_alone),
}
