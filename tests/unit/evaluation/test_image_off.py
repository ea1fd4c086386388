"""The image-off audit: only the pixels go, and the outcomes pair up with the sighted ones."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from r1reward.data.images import decode_image
from r1reward.data.requests import ORDERS
from r1reward.evaluation.image_off import GREY, without_images
from r1reward.types import PreferencePair, RolloutRequest
from tests.fakes import make_prompt


def encoded(width: int, height: int, colour: str, image_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, format=image_format)
    return buffer.getvalue()


RED, BLUE = encoded(30, 20, "red"), encoded(30, 20, "blue")
# The same words about two images: without their images they would be one pair.
PAIRS = [
    PreferencePair("what colour?", (RED, encoded(8, 9, "green", "JPEG")), "red", "blue", 1),
    PreferencePair("what colour?", (BLUE, encoded(8, 9, "green", "JPEG")), "red", "blue", 1),
]
REQUESTS = [
    RolloutRequest(make_prompt(pair, order), 0, seed)
    for seed, pair in enumerate(PAIRS)
    for order in ORDERS
]


def test_every_image_is_grey_and_of_its_own_size() -> None:
    for request, blind in zip(REQUESTS, without_images(REQUESTS), strict=True):
        for seen, hidden in zip(request.prompt.pair.images, blind.prompt.pair.images, strict=True):
            assert decode_image(hidden).size == decode_image(seen).size
            assert np.unique(np.asarray(decode_image(hidden))).tolist() == [GREY[0]]


def test_nothing_else_changes() -> None:
    for request, blind in zip(REQUESTS, without_images(REQUESTS), strict=True):
        pair = replace(blind.prompt.pair, images=request.prompt.pair.images)
        assert replace(blind, prompt=replace(blind.prompt, pair=pair)) == request
        assert blind != request


def test_an_unreadable_image_is_an_error() -> None:
    broken = RolloutRequest(make_prompt(replace(PAIRS[0], images=(b"no image",))), 0, 0)
    with pytest.raises(ValueError, match="not a readable image"):
        without_images([broken])
