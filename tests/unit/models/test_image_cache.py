"""Remembered images: bounded by bytes, the least recently used go first, results stay the same."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from r1reward.models.family import ImageTensors
from r1reward.models.image_cache import remembering
from r1reward.models.model_shape import read_model_shape
from r1reward.models.policy import DTYPES, MicroBatch, MicroBatchBuilder, load_policy_model
from r1reward.models.processor import PolicyProcessor
from r1reward.sizing.memory_plan import image_lines
from tests.samples import learner_case, local_recipe, made_up_samples

RECIPE = local_recipe()


class Processing:
    """An image is its name and takes as many float32 as ``sizes`` says. ``done``: what was processed."""

    def __init__(self, **sizes: int) -> None:
        self.sizes = sizes
        self.done: list[str] = []

    def __call__(self, encoded: bytes) -> ImageTensors:
        name = encoded.decode()
        self.done.append(name)
        values = torch.full((self.sizes[name],), float(len(self.done)))
        return {"values": values, "grid": torch.empty(0, dtype=torch.long)}


QUARTER_MB = 2**16  # in float32


def test_as_many_bytes_are_kept_as_asked_for() -> None:
    processing = Processing(a=2 * QUARTER_MB, b=QUARTER_MB, c=QUARTER_MB, d=1)
    pixels = remembering(processing, torch.float32, cache_mb=1)
    for name in "abcabc":
        pixels(name.encode())
    assert processing.done == ["a", "b", "c"], "together they are exactly the megabyte"
    for name in "dbc":  # four bytes more: the oldest goes, and frees enough for all others
        pixels(name.encode())
    assert processing.done == ["a", "b", "c", "d"]
    pixels(b"a")
    assert processing.done == ["a", "b", "c", "d", "a"]


def test_the_least_recently_used_goes_first() -> None:
    processing = Processing(a=2 * QUARTER_MB, b=2 * QUARTER_MB, c=2 * QUARTER_MB)
    pixels = remembering(processing, torch.float32, cache_mb=1)
    for name in "abac":  # b is older than a by use, although a came first
        pixels(name.encode())
    assert processing.done == ["a", "b", "c"]
    pixels(b"a")
    assert processing.done == ["a", "b", "c"]
    pixels(b"b")
    assert processing.done == ["a", "b", "c", "b"]


def test_an_image_larger_than_all_room_comes_back_and_pushes_nothing_out() -> None:
    processing = Processing(small=1, large=5 * QUARTER_MB)
    pixels = remembering(processing, torch.float32, cache_mb=1)
    for name in ("small", "large", "large", "small"):
        assert pixels(name.encode())["values"].shape == (processing.sizes[name],)
    assert processing.done == ["small", "large", "large"]


def test_without_room_every_image_is_processed_whenever_it_is_asked_for() -> None:
    processing = Processing(a=1)
    pixels = remembering(processing, torch.float32, cache_mb=0)
    assert [pixels(b"a")["values"].item() for _ in range(3)] == [1, 2, 3]


def test_bfloat16_holds_twice_as_many() -> None:
    processing = Processing(a=4 * QUARTER_MB, b=4 * QUARTER_MB)
    pixels = remembering(processing, torch.bfloat16, cache_mb=1)
    for name in "abab":
        assert pixels(name.encode())["values"].dtype == torch.bfloat16
    assert processing.done == ["a", "b"]


def test_a_view_counts_with_all_that_it_keeps_alive() -> None:
    whole = Processing(a=4 * QUARTER_MB, b=4 * QUARTER_MB)

    def process(encoded: bytes) -> ImageTensors:
        tensors = whole(encoded)
        return tensors | {"values": tensors["values"][:1]}

    pixels = remembering(process, torch.float32, cache_mb=1)
    for name in "aba":
        pixels(name.encode())
    assert whole.done == ["a", "b", "a"]


def equal(one: MicroBatch, other: MicroBatch) -> bool:
    assert one.images.keys() == other.images.keys() and one.has_images == other.has_images
    tensors = [
        (getattr(one, field.name), getattr(other, field.name))
        for field in fields(one)
        if field.type == "torch.Tensor"
    ]
    tensors += [(one.images[name], other.images[name]) for name in one.images]
    assert len(tensors) == 8
    return all(torch.equal(a, b) for a, b in tensors)


@pytest.mark.parametrize("room", [1, 2**10], ids=["three images", "all"])
def test_micro_batches_are_those_without_a_cache(room: int) -> None:
    """Each image is 0.3 MB, so that one megabyte keeps three of the five."""
    processor = PolicyProcessor(RECIPE.model)
    samples = made_up_samples(RECIPE, (3, 5, 4, 6, 2))
    plain = MicroBatchBuilder(processor)
    remembers = MicroBatchBuilder(processor, image_cache_mb=room)
    for start, end in ((0, 5), (1, 4), (3, 5), (0, 2), (0, 5)):
        assert equal(remembers.build(samples[start:end]), plain.build(samples[start:end]))


@pytest.mark.slow
@pytest.mark.parametrize("packing", [False, True], ids=["padded", "packed"])
def test_a_bfloat16_model_answers_alike_to_patches_in_either_dtype(packing: bool) -> None:
    recipe = local_recipe("model.dtype=bfloat16")
    processor = PolicyProcessor(recipe.model)
    samples = made_up_samples(recipe, (3, 30, 12), text_only=(1,))
    model = load_policy_model(recipe.model, chunk_tokens=64, packing=packing)
    answers = []
    for dtype in (torch.float32, torch.bfloat16):
        batch = MicroBatchBuilder(processor, dtype, image_cache_mb=8).build(samples)
        assert batch.has_images and batch.images["pixel_values"].dtype == dtype
        model.zero_grad()
        logprobs_BT, entropies_BT = model(batch)
        logprobs_BT.sum().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        answers.append([logprobs_BT, entropies_BT, *gradients])
    assert len(answers[0]) > 10
    assert all(torch.equal(a, b) for a, b in zip(*answers, strict=True))


@pytest.mark.parametrize(("dtype", "fitting"), [("float32", 3), ("bfloat16", 6)])
def test_the_plan_counts_an_image_as_the_cache_holds_it(dtype: str, fitting: int) -> None:
    recipe = local_recipe(f"model.dtype={dtype}", "learner.image_cache_mb=1")
    line, _ = image_lines(learner_case(recipe, read_model_shape("shapes")), 0, ranks=2, engines=0)
    assert line.num_bytes == 2 * 2**20
    assert line.note == f"{fitting} of max_image_tokens a rank"
    images = [sample.images[0] for sample in made_up_samples(recipe, (1,) * (fitting + 1))]
    assert len(set(images)) == fitting + 1
    processor = PolicyProcessor(recipe.model)

    def all_kept(images: list[bytes]) -> bool:
        """Asked for in turn, either all are still there the second time or none is."""
        tensors = MicroBatchBuilder(processor, DTYPES[dtype], image_cache_mb=1).image_tensors
        first = [tensors(image) for image in images]
        again = [tensors(image) is made for image, made in zip(images, first, strict=True)]
        assert len(set(again)) == 1
        return again[0]

    assert all_kept(images[:fitting]) and not all_kept(images)
