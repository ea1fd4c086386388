"""The one log-prob function: samples without images, head chunks, checkpointing, bfloat16."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from r1reward.engines.policy_model import MicroBatchBuilder, PolicyModel, load_policy_model
from r1reward.engines.processor import PolicyProcessor
from r1reward.types import TrainingSample
from tests.samples import local_recipe, made_up_samples

RECIPE = local_recipe()


@pytest.fixture(scope="module")
def builder() -> MicroBatchBuilder:
    return MicroBatchBuilder(PolicyProcessor(RECIPE.model))


@pytest.fixture(scope="module")
def samples() -> list[TrainingSample]:
    """With and without image in turn, so that both kinds stand side by side."""
    return made_up_samples(RECIPE, (3, 30, 12, 7), text_only=(1, 3))


@pytest.fixture(scope="module", params=[False, True], ids=["padded", "packed"])
def model(request: pytest.FixtureRequest) -> PolicyModel:
    return load_policy_model(RECIPE.model, chunk_tokens=64, packing=request.param)


# Samples without an image ---------------------------------------------------------------------


def test_text_only_log_probs_are_those_of_the_plain_model(
    model: PolicyModel, builder: MicroBatchBuilder, samples: list[TrainingSample]
) -> None:
    """The vision tower's extra token leaves no trace: transformers without any vision agrees."""
    text_only = [samples[1], samples[3]]
    with torch.no_grad():
        logprobs_BT, _ = model(builder.build(text_only))
    for row, sample in enumerate(text_only):
        ids = torch.tensor([[*sample.prompt_token_ids, *sample.response_token_ids]])
        with torch.no_grad():
            positions = torch.arange(ids.shape[1])[None, None].expand(4, 1, -1)
            hidden = model.hf.model(
                input_ids=ids, position_ids=positions, use_cache=False
            ).last_hidden_state[0]
            start = len(sample.prompt_token_ids)
            wanted_RV = (hidden[start - 1 : -1] @ model.hf.lm_head.weight.T).log_softmax(-1)
        wanted_R = wanted_RV.gather(1, ids[0, start:, None])[:, 0]
        torch.testing.assert_close(logprobs_BT[row, : len(wanted_R)], wanted_R, atol=2e-5, rtol=0)


def test_text_only_gradients_of_the_vision_tower_are_exactly_zero(
    model: PolicyModel, builder: MicroBatchBuilder, samples: list[TrainingSample]
) -> None:
    """Zero and not missing: the optimizer and ZeRO treat the tower as in any other micro-batch."""
    model.zero_grad()
    model(builder.build([samples[1], samples[3]]))[0].sum().backward()
    vision = list(model.hf.model.visual.parameters())
    assert len(vision) > 20
    assert all(p.grad is not None and not p.grad.any() for p in vision)
    model.zero_grad()
    model(builder.build([samples[0], samples[1]]))[0].sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in vision)


def test_a_mixed_micro_batch_equals_its_samples_one_by_one(
    model: PolicyModel, builder: MicroBatchBuilder, samples: list[TrainingSample]
) -> None:
    with torch.no_grad():
        together_BT, _ = model(builder.build(samples))
        for row, sample in enumerate(samples):
            alone_1T, _ = model(builder.build([sample]))
            count = alone_1T.shape[1]
            torch.testing.assert_close(together_BT[row, :count], alone_1T[0], atol=2e-5, rtol=0)


@pytest.mark.parametrize("no_grad", [False, True])
def test_both_kinds_call_the_same_modules_in_the_same_order(
    model: PolicyModel, builder: MicroBatchBuilder, samples: list[TrainingSample], no_grad: bool
) -> None:
    """What keeps ZeRO-3's collectives in step when one rank has images and another has none."""

    def calls(sample: TrainingSample) -> list[str]:
        names: list[str] = []
        hooks = [
            module.register_forward_pre_hook(lambda _, __, name=name: names.append(name))
            for name, module in model.named_modules()
            if any(True for _ in module.parameters(recurse=False))
        ]
        with torch.set_grad_enabled(not no_grad):
            model(builder.build([sample]))
        for hook in hooks:
            hook.remove()
        return names

    with_image = calls(samples[0])
    assert "hf.model.visual.patch_embed.proj" in with_image
    assert calls(samples[1]) == with_image


def test_a_lost_image_is_an_error(
    builder: MicroBatchBuilder, samples: list[TrainingSample]
) -> None:
    with pytest.raises(ValueError, match=r"16 image tokens but its 0 image\(s\)"):
        builder.build([replace(samples[0], images=())])
