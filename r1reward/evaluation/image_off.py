"""The image-off audit: the same requests, with every image replaced by a uniform grey one.

A model that looks at its images drops to near chance on these; one that does not keeps its score.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from PIL import Image

from r1reward.data.images import decode_image, png_of
from r1reward.types import RolloutRequest

GREY = (128, 128, 128)


def without_images(requests: Sequence[RolloutRequest]) -> list[RolloutRequest]:
    """Returns requests whose images are grey, of the same size and so of the same number of tokens.

    Everything else stays: text, token ids, prompt id, seed. Answers are counted by prompt id: a pair's
    own id is a hash of its images, too.
    """
    images = {image for request in requests for image in request.prompt.pair.images}
    grey = {image: grey_image(*decode_image(image).size) for image in images}
    replaced = []
    for request in requests:
        pair = request.prompt.pair
        blind = replace(pair, images=tuple(grey[image] for image in pair.images))
        replaced.append(replace(request, prompt=replace(request.prompt, pair=blind)))
    return replaced


@lru_cache(maxsize=256)
def grey_image(width: int, height: int) -> bytes:
    """Returns a PNG of one colour."""
    return png_of(Image.new("RGB", (width, height), GREY))
