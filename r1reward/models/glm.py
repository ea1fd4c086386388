"""GLM-4.1V and 4.5V: a grid of patches an image, four patches a token."""

from __future__ import annotations

from r1reward.data.media import SideLimits
from r1reward.models.family import Config, Family, Vision


def limits(config: Config, min_tokens: int, max_tokens: int) -> dict[str, dict[str, int]]:
    """The image processor bounds the pixels of a resized image times the frames of a patch."""
    vision = config.vision_config
    pixels = (vision.patch_size * vision.spatial_merge_size) ** 2 * vision.temporal_patch_size
    return {"size": {"shortest_edge": min_tokens * pixels, "longest_edge": max_tokens * pixels}}


VISION = Vision(limits=limits, sides=SideLimits(max_aspect=200), other_media=("video",))
FAMILIES = dict.fromkeys(("glm4v", "glm4v_moe"), Family(VISION))
