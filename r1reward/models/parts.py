"""The policy's three parts, each with a learning rate of its own or frozen."""

from typing import Any

import torch
from torch import nn

from r1reward.models.family import HfModel, Part, family_of
from r1reward.recipe.learner_sections import LearnerSection


def freeze_parts(model: HfModel, settings: LearnerSection) -> None:
    """Switches off the gradients of the parts that the recipe does not train."""
    family = family_of(model.config)
    for name, parameter in model.named_parameters():
        if not getattr(settings.parts, family.part_of(name)).trainable:
            parameter.requires_grad_(False)


def parameter_groups(model: HfModel, settings: LearnerSection) -> list[dict[str, Any]]:
    """The optimizer's groups: one for each part that trains, with its ``lr_scale``."""
    family = family_of(model.config)
    by_part: dict[Part, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            by_part.setdefault(family.part_of(name), []).append(parameter)
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
