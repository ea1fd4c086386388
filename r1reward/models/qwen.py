"""Qwen's models of images: a grid of patches an image, four patches a token."""

from __future__ import annotations

from typing import Any

from r1reward.data.media import SideLimits
from r1reward.models.family import Family, Vision, pixel_limits


def published(
    hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, vocab: int, tied: bool
) -> dict[str, Any]:
    """The settings of a published Qwen2.5-VL in its config.json on the hub."""
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    tower = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
    text = {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "rope_parameters": rope,
    }
    return {
        "model_type": "qwen2_5_vl",
        "text_config": text,
        "vision_config": tower | {"out_hidden_size": hidden},
        "tie_word_embeddings": tied,
    }


PUBLISHED = {
    "Qwen/Qwen2.5-VL-3B-Instruct": published(2048, 11008, 36, 16, 2, 151936, tied=True),
    "Qwen/Qwen2.5-VL-7B-Instruct": published(3584, 18944, 28, 28, 4, 152064, tied=False),
}

VISION = Vision(
    limits=pixel_limits,
    sides=SideLimits(max_aspect=200),  # smart_resize of transformers and vLLM refuses others
    other_media=("video",),
)
FAMILIES = {
    "qwen2_5_vl": Family(VISION, PUBLISHED),
    **dict.fromkeys(
        ("qwen2_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"), Family(VISION)
    ),
}
