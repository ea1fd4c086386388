"""A model's dimensions from its ``config.json``, and its parameters from a model without memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from r1reward.errors import InputError
from r1reward.models.parts import part_of
from r1reward.models.processor import resolve_model_path
from r1reward.models.sizes import ModelShape, TextShape, VisionShape, Weight

VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16}
ROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
# From the config.json of each model on the Hugging Face hub, for machines that cannot reach it.
KNOWN: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-VL-3B-Instruct": {
        "text_config": {
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "vocab_size": 151936,
            "tie_word_embeddings": True,
            "rope_parameters": ROPE,
        },
        "vision_config": VISION | {"out_hidden_size": 2048},
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen2.5-VL-7B-Instruct": {
        "text_config": {
            "hidden_size": 3584,
            "intermediate_size": 18944,
            "num_hidden_layers": 28,
            "num_attention_heads": 28,
            "num_key_value_heads": 4,
            "vocab_size": 152064,
            "tie_word_embeddings": False,
            "rope_parameters": ROPE,
        },
        "vision_config": VISION | {"out_hidden_size": 3584},
        "tie_word_embeddings": False,
    },
}


def read_model_shape(path: str) -> ModelShape:
    """Of a folder, of a name in the hub's cache, or of a known model. Reads no weights.

    Raises ``InputError`` if there is no configuration, or it is of another kind of model.
    """
    config, source = read_config(path)
    if config.model_type != "qwen2_5_vl":
        raise InputError(
            f"model.path: {path} holds a {config.model_type} model; qwen2_5_vl is supported"
        )
    return shape_of(config, source)


def read_config(path: str) -> tuple[Any, str]:
    """The configuration, and in words where it was found."""
    folder = Path(resolve_model_path(path, with_weights=False))
    if folder.exists() and not (folder / "config.json").is_file():
        raise InputError(f"model.path: {path} is no model folder: it has no config.json")
    try:
        config: Any = AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        known = None if folder.exists() else KNOWN.get(path)
        if known is not None:
            return Qwen2_5_VLConfig(**known), "published dimensions"
        if folder.exists():
            raise InputError(
                f"model.path: {folder / 'config.json'}: {first_line(error)}"
            ) from error
        raise InputError(
            f"model.path: {path} is neither a folder nor in the hub's cache on this machine: give a "
            f"folder with a config.json, or one of {', '.join(KNOWN)}"
        ) from error
    return config, "config.json"


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def shape_of(config: Qwen2_5_VLConfig, source: str) -> ModelShape:
    """Built on the meta device: every parameter is there, none takes memory."""
    with torch.device("meta"):
        hf: Any = Qwen2_5_VLForConditionalGeneration(config)
    hf.tie_weights()
    text, vision = config.text_config, config.vision_config
    return ModelShape(
        source=source,
        text=TextShape(
            hidden=text.hidden_size,
            intermediate=text.intermediate_size,
            num_layers=text.num_hidden_layers,
            num_heads=text.num_attention_heads,
            num_kv_heads=text.num_key_value_heads,
            vocab=text.vocab_size,
        ),
        vision=VisionShape(
            hidden=vision.hidden_size,
            intermediate=vision.intermediate_size,
            num_layers=vision.depth,
            num_heads=vision.num_heads,
            patch=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
            patch_side=vision.patch_size,
            merge=vision.spatial_merge_size**2,
        ),
        weights=tuple(
            Weight(name, tuple(parameter.shape), part_of(name))
            for name, parameter in hf.named_parameters()
        ),
    )
