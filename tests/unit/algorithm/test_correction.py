"""Rollout correction by hand: weights, what they leave alone, and what is counted."""

import math

import pytest
import torch

from r1reward.algorithm.correction import rollout_weights
from r1reward.algorithm.loss import policy_loss
from r1reward.metrics import Name
from r1reward.recipe.learner_sections import AlgorithmSection, NoCorrection, SequenceMask, TokenIs

TOKEN_IS = TokenIs(type="token_is")
SEQUENCE_MASK = SequenceMask(type="sequence_mask")


def logs(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows).log()


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.bool)


def test_no_correction_has_no_weights_and_no_metrics() -> None:
    old, rollout = logs([0.5]), logs([0.1])
    assert rollout_weights(old, rollout, ones(1, 1), NoCorrection(type="none")) == (None, {})


def test_token_weights_are_probability_ratios_up_to_the_cap() -> None:
    # 0.6 / 0.4 = 1.5; 0.1 / 0.4 = 0.25 is not raised; 0.8 / 0.1 = 8 is capped at 2.
    weights, metrics = rollout_weights(
        logs([0.6, 0.1, 0.8, 0.3]), logs([0.4, 0.4, 0.1, 0.3]), ones(1, 4), TOKEN_IS
    )
    assert weights is not None
    assert weights[0].tolist() == pytest.approx([1.5, 0.25, 2.0, 1.0])
    values = {name: metric.value for name, metric in metrics.items()}
    assert values == {
        Name.POLICY_ROLLOUT_IS_MEAN: pytest.approx(4.75 / 4),
        Name.POLICY_ROLLOUT_IS_MAX: pytest.approx(8.0),
        Name.POLICY_ROLLOUT_IS_CAPPED_SHARE: 0.25,
    }
    assert metrics[Name.POLICY_ROLLOUT_IS_MEAN].weight == 4
    assert metrics[Name.POLICY_ROLLOUT_IS_MAX].reduction == "max"


def test_the_cap_is_the_recipes() -> None:
    weights, _ = rollout_weights(
        logs([0.8]), logs([0.1]), ones(1, 1), TokenIs(type="token_is", cap=5)
    )
    assert weights is not None
    assert weights.item() == pytest.approx(5.0)


def test_a_ratio_that_overflows_float32_is_capped_and_reported() -> None:
    weights, metrics = rollout_weights(
        torch.tensor([[-1.0]]), torch.tensor([[-101.0]]), ones(1, 1), TOKEN_IS
    )
    assert weights is not None
    assert weights.item() == pytest.approx(2.0)
    assert metrics[Name.POLICY_ROLLOUT_IS_MAX].value == pytest.approx(math.exp(100))


def test_a_sequence_is_masked_by_its_geometric_mean_and_not_by_a_token() -> None:
    # Ratios 8 and 0.125 have mean 1; 4 and 2 have sqrt(8); 0.25 and 0.5 have sqrt(1/8).
    old = logs([0.8, 0.1], [0.8, 0.4], [0.1, 0.2])
    rollout = logs([0.1, 0.8], [0.2, 0.2], [0.4, 0.4])
    weights, metrics = rollout_weights(old, rollout, ones(3, 2), SEQUENCE_MASK)
    assert weights is not None
    assert weights.tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    values = {name: metric.value for name, metric in metrics.items()}
    assert values == {
        Name.POLICY_ROLLOUT_IS_MEAN: pytest.approx((1 + 8**0.5 + 8**-0.5) / 3, rel=1e-5),
        Name.POLICY_ROLLOUT_IS_MAX: pytest.approx(8**0.5, rel=1e-5),
        Name.POLICY_ROLLOUT_MASKED_SHARE: pytest.approx(2 / 3),
    }
    assert metrics[Name.POLICY_ROLLOUT_MASKED_SHARE].weight == 3


def test_the_bounds_are_the_recipes() -> None:
    old, rollout = logs([0.8], [0.1]), logs([0.2], [0.4])
    wide = SequenceMask(type="sequence_mask", low=0.2, high=5)
    weights, _ = rollout_weights(old, rollout, ones(2, 1), wide)
    assert weights is not None
    assert weights.tolist() == [[1.0], [1.0]]


def test_the_geometric_mean_is_over_the_response_alone() -> None:
    # Ratio 3 over one token; counted over two positions it would be sqrt(3) and stay.
    weights, _ = rollout_weights(
        logs([0.6, 0.5]), logs([0.2, 0.5]), torch.tensor([[True, False]]), SEQUENCE_MASK
    )
    assert weights is not None
    assert weights[0, 0].item() == 0.0


@pytest.mark.parametrize("correction", [TOKEN_IS, SEQUENCE_MASK], ids=lambda c: c.type)
def test_bfloat16_log_probs_are_compared_in_float32(correction: TokenIs | SequenceMask) -> None:
    old = torch.tensor([[-0.1, -0.3], [-0.7, -10.1]]).bfloat16()
    rollout = torch.tensor([[-0.2, -0.4], [-0.1, -9.7]]).bfloat16()
    weights, metrics = rollout_weights(old, rollout, ones(2, 2), correction)
    exact, exact_metrics = rollout_weights(old.float(), rollout.float(), ones(2, 2), correction)
    assert weights is not None and exact is not None
    assert weights.dtype == torch.float32
    assert torch.equal(weights, exact)
    assert metrics == exact_metrics


def test_no_gradient_flows_through_a_weight() -> None:
    """Old log-probs taken from the update's own pass would otherwise pull at the weight."""
    logprobs = torch.tensor([[-1.0]], requires_grad=True)
    weights, _ = rollout_weights(logprobs, torch.tensor([[-1.2]]), ones(1, 1), TOKEN_IS)
    assert weights is not None
    assert not weights.requires_grad
    advantages = torch.tensor([[-2.0]])
    loss, _ = policy_loss(
        logprobs,
        logprobs.detach(),
        advantages,
        ones(1, 1),
        1,
        AlgorithmSection(),
        weights_BT=weights,
    )
    loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.item() == pytest.approx(2 * math.exp(0.2), rel=1e-6)


def test_a_masked_sequence_stays_in_the_denominator() -> None:
    logprobs = torch.tensor([[-1.0], [-1.0]], requires_grad=True)
    rollout = torch.tensor([[-1.0], [-4.0]])
    weights, _ = rollout_weights(logprobs.detach(), rollout, ones(2, 1), SEQUENCE_MASK)
    loss, _ = policy_loss(
        logprobs,
        logprobs.detach(),
        torch.tensor([[-2.0], [-6.0]]),
        ones(2, 1),
        2,
        AlgorithmSection(),
        weights_BT=weights,
    )
    loss.backward()
    assert loss.item() == pytest.approx(2 / 2)
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [[1.0], [0.0]]
