"""Weights against the mismatch of rollout and learner: older weights, other kernels, other precision.

The loss takes its ratio against the learner's old log-probs, but the tokens were sampled by the
engine. What is missing is pi_old / pi_rollout; verl calls this rollout correction in its decoupled
mode (docs/algo/rollout_corr.md there; the three policies are those of arXiv 2110.00641).
``token_is`` is truncated importance sampling, ``sequence_mask`` rejection by the geometric mean.

Shape legend: B sequences, T positions of the response part. Everything here is a constant of the
loss: no gradient flows through a weight.
"""

import math

import torch

from r1reward.metrics import Metrics, Name, maximum, mean
from r1reward.recipe.learner_sections import NoCorrection, SequenceMask, TokenIs


def rollout_weights(
    old_logprobs_BT: torch.Tensor,
    rollout_logprobs_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    correction: NoCorrection | TokenIs | SequenceMask,
) -> tuple[torch.Tensor | None, Metrics]:
    """Returns the weights [B, T] of the tokens' surrogates, or None for weights of 1, and the metrics.

    Weights change no denominator: a masked sequence still counts as one.
    """
    if isinstance(correction, NoCorrection):
        return None, {}
    log_ratio_BT = old_logprobs_BT.detach().float() - rollout_logprobs_BT.float()
    log_ratio_BT = log_ratio_BT.masked_fill(~mask_BT, 0.0)
    if isinstance(correction, TokenIs):
        return token_weights(log_ratio_BT, mask_BT, correction.cap)
    return sequence_weights(log_ratio_BT, mask_BT, correction.low, correction.high)


def token_weights(
    log_ratio_BT: torch.Tensor, mask_BT: torch.Tensor, cap: float
) -> tuple[torch.Tensor, Metrics]:
    """Returns min(pi_old / pi_rollout, cap) for every token [B, T]; the cap is before the exponential.

    ``rollout_is_mean`` is of the weights, ``rollout_is_max`` of the ratios before the cap.
    """
    weights_BT = log_ratio_BT.clamp(max=math.log(cap)).exp()
    log_ratio = log_ratio_BT[mask_BT]
    count = log_ratio.numel()
    if count == 0:
        return weights_BT, {}
    capped = (log_ratio > math.log(cap)).float()
    return weights_BT, {
        Name.POLICY_ROLLOUT_IS_MEAN: mean(weights_BT[mask_BT].mean().item(), count),
        Name.POLICY_ROLLOUT_IS_MAX: maximum(log_ratio.max().double().exp().item()),
        Name.POLICY_ROLLOUT_IS_CAPPED_SHARE: mean(capped.mean().item(), count),
    }


def sequence_weights(
    log_ratio_BT: torch.Tensor, mask_BT: torch.Tensor, low: float, high: float
) -> tuple[torch.Tensor, Metrics]:
    """Returns 1 where exp(mean(log pi_old - log pi_rollout)) of the sequence is in [low, high], else 0,
    [B, T].

    ``rollout_is_mean`` and ``rollout_is_max`` are of these geometric means.
    """
    lengths_B = mask_BT.sum(dim=1)
    means_B = log_ratio_BT.sum(dim=1) / lengths_B.clamp(min=1)
    kept_B = (means_B >= math.log(low)) & (means_B <= math.log(high))
    weights_BT = kept_B[:, None].float().expand(log_ratio_BT.shape)
    real_B = lengths_B > 0
    count = int(real_B.sum())
    if count == 0:
        return weights_BT, {}
    ratios = means_B[real_B].double().exp()
    return weights_BT, {
        Name.POLICY_ROLLOUT_IS_MEAN: mean(ratios.mean().item(), count),
        Name.POLICY_ROLLOUT_IS_MAX: maximum(ratios.max().item()),
        Name.POLICY_ROLLOUT_MASKED_SHARE: mean(1 - kept_B[real_B].float().mean().item(), count),
    }
