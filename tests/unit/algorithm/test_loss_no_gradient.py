"""Where the policy loss may have no gradient: outside Pre-Clip, filtered, padding."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from r1reward.algorithm.advantage import advantages_from_returns
from r1reward.algorithm.batch import BatchSize
from r1reward.algorithm.loss import policy_loss
from r1reward.recipe.learner_sections import AlgorithmSection
from tests.loss_tokens import (
    CISPO,
    DUAL_CLIP,
    KL_K2,
    LOSSES,
    PAPER,
    PER_TOKEN,
    SEQUENCE,
    TOKENS,
    Correction,
    Tokens,
    difference_quotients,
    every_correction,
    every_loss,
    one_sequence,
    run_loss,
)


@pytest.mark.parametrize("settings", [PAPER, DUAL_CLIP, SEQUENCE, CISPO])
@pytest.mark.parametrize("ratio", [2e3, 5e-4])
@pytest.mark.parametrize("advantage", [-1.0, 1.0])
def test_a_token_outside_pre_clip_has_no_gradient_whatever_the_ratio(
    settings: AlgorithmSection, ratio: float, advantage: float
) -> None:
    tokens = one_sequence([ratio, 1.01], [advantage, advantage], old=-9.0)
    assert run_loss(tokens, settings)[1][0][0] == 0.0
    unbounded = settings.model_copy(update={"pre_clip_min": None, "pre_clip_max": None})
    if settings.ratio == "cispo":  # the only one that would keep it for both signs
        assert run_loss(tokens, unbounded)[1][0][0] != 0.0


@pytest.mark.parametrize("settings", [PAPER, DUAL_CLIP, SEQUENCE, CISPO])
@pytest.mark.parametrize("old", [-95.0, -1000.0])
@pytest.mark.parametrize("advantage", [-1.0, 1.0])
def test_an_old_log_prob_beyond_the_exponential_leaves_no_gradient_and_no_nan(
    settings: AlgorithmSection, old: float, advantage: float
) -> None:
    """exp(94) is no float32 number: clipped after the exponential, its gradient is 0 * inf."""
    logprobs = torch.tensor([[-1.0]], requires_grad=True)
    loss, metrics = policy_loss(
        logprobs,
        torch.tensor([[old]]),
        torch.tensor([[advantage]]),
        torch.tensor([[True]]),
        1,
        settings,
    )
    loss.backward()
    assert logprobs.grad is not None and logprobs.grad.tolist() == [[0.0]]
    assert math.isfinite(loss.item())
    assert all(math.isfinite(metric.value) for metric in metrics.values())


def filtered(settings: AlgorithmSection) -> Tokens:
    """One sequence of twelve returns, one of them an outlier: its z is -sqrt(11), below -3."""
    returns = [np.array([1.0] * 5 + [0.0] + [1.0] * 6)]
    advantages = advantages_from_returns(
        returns, normalize=True, filter_sigma=settings.filter_sigma
    ).values[0]
    ratios = [1.1, 0.9, 1.3, 0.7, 1.0, 0.85, 1.05, 0.95, 1.6, 0.5, 1.01, 0.99]
    tokens = one_sequence(ratios, advantages.tolist())
    return replace(tokens, rollout=[[-2.9] * 12])


TOKEN_BY_TOKEN = {
    name: settings
    for name, settings in LOSSES.items()
    if settings.ratio != "sequence" and not settings.kl_in_loss
}


@pytest.mark.parametrize("settings", TOKEN_BY_TOKEN.values(), ids=TOKEN_BY_TOKEN.keys())
@every_correction
def test_a_filtered_token_has_no_gradient_and_stays_in_the_denominator(
    settings: AlgorithmSection, correction: Correction
) -> None:
    tokens = filtered(settings)
    _, gradient, _ = run_loss(tokens, settings, correction)
    wanted = difference_quotients(tokens, settings, correction)[0]
    assert gradient[0] == pytest.approx(wanted, rel=1e-5, abs=1e-8)
    assert gradient[0][5] == 0.0
    assert gradient[0][4] != 0.0
    unfiltered = filtered(settings.model_copy(update={"filter_sigma": None}))
    assert run_loss(unfiltered, settings, correction)[1][0][5] > 0.1


@pytest.mark.parametrize("ratio", [2e3, 1.4, 1.0, 0.6, 5e-4])
@pytest.mark.parametrize("settings", TOKEN_BY_TOKEN.values(), ids=TOKEN_BY_TOKEN.keys())
def test_advantage_0_has_no_gradient_at_any_ratio(settings: AlgorithmSection, ratio: float) -> None:
    _, gradient, _ = run_loss(one_sequence([ratio, 1.0], [0.0, 0.5], old=-9.0), settings)
    assert gradient[0][0] == 0.0
    assert gradient[0][1] == pytest.approx(-0.25)


def test_with_the_sequence_ratio_only_a_sequence_filtered_whole_has_no_gradient() -> None:
    whole = one_sequence([1.1, 1.1], [0.0, 0.0])
    assert run_loss(whole, SEQUENCE)[1] == [[0.0, 0.0]]
    # s = 1.1 at both tokens; the loss -s * 0.5 / 2 has the gradient -s / 2 * 0.5 / 2 at each.
    _, gradient, _ = run_loss(one_sequence([1.1, 1.1], [0.0, 0.5]), SEQUENCE)
    assert gradient[0] == pytest.approx([-1.1 / 8, -1.1 / 8], rel=1e-5)


def test_kl_in_the_loss_still_pulls_at_a_token_outside_pre_clip() -> None:
    tokens = one_sequence([2e3], [-1.0], old=-9.0)
    _, gradient, _ = run_loss(tokens, KL_K2)
    assert gradient[0][0] == pytest.approx(0.5 * (-9 + math.log(2e3) + 1), rel=1e-5)


@every_loss
@every_correction
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("where", PER_TOKEN)
def test_inf_or_nan_in_padding_changes_nothing(
    where: str, value: float, settings: AlgorithmSection, correction: Correction
) -> None:
    rows = [list(row) for row in getattr(TOKENS, where)]
    rows[1][2:] = [value, value]
    changed: dict[str, Any] = {where: rows}
    assert run_loss(replace(TOKENS, **changed), settings, correction) == (
        run_loss(TOKENS, settings, correction)
    )


@every_loss
def test_inf_or_nan_in_the_weights_of_padding_changes_nothing(settings: AlgorithmSection) -> None:
    def result(padding: float) -> tuple[float, list[float]]:
        logprobs_BT = torch.tensor([[-1.0, -1.0]], requires_grad=True)
        loss, _ = policy_loss(
            logprobs_BT,
            torch.tensor([[-1.1, -1.1]]),
            torch.tensor([[1.0, 1.0]]),
            torch.tensor([[True, False]]),
            1,
            settings,
            reference_logprobs_BT=torch.tensor([[-1.2, -1.2]]),
            weights_BT=torch.tensor([[0.5, padding]]),
        )
        loss.backward()
        assert logprobs_BT.grad is not None
        return loss.item(), logprobs_BT.grad[0].tolist()

    clean = result(0.5)
    assert clean[1][0] != 0 and clean[1][1] == 0
    for padding in (math.inf, math.nan):
        assert result(padding) == clean


@every_loss
@every_correction
def test_a_micro_batch_of_padding_only_has_loss_zero_and_no_metrics(
    settings: AlgorithmSection, correction: Correction
) -> None:
    tokens = replace(TOKENS, lengths=[0, 0])
    loss, gradient, metrics = run_loss(tokens, settings, correction, size=BatchSize(2, 6))
    assert (loss, metrics) == (0.0, {})
    assert all(value == 0 for row in gradient for value in row)
