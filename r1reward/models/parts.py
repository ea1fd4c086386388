"""The policy's three parts, each with a learning rate of its own or frozen."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from r1reward.recipe.learner_sections import LearnerSection

Part = Literal["vision", "merger", "language"]


def part_of(name: str) -> Part:
    """The part a parameter of the Hugging Face model belongs to, by its name.

    The merger maps image features into the language model; embeddings and head are language.
    """
    if name.startswith("model.visual.merger."):
        return "merger"
    return "vision" if name.startswith("model.visual.") else "language"


def freeze_parts(model: nn.Module, settings: LearnerSection) -> None:
    """No gradient for the parts that the recipe does not train."""
    for name, parameter in model.named_parameters():
        if not getattr(settings.parts, part_of(name)).trainable:
            parameter.requires_grad_(False)


def parameter_groups(model: nn.Module, settings: LearnerSection) -> list[dict[str, Any]]:
    """The optimizer's groups: one for each part that trains, with its ``lr_scale``."""
    by_part: dict[Part, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            by_part.setdefault(part_of(name), []).append(parameter)
    return [
        {"params": parameters, "lr_scale": getattr(settings.parts, part).lr_scale}
        for part, parameters in by_part.items()
    ]
