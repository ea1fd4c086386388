"""GLM-4.1V and 4.5V: a grid of patches an image, four patches a token."""

from __future__ import annotations

from typing import Any

from r1reward.data.media import SideLimits
from r1reward.models.family import Config, Family, Vision, pixel_limits


def limits(config: Config, min_tokens: int, max_tokens: int) -> dict[str, Any]:
    """The image processor bounds the pixels of a resized image times the frames of a patch."""
    return pixel_limits(config, min_tokens, max_tokens, config.vision_config.temporal_patch_size)


VISION = Vision(limits=limits, sides=SideLimits(max_aspect=200), other_media=("video",))
FAMILIES = dict.fromkeys(("glm4v", "glm4v_moe"), Family(VISION))
