"""Every switch of the policy loss: against double precision, by hand, however the batch is cut."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from r1reward.algorithm.loss import policy_loss
from r1reward.metrics import Name, merge
from r1reward.recipe.learner_sections import AlgorithmSection
from tests.loss_tokens import (
    CISPO,
    CLIP_HIGHER,
    CORRECTIONS,
    DUAL_CLIP,
    KL_K2,
    KL_K3,
    LOSSES,
    PAPER,
    PER_TOKEN,
    SEQUENCE,
    SEQUENCE_MASK,
    TOKEN_IS,
    TOKEN_MEAN,
    TOKENS,
    Correction,
    Tokens,
    difference_quotients,
    double_loss,
    every_correction,
    every_loss,
    every_switch,
    one_sequence,
    run_loss,
)


@every_loss
@every_correction
def test_loss_and_gradient_are_those_of_double_precision(
    settings: AlgorithmSection, correction: Correction
) -> None:
    loss, gradient, _ = run_loss(TOKENS, settings, correction)
    assert loss == pytest.approx(
        double_loss(TOKENS, TOKENS.logprobs, settings, correction), rel=1e-5
    )
    wanted = difference_quotients(TOKENS, settings, correction)
    for row, length in enumerate(TOKENS.lengths):
        assert gradient[row] == pytest.approx(wanted[row], rel=1e-5, abs=1e-7)
        assert all(value == 0 for value in gradient[row][length:])
    assert any(value != 0 for row in wanted for value in row)


@every_switch
def test_every_switch_changes_loss_and_gradient_of_these_tokens(settings: AlgorithmSection) -> None:
    plain, switched = run_loss(TOKENS, PAPER), run_loss(TOKENS, settings)
    assert abs(switched[0] - plain[0]) > 0.01
    assert switched[1] != plain[1]


@pytest.mark.parametrize("correction", [TOKEN_IS, SEQUENCE_MASK], ids=lambda c: c.type)
def test_every_correction_changes_loss_and_gradient_of_these_tokens(correction: Correction) -> None:
    plain, switched = run_loss(TOKENS, PAPER), run_loss(TOKENS, PAPER, correction)
    assert abs(switched[0] - plain[0]) > 0.01
    assert switched[1] != plain[1]


# By hand --------------------------------------------------------------------------------------


def test_clip_higher_lets_a_favoured_token_gain_up_to_its_own_bound() -> None:
    loss, gradient, _ = run_loss(one_sequence([1.4], [2.0]), CLIP_HIGHER)
    assert [loss, gradient[0][0]] == [pytest.approx(-2.8, rel=1e-5), pytest.approx(-2.8, rel=1e-5)]
    loss, gradient, _ = run_loss(one_sequence([1.6], [2.0]), CLIP_HIGHER)
    assert [loss, gradient[0][0]] == [pytest.approx(-3.0, rel=1e-5), 0.0]


def test_clip_higher_leaves_the_lower_bound_where_it_was() -> None:
    loss, gradient, _ = run_loss(one_sequence([0.7], [-2.0]), CLIP_HIGHER)
    assert [loss, gradient[0][0]] == [pytest.approx(1.6), 0.0]


def test_clip_higher_counts_by_its_own_bound() -> None:
    _, _, metrics = run_loss(one_sequence([1.4, 1.6], [2.0, 2.0]), CLIP_HIGHER)
    assert metrics[Name.POLICY_CLIP_SHARE].value == 0.5


def test_dual_clip_bounds_the_loss_of_a_penalised_token() -> None:
    loss, gradient, metrics = run_loss(one_sequence([6.0], [-2.0]), DUAL_CLIP)
    assert [loss, gradient[0][0]] == [pytest.approx(6.0), 0.0]  # 3 * 2 instead of 6 * 2
    assert metrics[Name.POLICY_DUAL_CLIP_SHARE].value == 1.0
    loss, gradient, metrics = run_loss(one_sequence([2.5], [-2.0]), DUAL_CLIP)
    assert [loss, gradient[0][0]] == [pytest.approx(5.0, rel=1e-5), pytest.approx(5.0, rel=1e-5)]
    assert metrics[Name.POLICY_DUAL_CLIP_SHARE].value == 0.0


def test_the_bound_of_dual_clip_is_the_recipes() -> None:
    wide = AlgorithmSection(dual_clip=7)
    loss, gradient, metrics = run_loss(one_sequence([6.0, 8.0], [-2.0, -2.0]), wide)
    assert loss == pytest.approx((6 * 2 + 7 * 2) / 2, rel=1e-5)
    assert gradient[0] == [pytest.approx(6.0, rel=1e-5), 0.0]
    assert metrics[Name.POLICY_DUAL_CLIP_SHARE].value == 0.5


def test_dual_clip_does_not_touch_a_favoured_token() -> None:
    tokens = one_sequence([6.0, 1.1], [2.0, 2.0])
    loss, gradient, metrics = run_loss(tokens, DUAL_CLIP)
    assert (loss, gradient) == run_loss(tokens, PAPER)[:2]
    assert metrics[Name.POLICY_DUAL_CLIP_SHARE].value == 0.0


def test_the_sequence_ratio_is_the_geometric_mean_and_its_gradient_reaches_every_token() -> None:
    # Ratios 4 and 1: their geometric mean is 2. The loss is -2 * A, and d 2 / d log pi_t is 2 / 2.
    loss, gradient, metrics = run_loss(one_sequence([4.0, 1.0], [-3.0, -3.0]), SEQUENCE)
    assert loss == pytest.approx(6.0, rel=1e-6)
    assert gradient[0] == pytest.approx([3.0, 3.0], rel=1e-6)
    assert metrics[Name.POLICY_RATIO_MAX].value == pytest.approx(2.0, rel=1e-6)
    assert metrics[Name.POLICY_RATIO_MEAN].value == pytest.approx(2.0, rel=1e-6)


def test_the_sequence_ratio_is_clipped_as_one() -> None:
    # The first token alone would be clipped, the second would not.
    loss, gradient, metrics = run_loss(one_sequence([4.0, 1.0], [3.0, 3.0]), SEQUENCE)
    assert loss == pytest.approx(-3.6)
    assert gradient == [[0.0, 0.0]]
    assert metrics[Name.POLICY_CLIP_SHARE].value == 1.0


def test_cispo_keeps_the_gradient_that_clipping_would_take() -> None:
    loss, gradient, metrics = run_loss(one_sequence([1.5, 0.5], [2.0, -2.0]), CISPO)
    logs = [-3 + math.log(1.5), -3 + math.log(0.5)]
    assert loss == pytest.approx((-1.2 * 2 * logs[0] + 0.8 * 2 * logs[1]) / 2, rel=1e-6)
    assert gradient[0] == pytest.approx([-1.2 * 2 / 2, 0.8 * 2 / 2])
    assert metrics[Name.POLICY_CLIP_SHARE].value == 1.0
    assert run_loss(one_sequence([1.5, 0.5], [2.0, -2.0]), PAPER)[1] == [[0.0, 0.0]]


def test_cispo_clips_a_weight_whatever_the_sign_of_its_advantage() -> None:
    _, gradient, metrics = run_loss(one_sequence([1.5, 0.5], [-2.0, 2.0]), CISPO)
    assert gradient[0] == pytest.approx([1.2 * 2 / 2, -0.8 * 2 / 2])
    assert metrics[Name.POLICY_CLIP_SHARE].value == 1.0


def test_the_token_mean_counts_tokens_where_the_sequence_mean_counts_sequences() -> None:
    # Ratio 1: token losses 4 | -1, -1, -1.
    tokens = Tokens(
        logprobs=[[-1.0] * 3] * 2,
        old=[[-1.0] * 3] * 2,
        advantages=[[-4.0, 9.0, 9.0], [1.0, 1.0, 1.0]],
        reference=[[-1.0] * 3] * 2,
        rollout=[[-1.0] * 3] * 2,
        lengths=[1, 3],
    )
    loss, gradient, _ = run_loss(tokens, PAPER)
    assert loss == pytest.approx((4 - 1) / 2)
    assert gradient[1] == pytest.approx([-1 / 6] * 3)
    loss, gradient, _ = run_loss(tokens, TOKEN_MEAN)
    assert loss == pytest.approx((4 - 3) / 4)
    assert gradient[0] == pytest.approx([1.0, 0.0, 0.0])
    assert gradient[1] == pytest.approx([-1 / 4] * 3)


@pytest.mark.parametrize(
    ("settings", "kl", "slope"),
    [(KL_K2, 0.25**2 / 2, 0.25), (KL_K3, math.exp(-0.25) - 1 + 0.25, 1 - math.exp(-0.25))],
    ids=["k2", "k3"],
)
def test_kl_in_the_loss_is_added_at_every_token_with_its_gradient(
    settings: AlgorithmSection, kl: float, slope: float
) -> None:
    # log pi - log pi_ref is -0.75 - (-1) = 0.25; advantage 0 leaves the KL alone.
    tokens = one_sequence([1.0, 1.0], [0.0, 0.0], old=-0.75)
    loss, gradient, metrics = run_loss(tokens, settings)
    assert loss == pytest.approx(0.5 * kl, rel=1e-5)
    assert gradient[0] == pytest.approx([0.5 * slope / 2] * 2, rel=1e-5)
    assert metrics[Name.POLICY_KL_IN_LOSS].value == pytest.approx(kl, rel=1e-5)
    assert metrics[Name.POLICY_KL_IN_LOSS].weight == 2


@pytest.mark.parametrize(
    ("correction", "gap", "weight"),
    [
        (TOKEN_IS, math.log(1.5), 1.5),
        (SEQUENCE_MASK, math.log(1.5), 1.0),
        (SEQUENCE_MASK, 5.0, 0.0),
    ],
    ids=["token_is", "kept", "masked"],
)
def test_the_correction_weighs_the_surrogate_and_leaves_kl_alone(
    correction: Correction, gap: float, weight: float
) -> None:
    # Ratio 1, A = -2, log pi - log pi_ref = 0.25: the surrogate is 2, and beta * k2 is 0.5 / 32.
    tokens = one_sequence([1.0], [-2.0], old=-0.75)
    tokens = replace(tokens, rollout=[[-0.75 - gap]])
    loss, gradient, metrics = run_loss(tokens, KL_K2, correction)
    assert loss == pytest.approx(2 * weight + 0.5 / 32, rel=1e-6)
    assert gradient[0] == pytest.approx([2 * weight + 0.5 * 0.25], rel=1e-6)
    assert metrics[Name.POLICY_KL_IN_LOSS].value == pytest.approx(1 / 32)


def test_kl_in_the_reward_leaves_the_loss_alone() -> None:
    in_reward = AlgorithmSection(kl_beta=0.5, kl_estimator="k3")
    assert run_loss(TOKENS, in_reward) == run_loss(TOKENS, PAPER)


# However the batch is cut -----------------------------------------------------------------------


@st.composite
def token_batches(draw: st.DrawFn) -> Tokens:
    lengths = draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (len(lengths), max(lengths))
    logprobs = -3 * torch.rand(shape, generator=generator)
    spread = draw(st.sampled_from([0.1, 1.0]))

    def near() -> list[list[float]]:
        moved = logprobs + spread * torch.randn(shape, generator=generator)
        return moved.tolist()  # type: ignore[no-any-return]

    advantages = torch.randn(shape, generator=generator)
    return Tokens(logprobs.tolist(), near(), advantages.tolist(), near(), near(), lengths)


def take(tokens: Tokens, rows: list[int]) -> Tokens:
    """Some rows, padded to their own longest."""
    lengths = [tokens.lengths[row] for row in rows]
    parts = {
        name: [getattr(tokens, name)[row][: max(lengths)] for row in rows] for name in PER_TOKEN
    }
    return Tokens(**parts, lengths=lengths)


@given(
    token_batches(),
    st.data(),
    st.sampled_from(list(LOSSES.values())),
    st.sampled_from(list(CORRECTIONS.values())),
)
def test_any_split_into_micro_batches_and_ranks_adds_up(
    tokens: Tokens, data: st.DataObject, settings: AlgorithmSection, correction: Correction
) -> None:
    whole, whole_gradient, whole_metrics = run_loss(tokens, settings, correction)
    count = len(tokens.lengths)
    part_of_row = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    summed = 0.0
    metrics = []
    for part in set(part_of_row):
        rows = [row for row, owner in enumerate(part_of_row) if owner == part]
        loss, gradient, measured = run_loss(take(tokens, rows), settings, correction, tokens.size)
        summed += loss
        metrics.append(measured)
        for row, values in zip(rows, gradient, strict=True):
            length = tokens.lengths[row]
            assert values[:length] == pytest.approx(whole_gradient[row][:length], rel=1e-5)
    assert summed == pytest.approx(whole, rel=1e-5, abs=1e-5)
    merged = merge(metrics)
    assert merged.keys() == whole_metrics.keys()
    for name, metric in whole_metrics.items():
        assert merged[name].value == pytest.approx(metric.value, rel=1e-5, abs=1e-6), name


def test_a_ratio_on_the_bound_of_the_clip_is_not_silenced() -> None:
    """Ratio 1/2 and 3/2 exactly, with clip bounds at 1/2 and 3/2: both keep their gradient."""
    settings = PAPER.model_copy(update={"clip_epsilon": 0.5})
    logprobs = torch.tensor([[math.log(0.5), math.log(1.5)]], requires_grad=True)
    assert logprobs.exp().tolist() == [[0.5, 1.5]]
    advantages, mask = torch.tensor([[-1.0, 1.0]]), torch.ones(1, 2, dtype=torch.bool)
    loss, metrics = policy_loss(logprobs, torch.zeros(1, 2), advantages, mask, 1, settings)
    loss.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [[pytest.approx(0.25), pytest.approx(-0.75)]]
    assert metrics[Name.POLICY_CLIP_SHARE].value == 0.0
