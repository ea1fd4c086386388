"""Qwen2.5-VL: a grid of patches an image, four patches a token, positions in 3D (M-RoPE)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForImageTextToText

from r1reward.data.media import SideLimits
from r1reward.models.family import (
    Config,
    Family,
    HfModel,
    ImageTensors,
    Processor,
    Vision,
    VisionShape,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    from r1reward.models.policy import MicroBatch


def limits(config: Config, min_tokens: int, max_tokens: int) -> dict[str, dict[str, int]]:
    """A token is 28 x 28 pixels: the image processor bounds the pixels of a resized image."""
    vision = config.vision_config
    pixels = (vision.patch_size * vision.spatial_merge_size) ** 2
    return {"size": {"shortest_edge": min_tokens * pixels, "longest_edge": max_tokens * pixels}}


def expanded(processor: Processor, width: int, height: int) -> tuple[int, ...]:
    """One pad a feature."""
    image_processor = processor.image_processor
    patches = int(image_processor.get_number_of_image_patches(height, width))
    num_features = patches // int(image_processor.merge_size) ** 2
    return (int(processor.image_token_id),) * num_features


def tensors(processor: Processor, image: Image) -> ImageTensors:
    """Patches [P, D] and their grid [1, 3] (time, height, width)."""
    made = processor.image_processor(images=[image], return_tensors="pt")
    return {name: made[name] for name in ("pixel_values", "image_grid_thw")}


def positions(hf: HfModel, batch: MicroBatch) -> torch.Tensor:
    """M-RoPE positions [3, B, L]: time, row, column."""
    positions_3BL, _ = hf.model.get_rope_index(
        batch.input_ids_BL,
        batch.is_image_BL.long(),
        image_grid_thw=batch.images["image_grid_thw"] if batch.has_images else None,
        attention_mask=batch.attention_mask_BL,
    )
    return positions_3BL


def packed_positions(hf: HfModel, batch: MicroBatch) -> torch.Tensor:
    """[4, 1, S]: the position in the sample's text, then M-RoPE's."""
    text_positions_BL = batch.attention_mask_BL.cumsum(dim=1) - 1
    positions_4BL = torch.cat([text_positions_BL[None], positions(hf, batch)])
    return positions_4BL[:, batch.attention_mask_BL.bool()][:, None]


def vision_shape(config: Config) -> VisionShape:
    vision = config.vision_config
    return VisionShape(
        hidden=vision.hidden_size,
        intermediate=vision.intermediate_size,
        num_layers=vision.depth,
        num_heads=vision.num_heads,
        patch=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
        merge=vision.spatial_merge_size**2,
    )


def published(
    hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, vocab: int, tied: bool
) -> dict[str, Any]:
    """The settings of a published model in its config.json on the hub."""
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

FAMILY = Family(
    vision=Vision(
        limits=limits,
        expanded=expanded,
        tensors=tensors,
        sides=SideLimits(max_aspect=200),  # smart_resize of transformers and vLLM refuses others
        shape=vision_shape,
    ),
    auto_class=AutoModelForImageTextToText,
    positions=positions,
    packed_positions=packed_positions,
    parts=(("model.visual.merger.", "merger"), ("model.visual.", "vision")),
    published=PUBLISHED,
)
