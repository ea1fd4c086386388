"""Every switch of the policy loss: values by hand, gradients against double precision, padding."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from r1reward.algorithm.advantage import advantages_from_returns
from r1reward.algorithm.batch import BatchSize
from r1reward.algorithm.correction import rollout_weights
from r1reward.algorithm.loss import policy_loss, token_losses
from r1reward.learner_sections import AlgorithmSection, NoCorrection, SequenceMask, TokenIs
from r1reward.metrics import Metrics, merge

PAPER = AlgorithmSection()
NO_PRE_CLIP = AlgorithmSection(pre_clip_min=None, pre_clip_max=None)
CLIP_HIGHER = AlgorithmSection(clip_epsilon_high=0.5)
DUAL_CLIP = AlgorithmSection(dual_clip=3)
SEQUENCE = AlgorithmSection(ratio="sequence")
CISPO = AlgorithmSection(ratio="cispo")
TOKEN_MEAN = AlgorithmSection(loss_mean="token")
KL_K2 = AlgorithmSection(kl_beta=0.5, kl_placement="loss", kl_estimator="k2")
KL_K3 = AlgorithmSection(kl_beta=0.5, kl_placement="loss", kl_estimator="k3")
EVERYTHING = AlgorithmSection(
    clip_epsilon_high=0.5,
    dual_clip=2,
    ratio="sequence",
    loss_mean="token",
    kl_beta=0.1,
    kl_placement="loss",
    kl_estimator="k3",
)
SWITCHES = {
    "no_pre_clip": NO_PRE_CLIP,
    "clip_higher": CLIP_HIGHER,
    "dual_clip": DUAL_CLIP,
    "sequence": SEQUENCE,
    "cispo": CISPO,
    "token_mean": TOKEN_MEAN,
    "kl_k2": KL_K2,
    "kl_k3": KL_K3,
    "everything": EVERYTHING,
}
every_switch = pytest.mark.parametrize("settings", SWITCHES.values(), ids=SWITCHES.keys())
LOSSES = {"paper": PAPER, **SWITCHES}
every_loss = pytest.mark.parametrize("settings", LOSSES.values(), ids=LOSSES.keys())

NONE = NoCorrection(type="none")
TOKEN_IS = TokenIs(type="token_is")
SEQUENCE_MASK = SequenceMask(type="sequence_mask")
CORRECTIONS = {"none": NONE, "token_is": TOKEN_IS, "sequence_mask": SEQUENCE_MASK}
every_correction = pytest.mark.parametrize(
    "correction", CORRECTIONS.values(), ids=CORRECTIONS.keys()
)
Correction = NoCorrection | TokenIs | SequenceMask


@dataclass(frozen=True)
class Tokens:
    """A micro-batch as lists of rows [B][T], all of one length; ``lengths`` says what is real."""

    logprobs: list[list[float]]
    old: list[list[float]]
    advantages: list[list[float]]
    reference: list[list[float]]
    rollout: list[list[float]]
    lengths: list[int]

    @property
    def size(self) -> BatchSize:
        return BatchSize(len(self.lengths), sum(self.lengths))


# Log-ratios 0.3, -0.7, 9.9 (outside Pre-Clip), 0.1 | 1.8, -0.05; between old and rollout the second
# row differs by 1.2 and 0.9, so that its mean is above ln 2, and the first has one token above it.
TOKENS = Tokens(
    logprobs=[[-0.5, -1.0, -0.1, -2.0], [-0.2, -1.5, -7.0, -7.0]],
    old=[[-0.8, -0.3, -10.0, -2.1], [-2.0, -1.45, -3.0, -3.0]],
    advantages=[[0.7, -0.4, -1.2, 1.5], [-0.9, 0.6, 5.0, 5.0]],
    reference=[[-0.9, -0.8, -0.4, -2.6], [-0.5, -1.0, -2.0, -2.0]],
    rollout=[[-0.7, -0.4, -10.9, -2.2], [-3.2, -2.35, -1.0, -1.0]],
    lengths=[4, 2],
)


PER_TOKEN = ("logprobs", "old", "advantages", "reference", "rollout")


def run_loss(
    tokens: Tokens,
    settings: AlgorithmSection,
    correction: Correction = NONE,
    size: BatchSize | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[float, list[list[float]], Metrics]:
    """The loss as the learner computes it: value, gradient of the log-probs, metrics."""
    old_BT = torch.tensor(tokens.old, dtype=dtype)
    rollout_BT = torch.tensor(tokens.rollout, dtype=dtype)
    reference_BT = torch.tensor(tokens.reference, dtype=dtype)
    logprobs_BT = torch.tensor(tokens.logprobs, dtype=dtype, requires_grad=True)
    mask_BT = torch.arange(old_BT.shape[1])[None] < torch.tensor(tokens.lengths)[:, None]
    weights_BT, correction_metrics = rollout_weights(old_BT, rollout_BT, mask_BT, correction)
    loss, metrics = policy_loss(
        logprobs_BT,
        old_BT,
        torch.tensor(tokens.advantages, dtype=dtype),
        mask_BT,
        (size or tokens.size).denominator(settings.loss_mean),
        settings,
        reference_logprobs_BT=reference_BT if settings.kl_in_loss else None,
        weights_BT=weights_BT,
    )
    loss.backward()
    assert logprobs_BT.grad is not None
    return loss.item(), logprobs_BT.grad.tolist(), metrics | correction_metrics


def clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def double_loss(
    tokens: Tokens,
    logprobs: list[list[float]],
    settings: AlgorithmSection,
    correction: Correction = NONE,
) -> float:
    """The equations of docs/algorithm.md in double precision, written out without the library.

    ``tokens.logprobs`` stand wherever a gradient stops, ``logprobs`` everywhere else.
    """
    low, high = settings.clip_bounds
    bounds = (math.log(settings.pre_clip_min or 1e-300), math.log(settings.pre_clip_max or 1e300))
    summed = 0.0
    for row, length in enumerate(tokens.lengths):
        at = range(length)
        old, rollout = tokens.old[row], tokens.rollout[row]
        logs = [clip(logprobs[row][t] - old[t], *bounds) for t in at]
        stopped = [clip(tokens.logprobs[row][t] - old[t], *bounds) for t in at]
        gaps = [old[t] - rollout[t] for t in at]
        losses = []
        for t in at:
            ratio = math.exp(sum(logs) / length if settings.ratio == "sequence" else logs[t])
            advantage = tokens.advantages[row][t]
            gain = min(ratio * advantage, clip(ratio, low, high) * advantage)
            if settings.dual_clip is not None and advantage < 0:
                gain = max(gain, settings.dual_clip * advantage)
            if settings.ratio == "cispo":
                gain = clip(math.exp(stopped[t]), low, high) * advantage * (logs[t] + old[t])
            loss = -gain
            if isinstance(correction, TokenIs):
                loss *= min(math.exp(gaps[t]), correction.cap)
            if isinstance(correction, SequenceMask):
                mean = math.exp(sum(gaps) / length)
                loss *= 1.0 if correction.low <= mean <= correction.high else 0.0
            if settings.kl_in_loss:
                d = logprobs[row][t] - tokens.reference[row][t]
                kl = d * d / 2 if settings.kl_estimator == "k2" else math.exp(-d) - 1 + d
                loss += settings.kl_beta * kl
            losses.append(loss)
        summed += sum(losses) if settings.loss_mean == "token" else sum(losses) / length
    return summed / tokens.size.denominator(settings.loss_mean)


def difference_quotients(
    tokens: Tokens, settings: AlgorithmSection, correction: Correction
) -> list[list[float]]:
    step = 1e-5
    gradient: list[list[float]] = []
    for row in range(len(tokens.logprobs)):
        gradient.append([])
        for t in range(len(tokens.logprobs[row])):
            values = []
            for sign in (1, -1):
                moved = [list(r) for r in tokens.logprobs]
                moved[row][t] += sign * step
                values.append(double_loss(tokens, moved, settings, correction))
            gradient[row].append((values[0] - values[1]) / (2 * step))
    return gradient


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


def one_sequence(ratios: list[float], advantages: list[float], old: float = -3.0) -> Tokens:
    count = len(ratios)
    return Tokens(
        logprobs=[[old + math.log(ratio) for ratio in ratios]],
        old=[[old] * count],
        advantages=[advantages],
        reference=[[-1.0] * count],
        rollout=[[old] * count],
        lengths=[count],
    )


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
    assert metrics["policy/clip_share"].value == 0.5


def test_dual_clip_bounds_the_loss_of_a_penalised_token() -> None:
    loss, gradient, metrics = run_loss(one_sequence([6.0], [-2.0]), DUAL_CLIP)
    assert [loss, gradient[0][0]] == [pytest.approx(6.0), 0.0]  # 3 * 2 instead of 6 * 2
    assert metrics["policy/dual_clip_share"].value == 1.0
    loss, gradient, metrics = run_loss(one_sequence([2.5], [-2.0]), DUAL_CLIP)
    assert [loss, gradient[0][0]] == [pytest.approx(5.0, rel=1e-5), pytest.approx(5.0, rel=1e-5)]
    assert metrics["policy/dual_clip_share"].value == 0.0


def test_the_bound_of_dual_clip_is_the_recipes() -> None:
    wide = AlgorithmSection(dual_clip=7)
    loss, gradient, metrics = run_loss(one_sequence([6.0, 8.0], [-2.0, -2.0]), wide)
    assert loss == pytest.approx((6 * 2 + 7 * 2) / 2, rel=1e-5)
    assert gradient[0] == [pytest.approx(6.0, rel=1e-5), 0.0]
    assert metrics["policy/dual_clip_share"].value == 0.5


def test_dual_clip_does_not_touch_a_favoured_token() -> None:
    tokens = one_sequence([6.0, 1.1], [2.0, 2.0])
    loss, gradient, metrics = run_loss(tokens, DUAL_CLIP)
    assert (loss, gradient) == run_loss(tokens, PAPER)[:2]
    assert metrics["policy/dual_clip_share"].value == 0.0


def test_the_sequence_ratio_is_the_geometric_mean_and_its_gradient_reaches_every_token() -> None:
    # Ratios 4 and 1: their geometric mean is 2. The loss is -2 * A, and d 2 / d log pi_t is 2 / 2.
    loss, gradient, metrics = run_loss(one_sequence([4.0, 1.0], [-3.0, -3.0]), SEQUENCE)
    assert loss == pytest.approx(6.0, rel=1e-6)
    assert gradient[0] == pytest.approx([3.0, 3.0], rel=1e-6)
    assert metrics["policy/ratio_max"].value == pytest.approx(2.0, rel=1e-6)
    assert metrics["policy/ratio_mean"].value == pytest.approx(2.0, rel=1e-6)


def test_the_sequence_ratio_is_clipped_as_one() -> None:
    # The first token alone would be clipped, the second would not.
    loss, gradient, metrics = run_loss(one_sequence([4.0, 1.0], [3.0, 3.0]), SEQUENCE)
    assert loss == pytest.approx(-3.6)
    assert gradient == [[0.0, 0.0]]
    assert metrics["policy/clip_share"].value == 1.0


def test_cispo_keeps_the_gradient_that_clipping_would_take() -> None:
    loss, gradient, metrics = run_loss(one_sequence([1.5, 0.5], [2.0, -2.0]), CISPO)
    logs = [-3 + math.log(1.5), -3 + math.log(0.5)]
    assert loss == pytest.approx((-1.2 * 2 * logs[0] + 0.8 * 2 * logs[1]) / 2, rel=1e-6)
    assert gradient[0] == pytest.approx([-1.2 * 2 / 2, 0.8 * 2 / 2])
    assert metrics["policy/clip_share"].value == 1.0
    assert run_loss(one_sequence([1.5, 0.5], [2.0, -2.0]), PAPER)[1] == [[0.0, 0.0]]


def test_cispo_clips_a_weight_whatever_the_sign_of_its_advantage() -> None:
    _, gradient, metrics = run_loss(one_sequence([1.5, 0.5], [-2.0, 2.0]), CISPO)
    assert gradient[0] == pytest.approx([1.2 * 2 / 2, -0.8 * 2 / 2])
    assert metrics["policy/clip_share"].value == 1.0


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
    assert metrics["policy/kl_in_loss"].value == pytest.approx(kl, rel=1e-5)
    assert metrics["policy/kl_in_loss"].weight == 2


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
    assert metrics["policy/kl_in_loss"].value == pytest.approx(1 / 32)


def test_kl_in_the_reward_leaves_the_loss_alone() -> None:
    in_reward = AlgorithmSection(kl_beta=0.5, kl_estimator="k3")
    assert run_loss(TOKENS, in_reward) == run_loss(TOKENS, PAPER)


# The golden numbers of the paper, for every ratio ---------------------------------------------

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


# Where no gradient may be ---------------------------------------------------------------------


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
