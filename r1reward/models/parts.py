"""The policy's three parts, each with a learning rate of its own or frozen."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from r1reward.models.family import HfModel, Part
from r1reward.models.generic import image_encoders
from r1reward.recipe.learner_sections import LearnerSection

# Modules at the end of a vision tower that belong to the merger, where that is inside of the tower.
MERGERS = ("merger", "deepstack_merger_list")


def parts_of(model: HfModel) -> dict[str, Part]:
    """The part of every parameter, by its name in the Hugging Face model.

    The language model is the decoder with its head, vision is what sees images (or hears sound), and
    the merger is all that stands between them.
    """
    tower = {id(parameter) for encoder in image_encoders(model) for parameter in of_tower(encoder)}
    language = {id(parameter) for parameter in model.get_decoder().parameters()}
    language |= {id(parameter) for parameter in model.lm_head.parameters()}

    def part(parameter: nn.Parameter) -> Part:
        if id(parameter) in language:
            return "language"
        return "vision" if id(parameter) in tower else "merger"

    return {name: part(parameter) for name, parameter in model.named_parameters()}


def of_tower(encoder: nn.Module) -> Iterator[nn.Parameter]:
    """Parameters of a tower without those of a merger at its end."""
    for name, parameter in encoder.named_parameters():
        if name.partition(".")[0] not in MERGERS:
            yield parameter


def freeze_parts(model: HfModel, settings: LearnerSection) -> None:
    """Switches off the gradients of the parts that the recipe does not train."""
    parts = parts_of(model)
    for name, parameter in model.named_parameters():
        if not getattr(settings.parts, parts[name]).trainable:
            parameter.requires_grad_(False)


def parameter_groups(model: HfModel, settings: LearnerSection) -> list[dict[str, Any]]:
    """The optimizer's groups: one for each part that trains, with its ``lr_scale``."""
    parts = parts_of(model)
    by_part: dict[Part, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            by_part.setdefault(parts[name], []).append(parameter)
    return [
        {"params": parameters, "lr_scale": getattr(settings.parts, part).lr_scale}
        for part, parameters in by_part.items()
    ]


def move_frozen(model: nn.Module, device: torch.device) -> None:
    """Moves what no optimizer holds to a device: frozen parameters and buffers, in place."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    for tensor in (*frozen, *model.buffers()):
        # A new tensor in its place would be lost to whoever shares it, such as a tied head.
        tensor.data = tensor.data.to(device)
