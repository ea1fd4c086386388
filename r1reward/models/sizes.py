"""What memory depends on: the dimensions of a Qwen2.5-VL, its weights, and a batch's extent."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from r1reward.recipe.learner_sections import LearnerSection
from r1reward.recipe.recipe import Recipe
from r1reward.recipe.sections import Dtype, ModelSection

ITEM_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2}
Part = Literal["vision", "merger", "language"]


@dataclass(frozen=True)
class TextShape:
    """The language model. Sizes are numbers of values."""

    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    vocab: int

    @property
    def head(self) -> int:
        return self.hidden // self.num_heads

    @property
    def kv_width(self) -> int:
        """Values of one token's keys in one layer; its values are as many."""
        return self.num_kv_heads * self.head


@dataclass(frozen=True)
class VisionShape:
    """The vision tower. ``patch`` counts the input values of a patch, ``merge`` patches a token."""

    hidden: int
    intermediate: int
    num_layers: int
    num_heads: int
    patch: int
    patch_side: int
    merge: int


@dataclass(frozen=True)
class Weight:
    """One parameter of the plain model, without its adapters."""

    name: str
    shape: tuple[int, ...]
    part: Part

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class ModelShape:
    """A model without its weights. ``source`` says where the numbers come from."""

    source: str
    text: TextShape
    vision: VisionShape
    weights: tuple[Weight, ...]

    @property
    def num_parameters(self) -> int:
        return sum(weight.numel for weight in self.weights)

    def tokens_of_image(self, pixels: int) -> int:
        """Tokens that an image of so many pixels becomes behind the merger."""
        return max(1, pixels // (self.vision.patch_side**2 * self.vision.merge))


@dataclass(frozen=True)
class MicroBatchShape:
    """One forward pass of the learner.

    ``rows`` sequences of at most ``length`` tokens; ``slots`` is what the language model runs: all
    tokens when packed, rows times length when padded. ``padded`` says that attention needs a mask.
    """

    rows: int
    length: int
    slots: int
    response_tokens: int
    patches: int
    packed: bool
    padded: bool


def widest_micro_batch(
    recipe: Recipe, model: ModelShape, images_per_pair: int | None
) -> MicroBatchShape:
    """The micro-batch that takes most memory: full, and with as many image tokens as can be.

    ``images_per_pair`` None counts on ``model.max_images``, each of ``model.max_pixels``.
    """
    limits = recipe.model
    budget = recipe.learner.micro_batch_tokens
    images = limits.max_images if images_per_pair is None else images_per_pair
    of_images = min(images * model.tokens_of_image(limits.max_pixels), limits.max_prompt_tokens)
    shortest = of_images + limits.max_new_tokens
    longest = limits.max_prompt_tokens + limits.max_new_tokens
    rows = max(1, budget // longest)
    return MicroBatchShape(
        rows=rows,
        length=min(longest, budget),
        slots=budget,
        response_tokens=budget * limits.max_new_tokens // longest,
        patches=budget * of_images // shortest * model.vision.merge,
        packed=recipe.learner.packing,
        padded=rows > 1 and not recipe.learner.packing,
    )


@dataclass(frozen=True)
class Trained:
    """How many values the optimizer moves, and how they lie in DeepSpeed's groups."""

    num_base: int
    num_adapter: int
    num_trainable: int
    largest_weight: int
    largest_group: int

    @property
    def num_held(self) -> int:
        """All values in the learner's copy of the model."""
        return self.num_base + self.num_adapter


def trained(model: ModelShape, settings: LearnerSection) -> Trained:
    """Count them for a recipe's learner: whole weights by part, or adapters."""
    lora = settings.lora
    if lora is not None:
        sizes = [
            lora.rank * sum(weight.shape)
            for weight in model.weights
            if weight.part == "language"
            and weight.name.endswith(tuple(f".{name}.weight" for name in lora.targets))
        ]
        return Trained(model.num_parameters, sum(sizes), sum(sizes), max(sizes), sum(sizes))
    groups: dict[Part, int] = {}
    largest = 0
    for weight in model.weights:
        if getattr(settings.parts, weight.part).trainable:
            groups[weight.part] = groups.get(weight.part, 0) + weight.numel
            largest = max(largest, weight.numel)
    return Trained(
        model.num_parameters, 0, sum(groups.values()), largest, max(groups.values(), default=0)
    )


def longest_sequence(model: ModelSection) -> int:
    """Tokens of prompt and response together, at most."""
    return model.max_prompt_tokens + model.max_new_tokens
