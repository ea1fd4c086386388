"""The seam to model families: everything that differs between them stands behind one ``Family``.

``models/generic.py`` has what most families share, and a family that it covers needs no file. Where
one differs, its module has a constant ``FAMILIES`` and lines in ``MODULES`` below. Nothing else in the
package knows a family by name. Functions of a family get the objects of transformers as they are: the
configuration, the processor, the model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
)

from r1reward.data.media import SideLimits
from r1reward.errors import InputError
from r1reward.models.model_folder import resolve_model_path

logger = logging.getLogger(__name__)

# The module of every ``model_type`` whose family has one.
MODULES = {
    **dict.fromkeys(
        ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"),
        "r1reward.models.qwen",
    ),
    **dict.fromkeys(("glm4v", "glm4v_moe"), "r1reward.models.glm"),
    **dict.fromkeys(("gemma3", "gemma4"), "r1reward.models.gemma"),
    "internvl": "r1reward.models.internvl",
    **dict.fromkeys(("idefics3", "smolvlm"), "r1reward.models.idefics"),
}
# Kinds for which `make families` found engine and learner to agree.
MEASURED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "qwen3", "llama")

# Each family has classes of its own for these; what they share has no common type in transformers.
Config = Any
Processor = Any
HfModel = Any

# The parts of a model that a recipe trains or freezes (``learner.parts``).
Part = Literal["vision", "merger", "language"]
# What the image encoder is called with, by the name of the argument.
ImageTensors = dict[str, torch.Tensor]
# The token ids that an image of this width and height stands for in the model's input.
Expansion = Callable[[int, int], tuple[int, ...]]


@dataclass(frozen=True)
class VisionShape:
    """The vision tower. ``patch`` counts the input values of a patch, ``merge`` patches a token."""

    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    patch: int
    merge: int


ANY_SIDES = SideLimits(max_aspect=float("inf"))


def no_limits(config: Config, min_tokens: int, max_tokens: int) -> dict[str, Any]:
    """For a processor whose bounds nobody has written down: an image that is too large is refused."""
    return {}


def pixel_limits(
    config: Config, min_tokens: int, max_tokens: int, frames: int = 1
) -> dict[str, Any]:
    """For a processor that bounds pixels of a resized image, times ``frames``; a token is a square."""
    vision = config.vision_config
    pixels = (vision.patch_size * vision.spatial_merge_size) ** 2 * frames
    return {"size": {"shortest_edge": min_tokens * pixels, "longest_edge": max_tokens * pixels}}


def require_room(what: str, num_tokens: int, max_tokens: int) -> None:
    """Raises ``InputError`` if ``what`` takes more tokens than the recipe allows an image."""
    if max_tokens < num_tokens:
        raise InputError(
            f"model.max_image_tokens is {max_tokens}, and {what} of this model takes {num_tokens}: "
            "raise it"
        )


def patches_by_side(config: Config) -> int:
    return int(getattr(config.vision_config, "spatial_merge_size", 1)) ** 2


@dataclass(frozen=True)
class Vision:
    """How a family's models see images, where it differs from others."""

    # Settings of the image processor that bound the tokens of one image, from the configuration and the
    # least and the most tokens. vLLM gets the same as ``mm_processor_kwargs``.
    limits: Callable[[Config, int, int], dict[str, Any]] = no_limits
    # The images that the processor takes.
    sides: SideLimits = ANY_SIDES
    # How images are expanded, for a processor whose rule cannot be learned from a look at it.
    expansion: Callable[[Processor], Expansion] | None = None
    # Patches that become one token.
    merge: Callable[[Config], int] = patches_by_side
    # Media beside images that vLLM is told not to make room for.
    other_media: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """Everything that differs between model families. ``vision`` is None for models of text."""

    vision: Vision | None = Vision()
    # Settings of published models by their hub name, for machines that cannot reach the hub.
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def auto_class(self) -> Any:
        """Loads the weights. The model has its head as ``lm_head`` and the rest as ``model``."""
        return AutoModelForCausalLM if self.vision is None else AutoModelForImageTextToText

    @property
    def sees_images(self) -> bool:
        return self.vision is not None

    def without_weights(self, config: Config, **settings: Any) -> HfModel:
        """The model on the meta device: every module and parameter is there, none takes memory."""
        with torch.device("meta"):
            return self.auto_class.from_config(config, **settings)


def family_of(config: Config) -> Family:
    """The family of a model by its configuration.

    Raises ``InputError`` for a kind of model that transformers has no class for, or none that writes.
    """
    module = MODULES.get(config.model_type)
    if module is not None:
        families: dict[str, Family] = import_module(module).FAMILIES
        return families[config.model_type]
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return Family()
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return Family(vision=None)
    raise InputError(
        f"model.path: {config.name_or_path} holds a {config.model_type} model, which writes no text: "
        "choose a model of text, or of images and text"
    )


def is_measured(config: Config) -> bool:
    """Whether engine and learner were measured to agree on this kind of model."""
    return config.model_type in MEASURED


def load_config(path: str) -> Config:
    """The configuration of a model folder, of a hub name, or of the other forms of ``model.path``.

    Raises ``InputError`` for a model that comes with code of its own.
    """
    try:
        return AutoConfig.from_pretrained(resolve_model_path(path), trust_remote_code=False)
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise InputError(
            f"model.path: {path} needs program code from its own folder, which r1reward does not run: "
            "choose a model that transformers has a class for"
        ) from error
