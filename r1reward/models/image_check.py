"""Do images reach the model? transformers takes arguments that it does not know without a word."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import transformers

from r1reward.errors import InputError
from r1reward.models.family import HfModel, family_of

if TYPE_CHECKING:
    from r1reward.models.policy import MicroBatch

IMAGES_LOST = (
    f"transformers {transformers.__version__} drops the images of this model, so it would learn without "
    "seeing them: install the version that r1reward pins (`make setup`)"
)


def require_image_argument(hf: HfModel) -> None:
    """The model takes features of images that were encoded before (``mm_encoder_outputs``).

    Raises ``InputError`` if its forward would lose them among its other keyword arguments. A model
    without images is not looked at.
    """
    sees_images = family_of(hf.config).sees_images
    known = inspect.signature(hf.model.forward).parameters
    if sees_images and "mm_encoder_outputs" not in known:
        raise InputError(IMAGES_LOST)


def images_matter(
    model: Callable[[MicroBatch], tuple[torch.Tensor, torch.Tensor]], batch: MicroBatch
) -> bool:
    """Whether noise in place of the images changes any log-prob. Two forward passes, no gradient."""
    generator = torch.Generator().manual_seed(0)
    noise = {
        name: torch.randn(tensor.shape, generator=generator).to(tensor)
        for name, tensor in batch.images.items()
        if tensor.is_floating_point()
    }
    with torch.no_grad():
        seen_BT, _ = model(batch)
        other_BT, _ = model(replace(batch, images=batch.images | noise))
    return bool((seen_BT != other_BT).any())
