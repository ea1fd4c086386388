"""The image-off audit: only the pixels go, and the outcomes pair up with the sighted ones."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from r1reward.data.image_off import GREY, on_their_prompts, without_images
from r1reward.data.images import decode_image
from r1reward.data.prompts import ORDERS
from r1reward.evaluation.both_orders import pair_outcomes, paired_difference
from r1reward.types import (
    PreferencePair,
    Reward,
    RolloutRequest,
    ScoredRollout,
    Slot,
    Verdict,
)
from tests.fakes import make_prompt, make_rollout


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


def scored(request: RolloutRequest, choice: Slot) -> ScoredRollout:
    return ScoredRollout(
        make_rollout(request, str(choice)),
        Verdict(None, choice, True),
        Reward(0.0, 0.0, None, 0.0, "skipped"),
    )


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


def test_rollouts_go_back_to_pairs_that_can_be_compared() -> None:
    sighted = [scored(request, request.prompt.label) for request in REQUESTS]
    blind = [scored(request, 1) for request in without_images(REQUESTS)]
    restored = on_their_prompts(blind, REQUESTS)
    assert [item.rollout.request for item in restored] == REQUESTS
    assert [item.verdict.choice for item in restored] == [1, 1, 1, 1]
    drop = paired_difference(pair_outcomes(sighted), pair_outcomes(restored), 100)
    assert drop.value == -0.5
    with pytest.raises(ValueError, match="different pairs"):
        paired_difference(pair_outcomes(sighted), pair_outcomes(blind), 100)


def test_rollouts_of_other_requests_are_refused() -> None:
    blind = [scored(request, 1) for request in without_images(REQUESTS)]
    with pytest.raises(AssertionError):
        on_their_prompts(blind[::-1], REQUESTS)


def test_an_unreadable_image_is_an_error() -> None:
    broken = RolloutRequest(make_prompt(replace(PAIRS[0], images=(b"no image",))), 0, 0)
    with pytest.raises(ValueError, match="not a readable image"):
        without_images([broken])
