"""The image-off audit: the same requests, with every image replaced by a uniform grey one.

A model that looks at its images drops to near chance on these; one that does not keeps its score.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from PIL import Image

from r1reward.data.images import decode_image
from r1reward.types import RolloutRequest, ScoredRollout

GREY = (128, 128, 128)


def without_images(requests: Sequence[RolloutRequest]) -> list[RolloutRequest]:
    """Requests whose images are grey, of the same size and so of the same number of tokens.

    Everything else stays: text, token ids, prompt id, seed. Put the rollouts back on their own
    prompts with ``on_their_prompts`` before they are counted or stored.
    """
    grey: dict[bytes, bytes] = {}
    replaced = []
    for request in requests:
        pair = request.prompt.pair
        for image in pair.images:
            if image not in grey:
                grey[image] = grey_image(*decode_image(image).size)
        blind = replace(pair, images=tuple(grey[image] for image in pair.images))
        replaced.append(replace(request, prompt=replace(request.prompt, pair=blind)))
    return replaced


def on_their_prompts(
    rollouts: Sequence[ScoredRollout], requests: Sequence[RolloutRequest]
) -> list[ScoredRollout]:
    """Image-off rollouts under the requests they were made from, in the same order.

    A pair's id is a hash of its images, too: without this, the outcomes could not be paired with
    those of the run that saw the images.
    """
    restored = []
    for scored, request in zip(rollouts, requests, strict=True):
        ran = scored.rollout.request
        assert (ran.prompt.prompt_id, ran.sample_index) == (
            request.prompt.prompt_id,
            request.sample_index,
        ), "rollouts are in the order of the requests"
        restored.append(replace(scored, rollout=replace(scored.rollout, request=request)))
    return restored


@lru_cache(maxsize=256)
def grey_image(width: int, height: int) -> bytes:
    """A PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), GREY).save(buffer, format="PNG")
    return buffer.getvalue()
