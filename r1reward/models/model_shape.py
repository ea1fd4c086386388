"""A model without its weights: its dimensions from ``config.json``, and the shape of every parameter."""

import math
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import AutoConfig

from r1reward.errors import InputError
from r1reward.models.family import MODULES, Config, Family, Part, VisionShape, family_of
from r1reward.models.lora import adaptable_layers
from r1reward.models.model_folder import loading, require_config, resolve_model_path
from r1reward.models.packing_rules import packing_refusal
from r1reward.models.parts import parts_of
from r1reward.recipe.sections import Dtype

ITEM_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2}


# Of a model of text.
NO_VISION = VisionShape(hidden=0, intermediate=0, num_layers=0, num_heads=1, patch=0, merge=1)


@dataclass(frozen=True)
class TextShape:
    """The language model. Sizes are numbers of values; ``head`` is the width of one attention head.

    ``num_cache_layers`` are those that keep keys and values: linear attention has a state instead.
    """

    hidden: int
    intermediate: int
    num_layers: int
    num_cache_layers: int
    num_heads: int
    num_kv_heads: int
    head: int
    vocab: int

    @property
    def kv_width(self) -> int:
        """Values of one token's keys in one layer; its values are as many."""
        return self.num_kv_heads * self.head


@dataclass(frozen=True)
class Weight:
    """One parameter of the model, without adapters; ``layer`` is the path of one that may get them."""

    name: str
    shape: tuple[int, ...]
    part: Part
    layer: str | None

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class ModelShape:
    """``source`` says where the numbers come from.

    ``packing_refusal`` says why samples must not share a row, as the end of a sentence.
    """

    source: str
    config: Config
    packing_refusal: str | None
    text: TextShape
    vision: VisionShape
    weights: tuple[Weight, ...]

    @property
    def num_parameters(self) -> int:
        return sum(weight.numel for weight in self.weights)

    def num_bytes(self, dtype: Dtype) -> int:
        """All weights once."""
        return self.num_parameters * ITEM_BYTES[dtype]


def read_model_shape(path: str) -> ModelShape:
    """Of a folder, of a name in the hub's cache, or of a published model. Reads no weights.

    Raises ``InputError`` if there is no configuration, or it is of an unknown kind of model.
    """
    folder = Path(resolve_model_path(path, with_weights=False))
    config: Config = None
    # A name that is not in the hub's cache may be that of a published model.
    failures: AbstractContextManager[None] = suppress(OSError, ValueError)
    if folder.exists():
        require_config(folder, path)
        failures = loading(str(folder / "config.json"))
    with failures:
        config = AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    if config is not None:
        return shape_of(config, "config.json")
    published = published_models()
    if path not in published:
        raise InputError(
            f"model.path: {path} is neither a folder nor in the hub's cache on this machine: "
            f"give a folder with a config.json, or one of {', '.join(published)}"
        )
    return shape_of(AutoConfig.for_model(**published[path]), "published dimensions")


def published_models() -> dict[str, dict[str, Any]]:
    """Settings of the published models of every family, by their hub name."""
    families = [import_module(module).FAMILIES[kind] for kind, module in MODULES.items()]
    return {name: dict(known) for family in families for name, known in family.published.items()}


def shape_of(config: Config, source: str) -> ModelShape:
    """The dimensions and weights of a model with this configuration."""
    family = family_of(config)
    hf = family.without_weights(config)
    hf.tie_weights()
    parts = parts_of(hf)
    layers = {id(layer.weight): path for path, layer in adaptable_layers(hf).items()}
    return ModelShape(
        source=source,
        config=config,
        packing_refusal=packing_refusal(hf),
        text=text_shape(config.get_text_config()),
        vision=vision_shape(config, family),
        weights=tuple(
            Weight(name, tuple(parameter.shape), parts[name], layers.get(id(parameter)))
            for name, parameter in hf.named_parameters()
        ),
    )


def text_shape(text: Config) -> TextShape:
    """The language model, from its section of the configuration."""
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    intermediate = int(getattr(text, "intermediate_size", 0))
    experts = getattr(text, "num_experts_per_tok", None)
    if experts and getattr(text, "moe_intermediate_size", None):
        # A token goes through several small experts.
        intermediate = experts * text.moe_intermediate_size
    return TextShape(
        hidden=text.hidden_size,
        intermediate=intermediate,
        num_layers=text.num_hidden_layers,
        num_cache_layers=sum("attention" in kind and "linear" not in kind for kind in kinds),
        num_heads=text.num_attention_heads,
        num_kv_heads=text.num_key_value_heads,
        head=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocab=text.vocab_size,
    )


def vision_shape(config: Config, family: Family) -> VisionShape:
    """The vision tower, by the names that configurations have for its sizes."""
    if family.vision is None:
        return NO_VISION
    vision = config.vision_config
    # Qwen2-VL calls the tower's width ``embed_dim``, and ``hidden_size`` what it hands on.
    hidden = int(getattr(vision, "embed_dim", None) or vision.hidden_size)
    intermediate = getattr(vision, "intermediate_size", None) or hidden * vision.mlp_ratio
    depth = getattr(vision, "depth", None) or vision.num_hidden_layers
    heads = getattr(vision, "num_heads", None) or vision.num_attention_heads
    side: int = vision.patch_size[0] if isinstance(vision.patch_size, list) else vision.patch_size
    channels = int(getattr(vision, "in_channels", 0) or getattr(vision, "num_channels", 3))
    frames = getattr(vision, "temporal_patch_size", 1)
    return VisionShape(
        hidden=hidden,
        intermediate=int(intermediate),
        num_layers=depth,
        num_heads=heads,
        patch=channels * frames * side**2,
        merge=family.vision.merge(config),
    )
