"""The one log-prob function: samples without images, head chunks, checkpointing, bfloat16."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from r1reward.algorithm.loss import policy_ratio, pre_clipped_log_ratio
from r1reward.models.generic import packed_positions
from r1reward.models.packing import Cuts
from r1reward.models.policy import LogprobHead, MicroBatchBuilder, PolicyModel, load_policy_model
from r1reward.models.processor import PolicyProcessor
from r1reward.types import TrainingSample
from tests.samples import local_recipe, made_up_samples

RECIPE = local_recipe()
BFLOAT16 = local_recipe("model.dtype=bfloat16")


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
                input_ids=ids,
                position_ids=positions,
                use_cache=False,
                packed_cuts=Cuts.of(
                    [ids.shape[1]], ids.device
                ),  # only packed attention looks at it
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


def test_an_image_token_in_a_response_is_text(
    model: PolicyModel, builder: MicroBatchBuilder, samples: list[TrainingSample]
) -> None:
    """Engines do not sample it; where one is, it has a text's positions and no features."""
    image_id, sample = builder.processor.image_token_id, samples[2]
    assert image_id is not None
    response = (image_id, *sample.response_token_ids[1:-1], image_id)
    batch = builder.build([samples[1], replace(sample, response_token_ids=response)])
    num_prompt = len(sample.prompt_token_ids)
    flags = batch.is_image_BL[1].tolist()
    assert flags[:num_prompt] == [token == image_id for token in sample.prompt_token_ids]
    assert sum(flags[:num_prompt]) == 16
    assert not any(flags[num_prompt:])
    assert not batch.is_image_BL[0].any()
    found = packed_positions(model.hf, batch)[1:, 0, -len(response) :]
    assert (found.diff(dim=1) == 1).all(), "one after the other, in all three dimensions"


# Entropy ------------------------------------------------------------------------------------


def test_entropies_are_those_of_the_softmax() -> None:
    """Logits 0, 0, 0 and ln 2, 0, 0: probabilities of a third each, and a half and two quarters."""
    head = LogprobHead.replacing(torch.nn.Linear(1, 3, bias=False), chunk_tokens=8)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[math.log(2)], [0.0], [0.0]]))
    logprobs_N, entropies_N = head(torch.tensor([[0.0], [1.0]]), torch.tensor([1, 0]))
    assert logprobs_N.tolist() == pytest.approx([-math.log(3), -math.log(2)])
    assert entropies_N.tolist() == pytest.approx([math.log(3), 1.5 * math.log(2)])


# Chunks of the head ---------------------------------------------------------------------------


def head_results(
    builder: MicroBatchBuilder, samples: list[TrainingSample], chunk_tokens: int
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    model = load_policy_model(RECIPE.model, chunk_tokens)
    logprobs_BT, entropies_BT = model(builder.build(samples))
    weights = torch.linspace(-1, 1, logprobs_BT.numel()).view_as(logprobs_BT)
    (logprobs_BT * weights).sum().backward()
    gradients = {n: p.grad for n, p in model.hf.named_parameters() if p.grad is not None}
    return logprobs_BT.detach(), entropies_BT, gradients


@pytest.mark.parametrize("chunk_tokens", [1, 7])
def test_the_chunk_size_changes_no_number(
    builder: MicroBatchBuilder, samples: list[TrainingSample], chunk_tokens: int
) -> None:
    whole, whole_entropies, whole_gradients = head_results(builder, samples, 10**6)
    found, entropies, gradients = head_results(builder, samples, chunk_tokens)
    torch.testing.assert_close(found, whole, atol=2e-5, rtol=0)
    torch.testing.assert_close(entropies, whole_entropies, atol=2e-5, rtol=0)
    assert gradients.keys() == whole_gradients.keys()
    for name, gradient in whole_gradients.items():
        assert (gradients[name] - gradient).abs().max() / gradient.abs().max() < 1e-4, name


class LargestOutput(TorchDispatchMode):
    """Elements of the largest tensor that any operation gives, backward pass included."""

    largest = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        output = func(*args, **(kwargs or {}))
        for value in output if isinstance(output, tuple | list) else [output]:
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.numel())
        return output


@pytest.mark.parametrize(("chunk_tokens", "rows"), [(5, 5), (64, 64), (10**6, 64)])
def test_logits_exist_for_one_chunk_at_a_time(chunk_tokens: int, rows: int) -> None:
    vocabulary, num_tokens = 1000, 64
    generator = torch.Generator().manual_seed(0)
    head = LogprobHead.replacing(torch.nn.Linear(2, vocabulary, bias=False), chunk_tokens)
    hidden_ND = torch.randn(num_tokens, 2, generator=generator, requires_grad=True)
    targets_N = torch.randint(vocabulary, (num_tokens,), generator=generator)
    with LargestOutput() as watch:
        logprobs_N, _ = head(hidden_ND, targets_N)
        logprobs_N.sum().backward()
    assert watch.largest == rows * vocabulary


# Gradient checkpointing -----------------------------------------------------------------------


@pytest.mark.parametrize("packing", [False, True])
def test_checkpointing_recomputes_every_layer_and_changes_no_gradient(
    builder: MicroBatchBuilder, samples: list[TrainingSample], packing: bool
) -> None:
    batch = builder.build(samples)

    def run(gradient_checkpointing: bool) -> tuple[Counter[str], dict[str, torch.Tensor]]:
        model = load_policy_model(RECIPE.model, 64, gradient_checkpointing, packing).train()
        calls: Counter[str] = Counter()
        for name, module in model.hf.model.named_modules():
            if name.endswith(".mlp") and "merger" not in name:
                module.register_forward_pre_hook(lambda *_, name=name: calls.update([name]))
        model(batch)[0].sum().backward()
        return calls, {n: p.grad for n, p in model.hf.named_parameters() if p.grad is not None}

    plain_calls, wanted = run(gradient_checkpointing=False)
    calls, found = run(gradient_checkpointing=True)
    assert len(plain_calls) == 4 + 2 and set(plain_calls.values()) == {1}
    assert calls.keys() == plain_calls.keys() and set(calls.values()) == {2}
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-5)


# bfloat16 -------------------------------------------------------------------------------------


def test_bfloat16_log_probs_are_float32_numbers_near_the_float32_models(
    builder: MicroBatchBuilder, samples: list[TrainingSample]
) -> None:
    batch = builder.build(samples)
    with torch.no_grad():
        exact_BT, exact_entropies_BT = load_policy_model(RECIPE.model, 64)(batch)
        found_BT, entropies_BT = load_policy_model(BFLOAT16.model, 64)(batch)
    assert found_BT.dtype == entropies_BT.dtype == torch.float32
    gap_N = (found_BT - exact_BT)[batch.mask_BT].abs()
    # Logits between 16 and 32 have steps of 1/8 in bfloat16: that is the size of the difference
    # (measured: mean 0.06, largest 0.41, entropy 0.10). Nothing is rounded again after them.
    assert gap_N.mean() < 0.1 and gap_N.max() < 0.6
    assert (entropies_BT - exact_entropies_BT).abs().max() < 0.2
    found_N = found_BT[batch.mask_BT]
    assert (found_N.bfloat16().float() != found_N).float().mean() > 0.9

    def ratio(old_BT: torch.Tensor) -> torch.Tensor:
        log_ratio_BT = pre_clipped_log_ratio(found_BT, old_BT, RECIPE.algorithm)
        return policy_ratio(log_ratio_BT, batch.mask_BT, RECIPE.algorithm)

    # The ratio of an unchanged policy is exactly 1, and a small one is not rounded to bfloat16.
    assert (ratio(found_BT.clone()) == 1).all()
    near_BT = ratio(found_BT - 1e-3)
    assert near_BT[batch.mask_BT].mean().item() == pytest.approx(1.0010005, abs=1e-6)
