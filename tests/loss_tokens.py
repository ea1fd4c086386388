"""Every switch of the policy loss as a recipe section, tokens that each of them changes, and the loss in
double precision, written out without the library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from r1reward.algorithm.batch import BatchSize
from r1reward.algorithm.correction import rollout_weights
from r1reward.algorithm.loss import policy_loss
from r1reward.metrics import Metrics
from r1reward.recipe.learner_sections import AlgorithmSection, NoCorrection, SequenceMask, TokenIs

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
