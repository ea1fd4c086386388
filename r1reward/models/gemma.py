"""Gemma 3, whose images all have the same number of tokens, and Gemma 4, which has a budget for them."""

from __future__ import annotations

from r1reward.models.family import Config, Family, Vision, require_room

# The budgets of Gemma 4's image processor; it takes no others.
BUDGETS = (70, 140, 280, 560, 1120)


def fixed(config: Config, min_tokens: int, max_tokens: int) -> dict[str, int]:
    """Nothing to set. Raises ``InputError`` if an image has more tokens than the recipe allows."""
    require_room("an image", config.mm_tokens_per_image, max_tokens)
    return {}


def budget(config: Config, min_tokens: int, max_tokens: int) -> dict[str, int]:
    """The largest budget within the recipe's bound."""
    require_room("an image", BUDGETS[0], max_tokens)
    return {"max_soft_tokens": max(tokens for tokens in BUDGETS if tokens <= max_tokens)}


def merge(config: Config) -> int:
    vision = config.vision_config
    return int((vision.image_size // vision.patch_size) ** 2 // config.mm_tokens_per_image)


def pooled(config: Config) -> int:
    return int(config.vision_config.pooling_kernel_size) ** 2


FAMILIES = {
    "gemma3": Family(Vision(limits=fixed, merge=merge)),
    "gemma4": Family(Vision(limits=budget, merge=pooled, other_media=("video", "audio"))),
}
