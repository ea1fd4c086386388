"""Every family in the learner: what is measured is right, and a fault that is planted turns it red."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from r1reward.models import packing, policy
from r1reward.models.generic import encoded_images, joined, text_positions
from r1reward.models.policy import MicroBatch, MicroBatchBuilder
from r1reward.pipeline.check_cells import Cell
from r1reward.pipeline.learner_check import LearnerCheck
from tests.tiny_families import FAMILIES, SEEING, parameters, tiny_section

REFUSED = {
    "qwen3_5": "refused: its linear_attention layers carry what they have seen from one sample into the "
    "next",
    "gemma3": "refused: the tokens of an image attend to later ones, which needs a mask",
}
CHECKS: dict[str, LearnerCheck] = {}


def check_of(name: str) -> LearnerCheck:
    if name not in CHECKS:
        CHECKS[name] = LearnerCheck(tiny_section(name))
    return CHECKS[name]


def cell(name: str, measured: str) -> Cell:
    (found,) = check_of(name).cells((measured,))
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_measured_is_right(name: str) -> None:
    wrong = [each for each in check_of(name).cells() if not each.is_right]
    assert wrong == []


@pytest.mark.parametrize("name", FAMILIES)
def test_the_plain_model_agrees_to_the_last_bit(name: str) -> None:
    assert cell(name, "learner as transformers").found == "0.0e+00"


@pytest.mark.parametrize("name", FAMILIES)
def test_samples_share_a_row_where_that_is_right(name: str) -> None:
    found = cell(name, "packing").found
    assert found == REFUSED.get(name, found)
    assert found.startswith("refused") is (name in REFUSED)


# Faults ---------------------------------------------------------------------------------------------


@contextmanager
def planted(target: Any, name: str, value: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, value)
        yield


def is_red(name: str, *measured: str) -> bool:
    return all(not cell(name, each).is_right for each in measured)


@pytest.mark.parametrize("name", SEEING)
def test_dropped_pixels_are_red(name: str) -> None:
    def without_pixels(images: Any) -> Any:
        tensors = joined(images)
        return tensors | {"pixel_values": torch.full_like(tensors["pixel_values"], 0.5)}

    with planted(policy, "joined", without_pixels):
        assert is_red(name, "image, learner", "learner as transformers", "order of images")


@pytest.mark.parametrize("name", parameters(["qwen3_vl", "qwen3_vl_moe"]))
def test_dropped_features_of_deeper_layers_are_red(name: str) -> None:
    def without_deepstack(hf: Any, images: Any, is_blank: bool) -> Any:
        output = encoded_images(hf, images, is_blank)
        output["deepstack_features"] = [
            [torch.zeros_like(part) for part in level] for level in output["deepstack_features"]
        ]
        return output

    with planted(policy, "encoded_images", without_deepstack):
        assert is_red(name, "learner as transformers")


@pytest.mark.parametrize(
    "name", parameters(["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "glm4v"])
)
def test_positions_of_text_for_images_are_red(name: str) -> None:
    def flat(hf: Any, batch: MicroBatch) -> torch.Tensor:
        return text_positions(batch)[None].expand(3, -1, -1)

    with planted(policy, "positions", flat):
        assert is_red(name, "learner as transformers")


def test_an_ignored_window_is_red() -> None:
    with planted(packing, "window_mask", lambda *_: None):
        assert is_red("gemma4", "packing")


@pytest.mark.slow
def test_an_ignored_mask_of_image_blocks_is_red() -> None:
    model = check_of("gemma3").policy
    with planted(model, "padded", lambda batch: without_types(model, batch)):
        assert is_red("gemma3", "learner as transformers")


def without_types(model: Any, batch: MicroBatch) -> Any:
    inputs, slots_BL = type(model).padded(model, batch)
    return inputs | {"token_type_ids": torch.zeros_like(batch.input_ids_BL)}, slots_BL


def test_a_soft_cap_that_is_left_out_is_red() -> None:
    with planted(check_of("gemma4").policy.hf.lm_head, "softcap", None):
        assert is_red("gemma4", "learner as transformers")


@pytest.mark.parametrize("name", SEEING)
def test_an_image_too_few_is_red(name: str) -> None:
    build = MicroBatchBuilder.build

    def one_less(builder: MicroBatchBuilder, samples: Any) -> MicroBatch:
        return build(builder, [replace(sample, images=sample.images[1:]) for sample in samples])

    with planted(MicroBatchBuilder, "build", one_less):
        found = cell(name, "right padding")
    assert not found.is_right and "image tokens but its" in found.found


@pytest.mark.parametrize("name", SEEING)
def test_two_exchanged_images_are_red(name: str) -> None:
    """Where their sizes differ, positions or counts may fail as well; any of it is red."""
    with planted(policy, "joined", lambda images: joined(images[::-1])):
        assert is_red(name, "learner as transformers")
