"""The supervised loss, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from r1reward.algorithm.supervised import supervised_loss
from r1reward.metrics import Name, merge

PROBABILITIES_BT = torch.tensor([[0.5, 0.25, 0.8], [0.1, 0.9, 0.9]])
MASK_BT = torch.tensor([[True, True, True], [True, False, False]])


def test_every_response_token_counts_once_whatever_trace_it_is_in() -> None:
    loss, metrics = supervised_loss(PROBABILITIES_BT.log(), MASK_BT, num_tokens=4)
    wanted = -math.log(0.5 * 0.25 * 0.8 * 0.1) / 4
    assert loss.item() == pytest.approx(wanted)
    assert metrics[Name.SUPERVISED_LOSS].value == pytest.approx(wanted)
    assert metrics[Name.SUPERVISED_LOSS].weight == 4
    # Only 0.8 is above one half: 0.5 may have an equal, and the 0.9s are padding.
    assert metrics[Name.SUPERVISED_ABOVE_HALF_SHARE].value == pytest.approx(1 / 4)


def test_shares_of_unequal_micro_batches_add_up_to_the_batch() -> None:
    rows = [(PROBABILITIES_BT[i : i + 1].log(), MASK_BT[i : i + 1]) for i in (0, 1)]
    losses, metrics = zip(*(supervised_loss(*row, num_tokens=4) for row in rows), strict=True)
    whole, whole_metrics = supervised_loss(PROBABILITIES_BT.log(), MASK_BT, num_tokens=4)
    assert losses[0].item() == pytest.approx(-math.log(0.5 * 0.25 * 0.8) / 4)
    assert sum(loss.item() for loss in losses) == pytest.approx(whole.item())
    merged = merge(metrics)
    assert merged.keys() == whole_metrics.keys()
    for name, metric in merged.items():
        assert metric.value == pytest.approx(whole_metrics[name].value)


def test_every_token_pulls_alike_and_padding_not_at_all_even_when_it_is_infinite() -> None:
    logprobs_BT = PROBABILITIES_BT.log()
    logprobs_BT[1, 1:] = torch.tensor([-math.inf, math.nan])
    logprobs_BT.requires_grad_()
    loss, metrics = supervised_loss(logprobs_BT, MASK_BT, num_tokens=4)
    loss.backward()
    assert torch.equal(logprobs_BT.grad, torch.where(MASK_BT, -0.25, 0.0))
    assert all(math.isfinite(metric.value) for metric in metrics.values())


def test_impossible_token_makes_the_loss_infinite_not_ignored() -> None:
    loss, _ = supervised_loss(torch.tensor([[-math.inf]]), torch.tensor([[True]]), num_tokens=1)
    assert loss.item() == math.inf


def test_micro_batch_without_tokens_has_loss_zero_and_no_metrics() -> None:
    loss, metrics = supervised_loss(torch.zeros(1, 2), torch.zeros(1, 2, dtype=torch.bool), 4)
    assert loss.item() == 0 and metrics == {}
