"""Low-rank adapters on the language model's projections (LoRA, Hu et al. 2021, section 4.1).

Adapted layers keep their weights' names, so that what is published and exported has the names and
shapes of the plain model, with the adapters merged in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from r1reward.errors import InputError
from r1reward.models.family import HfModel
from r1reward.recipe.learner_sections import LoraSection

# What chooses the experts of a token is left as it is.
ROUTERS = (".gate", ".router", ".shared_expert_gate")


class LoraLinear(nn.Linear):
    """W x + alpha / rank * B A x. B starts at 0, so the layer starts as the one it replaces."""

    lora_a: nn.Parameter
    lora_b: nn.Parameter
    scale: float

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        low_rank = F.linear(F.linear(inputs, self.lora_a), self.lora_b)
        return F.linear(inputs, self.weight, self.bias) + self.scale * low_rank

    @classmethod
    def replacing(
        cls, linear: nn.Linear, settings: LoraSection, generator: torch.Generator
    ) -> LoraLinear:
        """Take over an existing layer's parameters and add an adapter of their dtype and device."""
        new = cls(1, 1, bias=False, device="meta")
        new.in_features, new.out_features = linear.in_features, linear.out_features
        new.weight, new.bias = linear.weight, linear.bias
        a_RI = linear.weight.new_empty(settings.rank, linear.in_features)
        nn.init.kaiming_uniform_(a_RI, a=math.sqrt(5), generator=generator)
        new.lora_a = nn.Parameter(a_RI)
        new.lora_b = nn.Parameter(linear.weight.new_zeros(linear.out_features, settings.rank))
        new.scale = settings.alpha / settings.rank
        return new


def add_lora(model: HfModel, settings: LoraSection, seed: int) -> None:
    """Freezes the model (still on the CPU) and adapts the language model's target layers, in place.

    Raises ``InputError`` if the language model has no layers of a target's name.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = adaptable_layers(model)
    there = dict.fromkeys(map(layer_name, layers))
    for target in settings.targets or ():
        if target not in there:
            raise InputError(
                f"learner.lora.targets: a {model.config.model_type} model has no {target}: choose of "
                f"{', '.join(there)}"
            )
    model.requires_grad_(False)
    language = model.get_decoder()
    for path, layer in layers.items():
        if is_target(path, settings):
            adapted = LoraLinear.replacing(layer, settings, generator)
            setattr(language.get_submodule(path.rpartition(".")[0]), layer_name(path), adapted)


def adaptable_layers(model: HfModel) -> dict[str, nn.Linear]:
    """The linear layers that may get adapters, by their paths in the language model."""
    return {
        path: module
        for path, module in model.get_decoder().named_modules()
        if isinstance(module, nn.Linear) and "layers." in path and not path.endswith(ROUTERS)
    }


def layer_name(path: str) -> str:
    """What ``learner.lora.targets`` calls a layer, such as q_proj."""
    return path.rpartition(".")[2]


def is_target(path: str, settings: LoraSection) -> bool:
    """Whether a layer that may get adapters gets them; all do by default."""
    return settings.targets is None or layer_name(path) in settings.targets


def with_adapters(name: str, parameters: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """A parameter of the plain model, with the two adapter matrices that change it if there are."""
    layer, _, kind = name.rpartition(".")
    adapters = [f"{layer}.lora_a", f"{layer}.lora_b"] if kind == "weight" else []
    return [parameters[key] for key in (name, *adapters) if key in parameters]


def merged(
    weight_and_adapters: Sequence[torch.Tensor], settings: LoraSection | None
) -> torch.Tensor:
    """W + alpha / rank * B A in float32, rounded once to the weight's dtype."""
    weight, *adapters = (parameter.detach() for parameter in weight_and_adapters)
    if not adapters:
        return weight
    assert settings is not None, "adapters come from learner.lora"
    a_RI, b_OR = (adapter.float() for adapter in adapters)
    return (weight.float() + settings.alpha / settings.rank * (b_OR @ a_RI)).to(weight.dtype)
