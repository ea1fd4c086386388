"""The StableReinforce loss against numbers worked out by hand (PAPER.md, golden numbers)."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from r1reward.algorithm.loss import (
    policy_loss,
    policy_ratio,
    pre_clipped_log_ratio,
    sequence_mean,
    token_losses,
)
from r1reward.metrics import Name
from r1reward.recipe.learner_sections import AlgorithmSection

PRE_CLIP = AlgorithmSection()
NO_PRE_CLIP = AlgorithmSection(pre_clip_min=None, pre_clip_max=None)

LOGPROBS = torch.tensor([[-0.1, -0.1, -0.1, -0.1]])
OLD_LOGPROBS = torch.tensor([[-10.0, -0.2, -0.2, -5.0]])
ADVANTAGES = torch.tensor([[-1.0, -1.0, 0.5, -0.5]])


def token_ratio(logprob: float, old: float, settings: AlgorithmSection) -> float:
    log_ratio = pre_clipped_log_ratio(torch.tensor([[logprob]]), torch.tensor([[old]]), settings)
    return float(policy_ratio(log_ratio, None, settings))


def loss_and_gradient(
    logprobs: list[list[float]],
    old: list[list[float]],
    advantages: list[list[float]],
    mask: list[list[bool]],
    settings: AlgorithmSection = PRE_CLIP,
    num_sequences: int = 1,
) -> tuple[float, list[list[float]]]:
    logprobs_BT = torch.tensor(logprobs, requires_grad=True)
    loss, _ = policy_loss(
        logprobs_BT,
        torch.tensor(old),
        torch.tensor(advantages),
        torch.tensor(mask),
        num_sequences,
        settings,
    )
    loss.backward()
    assert logprobs_BT.grad is not None
    return loss.item(), logprobs_BT.grad.tolist()


def test_token_losses_without_pre_clip_are_the_golden_numbers() -> None:
    losses = token_losses(LOGPROBS, OLD_LOGPROBS, ADVANTAGES, NO_PRE_CLIP)[0].tolist()
    assert losses == pytest.approx(
        [math.exp(9.9), math.exp(0.1), -0.5 * math.exp(0.1), 0.5 * math.exp(4.9)], rel=2e-6
    )
    assert losses == pytest.approx([19930.4, 1.105, -0.553, 67.14], rel=1e-3)


def test_token_losses_with_pre_clip_are_the_golden_numbers() -> None:
    losses = token_losses(LOGPROBS, OLD_LOGPROBS, ADVANTAGES, PRE_CLIP)[0].tolist()
    assert losses == pytest.approx(
        [1000.0, math.exp(0.1), -0.5 * math.exp(0.1), 0.5 * math.exp(4.9)], rel=2e-6
    )
    assert losses == pytest.approx([1000.0, 1.105, -0.553, 67.14], rel=1e-3)


def test_pre_clip_bounds_the_ratio_from_below_too() -> None:
    assert token_ratio(-20.0, -1.0, PRE_CLIP) == pytest.approx(1e-3, rel=1e-6)


def test_pre_clip_keeps_a_huge_log_ratio_finite_where_the_plain_ratio_overflows() -> None:
    assert token_ratio(-0.1, -200.0, NO_PRE_CLIP) == math.inf
    assert token_ratio(-0.1, -200.0, PRE_CLIP) == pytest.approx(1000.0, rel=1e-6)


def test_the_bounds_of_pre_clip_are_the_recipes() -> None:
    narrow = AlgorithmSection(pre_clip_min=0.5, pre_clip_max=4)
    assert token_ratio(-3.0, -1.0, narrow) == pytest.approx(0.5)
    assert token_ratio(-1.0, -3.0, narrow) == pytest.approx(4.0)
    wide = AlgorithmSection(pre_clip_min=1e-5, pre_clip_max=1e5)
    assert token_ratio(-11.0, -1.0, wide) == pytest.approx(math.exp(-10))
    assert token_ratio(-1.0, -11.0, wide) == pytest.approx(math.exp(10), rel=2e-6)


def test_the_width_of_the_clip_is_the_recipes() -> None:
    narrow = AlgorithmSection(clip_epsilon=0.1)
    above = loss_and_gradient([[math.log(1.15)]], [[0.0]], [[2.0]], [[True]], narrow)
    assert above[0] == pytest.approx(-2.2)
    assert above[1] == [[0.0]]
    below = loss_and_gradient([[math.log(0.85)]], [[0.0]], [[-2.0]], [[True]], narrow)
    assert below[0] == pytest.approx(1.8)
    assert below[1] == [[0.0]]


def test_bfloat16_inputs_give_the_float32_function_of_the_rounded_inputs() -> None:
    losses = token_losses(
        LOGPROBS.bfloat16(), OLD_LOGPROBS.bfloat16(), ADVANTAGES.float(), NO_PRE_CLIP
    )
    assert losses.dtype == torch.float32
    # -0.1 and -0.2 as bfloat16 has them. The difference taken in bfloat16 would be 9.875, and the
    # first loss 19438 instead of 19928.
    tenth, fifth = -0.10009765625, -0.2001953125
    assert losses[0].tolist() == pytest.approx(
        [
            math.exp(tenth + 10),
            math.exp(tenth - fifth),
            -0.5 * math.exp(tenth - fifth),
            0.5 * math.exp(tenth + 5),
        ],
        rel=2e-6,
    )


def test_a_favoured_token_gains_nothing_beyond_the_clip() -> None:
    loss, gradient = loss_and_gradient([[math.log(1.5)]], [[0.0]], [[2.0]], [[True]])
    assert loss == pytest.approx(-2.4)  # -1.2 * 2
    assert gradient == [[0.0]]


def test_a_penalised_token_far_above_the_clip_still_has_its_full_gradient() -> None:
    loss, gradient = loss_and_gradient([[math.log(1.5)]], [[0.0]], [[-2.0]], [[True]])
    assert loss == pytest.approx(3.0)
    assert gradient[0] == pytest.approx([3.0])


def test_a_penalised_token_below_the_clip_has_no_gradient() -> None:
    loss, gradient = loss_and_gradient([[math.log(0.5)]], [[0.0]], [[-2.0]], [[True]])
    assert loss == pytest.approx(1.6)  # 0.8 * 2
    assert gradient == [[0.0]]


def test_at_ratio_one_the_gradient_is_minus_the_advantage_over_the_length() -> None:
    loss, gradient = loss_and_gradient(
        [[-0.7, -1.3]], [[-0.7, -1.3]], [[0.5, -1.5]], [[True, True]], num_sequences=4
    )
    assert loss == pytest.approx((-0.5 + 1.5) / 2 / 4)
    assert gradient[0] == pytest.approx([-0.5 / 8, 1.5 / 8])


@pytest.mark.parametrize(("logprob", "old"), [(-0.1, -10.0), (-10.0, -0.1)])
@pytest.mark.parametrize("advantage", [-1.0, 1.0])
def test_a_token_outside_pre_clip_has_no_gradient(
    logprob: float, old: float, advantage: float
) -> None:
    _, gradient = loss_and_gradient([[logprob]], [[old]], [[advantage]], [[True]])
    assert gradient == [[0.0]]


def test_without_pre_clip_the_same_token_has_a_gradient_of_its_whole_ratio() -> None:
    _, gradient = loss_and_gradient([[-0.1]], [[-10.0]], [[-1.0]], [[True]], NO_PRE_CLIP)
    assert gradient[0] == pytest.approx([math.exp(9.9)], rel=2e-6)


def surrogate(logprob: float, old: float, advantage: float) -> float:
    """The loss of one token in double precision, written out independently."""
    ratio = math.exp(logprob - old)
    return -min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage)


@pytest.mark.parametrize(
    ("logprob", "old", "advantage"),
    [(-0.5, -0.55, 0.7), (-0.5, -0.45, -0.3), (-2.0, -2.5, -1.1), (-1.9, -1.2, 0.4)],
)
def test_gradient_of_an_ordinary_token_is_the_double_precision_difference_quotient(
    logprob: float, old: float, advantage: float
) -> None:
    step = 1e-5
    upper = surrogate(logprob + step, old, advantage)
    lower = surrogate(logprob - step, old, advantage)
    expected = (upper - lower) / (2 * step)
    assert expected != 0
    _, gradient = loss_and_gradient([[logprob]], [[old]], [[advantage]], [[True]])
    assert gradient[0] == pytest.approx([expected], rel=1e-5)


def test_loss_is_the_mean_over_tokens_then_over_sequences() -> None:
    # Ratio 1 everywhere: sequence means -(1 + 3) / 2 and -(-4), over two sequences.
    zeros = [[0.0, 0.0], [0.0, 0.0]]
    loss, _ = loss_and_gradient(
        zeros, zeros, [[1.0, 3.0], [-4.0, 99.0]], [[True, True], [True, False]], num_sequences=2
    )
    assert loss == pytest.approx((-2.0 + 4.0) / 2)


def test_a_fully_masked_sequence_has_mean_zero() -> None:
    means = sequence_mean(
        torch.tensor([[5.0, 7.0], [1.0, 2.0]]), torch.tensor([[False, False], [True, True]])
    )
    assert means.tolist() == [0.0, 1.5]


def test_a_masked_token_has_no_gradient() -> None:
    _, gradient = loss_and_gradient([[-1.0, -1.0]], [[-1.1, -1.1]], [[1.0, 1.0]], [[True, False]])
    assert gradient[0][0] == pytest.approx(-math.exp(0.1), rel=1e-5)
    assert gradient[0][1] == 0.0


# Regression: torch.where keeps a bad padding value out of the sum, but backward
# multiplies it by a zero gradient, and 0 * inf is nan: inputs have to be masked before the ratio.
@pytest.mark.parametrize("settings", [PRE_CLIP, NO_PRE_CLIP], ids=["pre_clip", "no_pre_clip"])
@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("where", ["logprobs", "old", "advantages"])
def test_inf_or_nan_in_padding_changes_neither_loss_nor_gradient(
    where: str, value: float, settings: AlgorithmSection
) -> None:
    inputs = {"logprobs": [[-1.0, -1.0]], "old": [[-1.1, -1.0]], "advantages": [[1.0, 1.0]]}

    def result() -> tuple[float, list[list[float]]]:
        logprobs, old, advantages = inputs.values()
        return loss_and_gradient(logprobs, old, advantages, [[True, False]], settings)

    clean = result()
    inputs[where][0][1] = value
    assert result() == clean


def test_inf_or_nan_in_padding_leaves_the_metrics_finite() -> None:
    bad = torch.tensor([[-1.0, math.nan]])
    _, metrics = policy_loss(
        bad, bad, torch.tensor([[1.0, math.inf]]), torch.tensor([[True, False]]), 1, PRE_CLIP
    )
    assert {name: metric.value for name, metric in metrics.items()} == {
        Name.POLICY_RATIO_MEAN: 1.0,
        Name.POLICY_RATIO_MAX: 1.0,
        Name.POLICY_CLIP_SHARE: 0.0,
        Name.POLICY_PRE_CLIP_SHARE: 0.0,
    }


def test_metrics_count_clipped_and_pre_clipped_tokens() -> None:
    # Ratios: 1000 (pre-clipped, A < 0: not clipped), 1.5 (A > 0: clipped), 0.5 (A < 0: clipped),
    # 0.5 (A > 0: not clipped).
    logprobs = torch.tensor([[0.0, math.log(1.5), math.log(0.5), math.log(0.5)]])
    old = torch.tensor([[-10.0, 0.0, 0.0, 0.0]])
    advantages = torch.tensor([[-1.0, 1.0, -1.0, 1.0]])
    _, metrics = policy_loss(logprobs, old, advantages, torch.ones(1, 4, dtype=bool), 1, PRE_CLIP)
    assert metrics[Name.POLICY_CLIP_SHARE].value == 0.5
    assert metrics[Name.POLICY_PRE_CLIP_SHARE].value == 0.25
    assert metrics[Name.POLICY_RATIO_MAX].value == pytest.approx(1000, rel=1e-5)
    assert metrics[Name.POLICY_RATIO_MEAN].value == pytest.approx(1002.5 / 4, rel=1e-5)
    assert metrics[Name.POLICY_RATIO_MEAN].weight == 4


@pytest.mark.parametrize(
    ("settings", "clipped", "pre_clipped"),
    [
        (AlgorithmSection(), 0, 2),
        (AlgorithmSection(clip_epsilon=0.1), 2, 2),
        (AlgorithmSection(clip_epsilon=0.1, clip_epsilon_high=0.2), 1, 2),
        (AlgorithmSection(pre_clip_min=1e-5), 0, 1),
        (AlgorithmSection(pre_clip_max=1e5), 0, 1),
        (AlgorithmSection(pre_clip_min=None), 0, 1),
        (AlgorithmSection(pre_clip_max=None), 0, 1),
        (AlgorithmSection(pre_clip_min=0.87, pre_clip_max=1.12), 0, 4),
    ],
)
def test_the_shares_are_counted_by_the_recipes_bounds(
    settings: AlgorithmSection, clipped: int, pre_clipped: int
) -> None:
    ratios = [1.15, 0.85, 1e4, 1e-4]
    logprobs = torch.tensor([[-20 + math.log(ratio) for ratio in ratios]])
    advantages = torch.tensor([[1.0, -1.0, -1.0, 1.0]])
    mask = torch.ones(1, 4, dtype=torch.bool)
    _, metrics = policy_loss(logprobs, torch.full((1, 4), -20.0), advantages, mask, 1, settings)
    assert metrics[Name.POLICY_CLIP_SHARE].value == clipped / 4
    assert metrics[Name.POLICY_PRE_CLIP_SHARE].value == pre_clipped / 4


def test_a_micro_batch_of_padding_only_has_loss_zero_and_no_metrics() -> None:
    ones = torch.ones(1, 2)
    loss, metrics = policy_loss(ones, ones, ones, torch.zeros(1, 2, dtype=bool), 1, PRE_CLIP)
    assert loss.item() == 0.0
    assert metrics == {}


Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Log-probs, old log-probs, advantages [B, T] and the mask of each row's own length."""
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (len(lengths), max(lengths))
    logprobs = -3 * torch.rand(shape, generator=generator)
    old = logprobs + torch.randn(shape, generator=generator) * draw(st.sampled_from([0.1, 1.0]))
    advantages = torch.randn(shape, generator=generator)
    mask = torch.arange(shape[1])[None] < torch.tensor(lengths)[:, None]
    return logprobs, old, advantages, mask


@given(batches(), st.data())
def test_any_split_into_micro_batches_and_ranks_adds_up_to_the_same_loss(
    batch: Batch, data: st.DataObject
) -> None:
    num_sequences = len(batch[0])
    whole, _ = policy_loss(*batch, num_sequences, PRE_CLIP)
    part_of_row = data.draw(
        st.lists(st.integers(0, 3), min_size=num_sequences, max_size=num_sequences)
    )
    summed = 0.0
    for part in set(part_of_row):
        rows = [row for row, owner in enumerate(part_of_row) if owner == part]
        longest = int(batch[3][rows].sum(dim=1).max())  # a micro-batch pads to its own longest row
        logprobs, old, advantages, mask = (tensor[rows, :longest] for tensor in batch)
        summed += policy_loss(logprobs, old, advantages, mask, num_sequences, PRE_CLIP)[0].item()
    assert summed == pytest.approx(whole.item(), rel=1e-5, abs=1e-6)


@given(batches(), st.integers(1, 4))
def test_padding_columns_change_neither_loss_nor_metrics(batch: Batch, num_columns: int) -> None:
    loss, metrics = policy_loss(*batch, 3, PRE_CLIP)
    logprobs, old, advantages, mask = (
        torch.nn.functional.pad(tensor, (0, num_columns), value=value)
        for tensor, value in zip(batch, (-50.0, 3.0, 7.0, False), strict=True)
    )
    padded_loss, padded_metrics = policy_loss(logprobs, old, advantages, mask, 3, PRE_CLIP)
    assert padded_loss.item() == pytest.approx(loss.item(), rel=1e-6, abs=1e-7)
    assert padded_metrics == metrics
