"""Packed micro-batches give the padded ones' numbers; packing without care does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import set_checkpoint_early_stop

from r1reward.algorithm.loss import policy_loss
from r1reward.models.packing import Cuts, packed_attention, row_attention
from r1reward.models.policy import MicroBatch, MicroBatchBuilder, PolicyModel, load_policy_model
from r1reward.models.processor import PolicyProcessor
from r1reward.types import TrainingSample
from tests.samples import local_recipe, made_up_samples

RECIPE = local_recipe()
LENGTHS = (3, 30, 12, 1, 55, 21)
TEXT_ONLY = (1, 4)


@pytest.fixture(scope="module")
def samples() -> list[TrainingSample]:
    return made_up_samples(RECIPE, LENGTHS, TEXT_ONLY)


@pytest.fixture(scope="module")
def builder() -> MicroBatchBuilder:
    return MicroBatchBuilder(PolicyProcessor(RECIPE.model))


@pytest.fixture(scope="module")
def padded() -> PolicyModel:
    return load_policy_model(RECIPE.model, chunk_tokens=64)


@pytest.fixture(scope="module")
def packed() -> PolicyModel:
    return load_policy_model(RECIPE.model, chunk_tokens=64, packing=True)


def loss_of(
    model: PolicyModel, batch: MicroBatch, samples: list[TrainingSample]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss against old log-probs of -5, log-probs, entropies."""
    logprobs_BT, entropies_BT = model(batch)
    advantages_BT = torch.zeros(batch.mask_BT.shape)
    for row, sample in enumerate(samples):
        advantages_BT[row, : len(sample.advantages)] = torch.tensor(sample.advantages)
    settings = RECIPE.algorithm.model_copy(update={"clip_epsilon": 0.999})
    old_BT = torch.full_like(logprobs_BT, -5.0)
    loss, _ = policy_loss(logprobs_BT, old_BT, advantages_BT, batch.mask_BT, 6, settings)
    return loss, logprobs_BT, entropies_BT


def gradients(model: PolicyModel, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    found = {name: p.grad for name, p in model.hf.named_parameters() if p.grad is not None}
    assert len(found) == len(list(model.hf.parameters()))
    return found


def test_packing_changes_no_number(
    samples: list[TrainingSample],
    builder: MicroBatchBuilder,
    padded: PolicyModel,
    packed: PolicyModel,
) -> None:
    batch = builder.build(samples)
    loss, logprobs_BT, entropies_BT = loss_of(padded, batch, samples)
    packed_loss, packed_logprobs_BT, packed_entropies_BT = loss_of(packed, batch, samples)
    assert packed_loss.item() == pytest.approx(loss.item(), rel=1e-5)
    torch.testing.assert_close(packed_logprobs_BT, logprobs_BT, atol=2e-5, rtol=0)
    torch.testing.assert_close(packed_entropies_BT, entropies_BT, atol=2e-5, rtol=0)
    wanted, found = gradients(padded, loss), gradients(packed, packed_loss)
    for name, gradient in wanted.items():
        difference = (found[name] - gradient).abs().max() / gradient.abs().max()
        assert difference < 1e-4, name


def test_packing_runs_tokens_not_padding(
    samples: list[TrainingSample], builder: MicroBatchBuilder, packed: PolicyModel
) -> None:
    shapes = []
    layer = packed.hf.model.language_model.layers[0]
    with layer.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape[:2])):
        packed(builder.build(samples))
    assert shapes == [(1, sum(sample.num_tokens for sample in samples))]


def test_a_sample_does_not_see_its_neighbours(
    samples: list[TrainingSample], builder: MicroBatchBuilder, packed: PolicyModel
) -> None:
    """Also not the images: every other sample gets other tokens, and one of them another image."""
    changed = [replace(s, response_token_ids=s.response_token_ids[::-1]) for s in samples]
    changed[0] = replace(changed[0], images=samples[2].images)
    changed[2] = samples[2]
    with torch.no_grad():
        before, _ = packed(builder.build(samples))
        after, _ = packed(builder.build(changed))
    torch.testing.assert_close(after[2], before[2], atol=1e-6, rtol=0)
    assert (after - before)[0].abs().max() > 0.1
    assert (after - before)[4].abs().max() > 0.1


def test_one_row_without_restarts_is_wrong_by_nats(
    samples: list[TrainingSample], builder: MicroBatchBuilder, padded: PolicyModel
) -> None:
    """The packing that transformers accepts without a word: causal attention over the whole row."""
    batch = builder.build(samples)
    is_token_BL = batch.attention_mask_BL.bool()
    with torch.no_grad():
        right_BT, _ = padded(batch)
        slots_BL = is_token_BL.flatten().cumsum(0).view_as(is_token_BL) - 1
        one_row = replace(
            batch,
            input_ids_BL=batch.input_ids_BL[is_token_BL][None],
            attention_mask_BL=torch.ones(1, int(is_token_BL.sum()), dtype=torch.long),
            is_image_BL=batch.is_image_BL[is_token_BL][None],
            response_at_BT=slots_BL.gather(1, batch.response_at_BT)[batch.mask_BT][None],
            targets_BT=batch.targets_BT[batch.mask_BT][None],
            mask_BT=torch.ones(1, int(batch.mask_BT.sum()), dtype=torch.bool),
        )
        naive_1N, _ = padded(one_row)
    gap_N = (naive_1N[0] - right_BT[batch.mask_BT]).abs()
    assert gap_N[: LENGTHS[0]].max() < 1e-4  # the first sample of the row is still right
    assert gap_N[LENGTHS[0] :].max() > 3


def block_causal_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: list[int]
) -> torch.Tensor:
    """The definition: one mask over the row, [1, S, H, D]."""
    sample_S = torch.repeat_interleave(torch.tensor(lengths, device=query.device))
    mask_SS = (sample_S[:, None] == sample_S[None, :]).tril()
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask_SS, scale=0.3)
    return mixed.transpose(1, 2)


class GroupedHeads(torch.nn.Module):
    """What the attention function reads of its module."""

    is_causal = True

    def __init__(self, num_key_value_groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = num_key_value_groups


def check_attention(num_key_value_heads: int, device: str, dtype: torch.dtype, atol: float) -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = [5, 1, 17, 9]
    shapes = [(1, heads, 32, 16) for heads in (4, num_key_value_heads, num_key_value_heads)]
    query, key, value = (
        torch.randn(shape, generator=generator).to(device, dtype).requires_grad_()
        for shape in shapes
    )
    cuts = Cuts.of(lengths, query.device)
    module = GroupedHeads(4 // num_key_value_heads)
    found, _ = packed_attention(module, query, key, value, None, 0.3, cuts)
    wanted = block_causal_attention(query, key, value, lengths)
    torch.testing.assert_close(found, wanted, atol=atol, rtol=atol)
    weights = torch.randn(found.shape, generator=generator).to(device, dtype)
    ours = torch.autograd.grad((found * weights).sum(), [query, key, value])
    theirs = torch.autograd.grad((wanted * weights).sum(), [query, key, value])
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=atol)


@pytest.mark.parametrize("num_key_value_heads", [4, 2, 1])
def test_attention_within_samples(num_key_value_heads: int) -> None:
    check_attention(num_key_value_heads, "cpu", torch.float32, 1e-5)


class HostReads(TorchDispatchMode):
    """Counts what makes the host wait for a tensor's values, while a language layer runs."""

    def __init__(self) -> None:
        super().__init__()
        self.num_reads = 0
        self.num_layers = 0
        self.inside = False

    def enter(self, *_: object) -> None:
        self.inside = True
        self.num_layers += 1

    def leave(self, *_: object) -> None:
        self.inside = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        waits = func.overloadpacket in (
            torch.ops.aten.nonzero,
            torch.ops.aten._local_scalar_dense,
            torch.ops.aten.masked_select,
        )
        self.num_reads += waits and self.inside
        return func(*args, **(kwargs or {}))


# Regression: every layer looked for the samples in the positions, twice when it was recomputed.
def test_no_layer_reads_back_from_the_device(
    samples: list[TrainingSample], builder: MicroBatchBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_policy_model(RECIPE.model, 64, gradient_checkpointing=True, packing=True).train()
    reads = HostReads()
    for layer in model.hf.model.language_model.layers:
        layer.register_forward_pre_hook(reads.enter)
        layer.register_forward_hook(reads.leave)
    to_list = torch.Tensor.tolist

    def counted_list(tensor: torch.Tensor) -> object:
        reads.num_reads += reads.inside
        return to_list(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", counted_list)
    # Recomputation goes to the layer's end, so that its hook is called.
    with reads, set_checkpoint_early_stop(False):
        model(builder.build(samples))[0].sum().backward()
    assert reads.num_layers == 2 * 4  # forward, and once more for the backward pass
    assert reads.num_reads == 0


def test_the_kernel_for_gpus_is_called_without_a_look_at_the_device() -> None:
    """On tensors without values: whatever reads one raises."""
    query_SHD = torch.empty(32, 4, 16, device="meta", dtype=torch.bfloat16)
    key_SHD = torch.empty(32, 2, 16, device="meta", dtype=torch.bfloat16)
    cuts = Cuts((5, 1, 17, 9), torch.empty(5, device="meta", dtype=torch.int32))
    assert row_attention(query_SHD, key_SHD, key_SHD, cuts, 0.3).shape == (32, 4, 16)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("num_key_value_heads", [4, 2, 1])
def test_attention_within_samples_on_a_gpu(num_key_value_heads: int) -> None:
    check_attention(num_key_value_heads, "cuda", torch.float32, 1e-4)
    check_attention(num_key_value_heads, "cuda", torch.bfloat16, 3e-2)
