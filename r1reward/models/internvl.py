"""InternVL: an image is cut into square tiles, each of as many tokens, with a small copy of the whole."""

from __future__ import annotations

from r1reward.models.family import Config, Family, Vision, require_room


def limits(config: Config, min_tokens: int, max_tokens: int) -> dict[str, int]:
    """The image processor bounds the tiles beside the copy, which a single tile does not have."""
    require_room("one tile", config.image_seq_length, max_tokens)
    num_tiles = max_tokens // config.image_seq_length
    return {"min_patches": 1, "max_patches": num_tiles - 1 if num_tiles > 2 else 1}


def merge(config: Config) -> int:
    return int(round(1 / config.downsample_ratio) ** 2)


FAMILIES = {"internvl": Family(Vision(limits=limits, merge=merge, other_media=("video",)))}
