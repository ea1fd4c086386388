"""A model that does not see its images is noticed: at its start, or with its first images."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from transformers import LlamaConfig

from r1reward.errors import InputError
from r1reward.models.image_check import images_matter, require_image_argument
from r1reward.models.policy import MicroBatchBuilder, PolicyModel, load_hf_model, load_policy_model
from r1reward.models.processor import PolicyProcessor
from tests.samples import local_recipe, made_up_samples

RECIPE = local_recipe()
LOST = (
    f"transformers {transformers.__version__} drops the images of this model, so it would learn without "
    "seeing them: install the version that r1reward pins (`make setup`)"
)


def older_model() -> Any:
    """What a transformers without ``mm_encoder_outputs`` does with it."""
    hf = load_hf_model(RECIPE.model)
    forward = hf.model.forward

    def older(
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        **kwargs: object,
    ) -> object:
        kwargs.pop("mm_encoder_outputs", None)
        return forward(input_ids, attention_mask, position_ids, **kwargs)

    hf.model.forward = older
    return hf


def test_a_model_that_would_lose_image_features_does_not_start() -> None:
    with pytest.raises(InputError) as error:
        PolicyModel(older_model(), 64)
    assert str(error.value) == LOST


def test_a_model_of_text_is_not_asked_for_images() -> None:
    def forward(input_ids: torch.Tensor, **_: object) -> None: ...

    require_image_argument(
        SimpleNamespace(config=LlamaConfig(), model=SimpleNamespace(forward=forward))
    )


@pytest.mark.parametrize("packing", [False, True])
def test_other_images_change_the_log_probs_unless_they_are_lost(packing: bool) -> None:
    batch = MicroBatchBuilder(PolicyProcessor(RECIPE.model)).build(made_up_samples(RECIPE, (3, 9)))
    model = load_policy_model(RECIPE.model, 64, packing=packing)
    assert images_matter(model, batch)
    forward = model.hf.model.forward
    model.hf.model.forward = lambda **kwargs: forward(**kwargs | {"mm_encoder_outputs": None})
    assert not images_matter(model, batch)
