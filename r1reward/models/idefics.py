"""Idefics3 and SmolVLM: rows and columns of tiles, each named by a token, and a copy of the whole."""

from __future__ import annotations

from functools import cache
from math import isqrt

from r1reward.models.family import Config, Expansion, Family, Processor, Vision, require_room


def tile_tokens(config: Config) -> int:
    vision = config.vision_config
    return int((vision.image_size // vision.patch_size) ** 2 // config.scale_factor**2)


def limits(config: Config, min_tokens: int, max_tokens: int) -> dict[str, dict[str, int]]:
    """The longer side of a resized image, a multiple of a tile's: a square of them must fit."""
    require_room("one tile", tile_tokens(config), max_tokens)
    num_tiles = max_tokens // tile_tokens(config)
    side = max(1, isqrt(num_tiles - 1))
    return {"size": {"longest_edge": side * config.vision_config.image_size}}


def expansion(processor: Processor) -> Expansion:
    """The processor's own text for so many rows and columns, which follow from width and height."""

    @cache
    def of_tiles(rows: int, columns: int) -> tuple[int, ...]:
        text = processor.replace_image_token({"rows": [[rows]], "cols": [[columns]]}, 0)
        return tuple(processor.tokenizer(text, add_special_tokens=False)["input_ids"])

    def of_size(width: int, height: int) -> tuple[int, ...]:
        _, rows, columns = processor.image_processor.get_number_of_image_patches(height, width)
        return of_tiles(rows, columns)

    return of_size


def merge(config: Config) -> int:
    return int(config.scale_factor) ** 2


VISION = Vision(limits=limits, expansion=expansion, merge=merge)
FAMILIES = dict.fromkeys(("idefics3", "smolvlm"), Family(VISION))
