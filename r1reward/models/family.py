"""The seam to model families: everything that differs between them stands behind one ``Family``.

A family is one module with a constant ``FAMILY`` and a line in ``MODULES`` below; for example
``models/qwen2_5_vl.py``. Nothing else in the package knows a family by name. Functions of a family get
the objects of transformers as they are: the configuration, the processor, the model. Shape legend:
B sequences, L positions, S tokens of a packed row, C coordinates of a position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from transformers import AutoConfig
from transformers.modeling_outputs import BaseModelOutputWithPooling

from r1reward.data.media import SideLimits
from r1reward.errors import InputError
from r1reward.models.model_folder import resolve_model_path
from r1reward.recipe.learner_sections import Projection

if TYPE_CHECKING:
    from PIL.Image import Image

    from r1reward.models.policy import MicroBatch

# The module of every ``model_type`` that a config.json may name.
MODULES = {"qwen2_5_vl": "r1reward.models.qwen2_5_vl"}

# Each family has classes of its own for these; what they share has no common type in transformers.
Config = Any
Processor = Any
HfModel = Any

# The parts of a model that a recipe trains or freezes (``learner.parts``).
Part = Literal["vision", "merger", "language"]
# What the image encoder is called with, by the name of the argument.
ImageTensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class VisionShape:
    """The vision tower. ``patch`` counts the input values of a patch, ``merge`` patches a token."""

    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    patch: int
    merge: int


def joined(images: Sequence[ImageTensors]) -> ImageTensors:
    """The tensors of several images one after the other, along their first axis."""
    return {name: torch.cat([image[name] for image in images]) for name in images[0]}


def encoded_images(hf: HfModel, images: ImageTensors, is_blank: bool) -> BaseModelOutputWithPooling:
    """What the language model takes as ``mm_encoder_outputs["image"]``: one tensor an image.

    A blank image's features are cut to none. They stay part of the graph, so that the tower's weights
    get gradients of zero and not none at all.
    """
    features = hf.model.get_image_features(**images, return_dict=True).pooler_output
    return BaseModelOutputWithPooling(
        pooler_output=tuple(image[:0] if is_blank else image for image in features)
    )


@dataclass(frozen=True)
class Vision:
    """How a family's models see images."""

    # Settings of the image processor that bound the tokens of one image, from the configuration and the
    # least and the most tokens. vLLM gets the same as ``mm_processor_kwargs``.
    limits: Callable[[Config, int, int], dict[str, Any]]
    # The token ids that one image of this width and height stands for in the model's input. As many of
    # them are the configuration's ``image_token_id`` as the image has features.
    expanded: Callable[[Processor, int, int], tuple[int, ...]]
    # One image as the encoder takes it; ``join`` puts several images together.
    tensors: Callable[[Processor, Image], ImageTensors]
    # The images that the processor takes; ``expanded`` and ``tensors`` are asked for no others.
    sides: SideLimits
    # The tower's dimensions, for ``r1reward plan``.
    shape: Callable[[Config], VisionShape]
    join: Callable[[Sequence[ImageTensors]], ImageTensors] = joined
    # Features of all images of a micro-batch (``is_blank``: of one that no sample has, to be dropped).
    encode: Callable[[HfModel, ImageTensors, bool], BaseModelOutputWithPooling] = encoded_images
    # The token in a rendered prompt that stands for one image before it is expanded.
    placeholder_id: Callable[[Config], int] = lambda config: int(config.image_token_id)
    # The configuration's attributes with ids of media tokens, which are never sampled.
    media_tokens: tuple[str, ...] = ("image_token_id", "video_token_id", "vision_start_token_id")
    # The argument of ``generate`` that says which tokens are image features.
    token_types: str = "mm_token_type_ids"
    # Media beside images that vLLM is told not to make room for.
    other_media: tuple[str, ...] = ("video",)


@dataclass(frozen=True)
class Family:
    """Everything that differs between model families."""

    vision: Vision
    # Loads the weights. The model has its head as ``lm_head`` and the rest as ``model``.
    auto_class: Any
    # ``position_ids`` of a micro-batch: of its padded rows [C, B, L], and of all its tokens in one row
    # [1 + C, 1, S], where the first coordinate restarts at 0 with every sample.
    positions: Callable[[HfModel, MicroBatch], torch.Tensor]
    packed_positions: Callable[[HfModel, MicroBatch], torch.Tensor]
    # Beginnings of parameters' names and the part they belong to; the first that fits counts. All
    # other parameters are ``language``.
    parts: tuple[tuple[str, Part], ...]
    # Where adapters go: the language model inside the whole model, and the layers it has.
    language_module: str = "model.language_model"
    lora_targets: tuple[str, ...] = get_args(Projection)
    # The language model's section in the configuration, whose attention is replaced for packing.
    text_config: str = "text_config"
    # Settings of published models by their hub name, for machines that cannot reach the hub.
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def part_of(self, name: str) -> Part:
        """The part that a parameter belongs to, by its name in the Hugging Face model."""
        return next((part for start, part in self.parts if name.startswith(start)), "language")


def family_of(config: Config) -> Family:
    """The family of a model by its configuration. Raises ``InputError`` for one that is unknown."""
    module = MODULES.get(config.model_type)
    if module is None:
        raise InputError(
            f"model.path: {config.name_or_path} holds a {config.model_type} model; "
            f"{', '.join(MODULES)} is supported"
        )
    family: Family = import_module(module).FAMILY
    return family


def load_config(path: str) -> Config:
    """The configuration of a model folder, of a hub name, or of the other forms of ``model.path``."""
    return AutoConfig.from_pretrained(resolve_model_path(path))
