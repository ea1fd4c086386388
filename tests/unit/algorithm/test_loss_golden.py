"""The policy loss on the golden numbers of the paper, for every ratio, and in bfloat16."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from r1reward.algorithm.loss import token_losses
from r1reward.recipe.learner_sections import AlgorithmSection
from tests.loss_tokens import (
    CISPO,
    DUAL_CLIP,
    NO_PRE_CLIP,
    PAPER,
    PER_TOKEN,
    SEQUENCE,
    TOKENS,
    Correction,
    double_loss,
    every_correction,
    every_loss,
    run_loss,
)

LOGPROBS = torch.tensor([[-0.1, -0.1, -0.1, -0.1]])
OLD_LOGPROBS = torch.tensor([[-10.0, -0.2, -0.2, -5.0]])
ADVANTAGES = torch.tensor([[-1.0, -1.0, 0.5, -0.5]])
SEQUENCE_RATIO = math.exp((math.log(1000) + 0.1 + 0.1 + 4.9) / 4)  # 20.125
GOLDEN = [
    (PAPER, [1000.0, 1.105171, -0.552585, 67.144890]),
    (NO_PRE_CLIP, [19930.370, 1.105171, -0.552585, 67.144890]),
    (DUAL_CLIP, [3.0, 1.105171, -0.552585, 1.5]),
    (SEQUENCE, [SEQUENCE_RATIO, SEQUENCE_RATIO, -0.6, SEQUENCE_RATIO / 2]),
    # Log-probs -3.092245 (Pre-Clip), -0.1, -0.1, -0.1; weights 1.2, e^0.1, e^0.1, 1.2.
    (CISPO, [1.2 * (math.log(1000) - 10), -0.1105171, 0.0552585, -0.06]),
]
golden = pytest.mark.parametrize(
    ("settings", "wanted"), GOLDEN, ids=["paper", "no_pre_clip", "dual_clip", "sequence", "cispo"]
)


@golden
def test_token_losses_of_the_papers_example(
    settings: AlgorithmSection, wanted: list[float]
) -> None:
    assert token_losses(LOGPROBS, OLD_LOGPROBS, ADVANTAGES, settings)[0].tolist() == (
        pytest.approx(wanted, rel=2e-6)
    )


def test_token_losses_of_the_papers_example_in_round_numbers() -> None:
    sequence = token_losses(LOGPROBS, OLD_LOGPROBS, ADVANTAGES, SEQUENCE)[0].tolist()
    assert sequence == pytest.approx([20.125, 20.125, -0.6, 10.062], rel=1e-4)
    without = AlgorithmSection(ratio="sequence", pre_clip_min=None, pre_clip_max=None)
    unclipped = token_losses(LOGPROBS, OLD_LOGPROBS, ADVANTAGES, without)[0].tolist()
    assert unclipped == pytest.approx([42.521, 42.521, -0.6, 21.261], rel=1e-4)  # e^3.75


@golden
def test_bfloat16_inputs_give_the_float32_loss_of_the_rounded_inputs(
    settings: AlgorithmSection, wanted: list[float]
) -> None:
    rounded, old = LOGPROBS.bfloat16(), OLD_LOGPROBS.bfloat16()
    losses = token_losses(rounded, old, ADVANTAGES, settings)
    assert losses.dtype == torch.float32
    assert torch.equal(losses, token_losses(rounded.float(), old.float(), ADVANTAGES, settings))
    assert losses[0].tolist() == pytest.approx(wanted, rel=5e-3)
    assert losses[0].tolist() != pytest.approx(wanted, rel=2e-6), "bfloat16 has rounded nothing"


def test_bfloat16_does_not_round_the_sequence_ratio() -> None:
    settings = AlgorithmSection(ratio="sequence", pre_clip_min=None, pre_clip_max=None)
    tenth, fifth = -0.10009765625, -0.2001953125  # as bfloat16 has -0.1 and -0.2
    ratio = math.exp(((tenth + 10) + 2 * (tenth - fifth) + (tenth + 5)) / 4)
    losses = token_losses(LOGPROBS.bfloat16(), OLD_LOGPROBS.bfloat16(), ADVANTAGES, settings)
    assert losses[0].tolist() == pytest.approx([ratio, ratio, -0.6, ratio / 2], rel=2e-6)


def rounded(rows: list[list[float]]) -> list[list[float]]:
    return torch.tensor(rows).bfloat16().float().tolist()  # type: ignore[no-any-return]


@every_loss
@every_correction
def test_the_whole_loss_in_bfloat16_is_the_float32_loss_of_the_rounded_inputs(
    settings: AlgorithmSection, correction: Correction
) -> None:
    """All inputs rounded. The gradient, too, is rounded once, where it leaves in bfloat16."""
    parts: dict[str, Any] = {name: rounded(getattr(TOKENS, name)) for name in PER_TOKEN}
    tokens = replace(TOKENS, **parts)
    loss, gradient, metrics = run_loss(tokens, settings, correction, dtype=torch.bfloat16)
    exact_loss, exact_gradient, exact_metrics = run_loss(tokens, settings, correction)
    assert (loss, metrics) == (exact_loss, exact_metrics)
    assert gradient == rounded(exact_gradient)
    wanted = double_loss(tokens, tokens.logprobs, settings, correction)
    assert loss == pytest.approx(wanted, rel=1e-5)
    assert wanted != pytest.approx(
        double_loss(TOKENS, TOKENS.logprobs, settings, correction), rel=1e-5
    ), "bfloat16 has rounded nothing"
