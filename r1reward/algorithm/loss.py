"""The policy loss: Pre-Clip, then PPO's clipped surrogate (paper, eq. 5 and 7), and its switches.

With the default settings this is StableReinforce; docs/algorithm.md has every equation. Shape
legend: B sequences, T positions of the response part. Everything is float32 here, whatever the
model's dtype: in bfloat16, -0.1 - (-10) is 9.875.
"""

import math

import torch

from r1reward.algorithm.kl import ESTIMATORS
from r1reward.metrics import Metrics, Name, maximum, mean
from r1reward.recipe.learner_sections import AlgorithmSection


def pre_clipped_log_ratio(
    logprobs_BT: torch.Tensor, old_logprobs_BT: torch.Tensor, settings: AlgorithmSection
) -> torch.Tensor:
    """Returns clip(log pi - log pi_old, ln min, ln max) [B, T]: the clip is before the exponential
    (paper, eq. 5).

    A token outside the bounds has its ratio at the bound and no gradient, and the exponential can
    neither overflow nor lose precision.
    """
    log_ratio_BT = logprobs_BT.float() - old_logprobs_BT.float()
    low, high = settings.pre_clip_min, settings.pre_clip_max
    if low is not None or high is not None:
        log_ratio_BT = log_ratio_BT.clamp(
            min=None if low is None else math.log(low), max=None if high is None else math.log(high)
        )
    return log_ratio_BT


def policy_ratio(
    log_ratio_BT: torch.Tensor, mask_BT: torch.Tensor | None, settings: AlgorithmSection
) -> torch.Tensor:
    """Returns each token's ratio, or that of its sequence (GSPO, arXiv 2507.18071), [B, T].

    The sequence's is the geometric mean over its response, the same at all of its tokens; its
    gradient reaches each of them with 1 / length. Without a mask every position counts.
    """
    if settings.ratio != "sequence":
        return log_ratio_BT.exp()
    mask_BT = torch.ones_like(log_ratio_BT, dtype=torch.bool) if mask_BT is None else mask_BT
    return sequence_mean(log_ratio_BT, mask_BT).exp()[:, None].expand(log_ratio_BT.shape)


def token_losses(
    logprobs_BT: torch.Tensor,
    old_logprobs_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    settings: AlgorithmSection,
    mask_BT: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns -min(ratio * A, clip(ratio, 1 - eps, 1 + eps_high) * A) for every token, [B, T].

    Dual clip (arXiv 1912.09729): where A < 0, at most -c * A. CISPO (MiniMax-M1, arXiv 2506.13585):
    -sg(clip(ratio)) * A * log pi, so that clipping takes no token's gradient; Pre-Clip still does.
    """
    log_ratio_BT = pre_clipped_log_ratio(logprobs_BT, old_logprobs_BT, settings)
    ratio_BT = policy_ratio(log_ratio_BT, mask_BT, settings)
    clipped_BT = ratio_BT.clamp(*settings.clip_bounds)
    if settings.ratio == "cispo":
        return -clipped_BT.detach() * advantages_BT * (log_ratio_BT + old_logprobs_BT.float())
    surrogate_BT = torch.minimum(ratio_BT * advantages_BT, clipped_BT * advantages_BT)
    if settings.dual_clip is not None:
        floored_BT = torch.maximum(surrogate_BT, settings.dual_clip * advantages_BT)
        surrogate_BT = torch.where(advantages_BT < 0, floored_BT, surrogate_BT)
    return -surrogate_BT


def sequence_mean(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Returns the mean over each sequence's response tokens, shape [B]; a fully masked sequence gives 0.

    Masked positions are replaced, not multiplied away: 0 * inf is nan.
    """
    kept_BT = torch.where(mask_BT, values_BT, torch.zeros_like(values_BT))
    return kept_BT.sum(dim=1) / mask_BT.sum(dim=1).clamp(min=1)


def batch_share(
    losses_BT: torch.Tensor, mask_BT: torch.Tensor, denominator: int, settings: AlgorithmSection
) -> torch.Tensor:
    """Returns the sum of the sequences' means, or of all tokens (DAPO, arXiv 2503.14476), over
    ``denominator``.
    """
    if settings.loss_mean == "token":
        return losses_BT.masked_fill(~mask_BT, 0.0).sum() / denominator
    return sequence_mean(losses_BT, mask_BT).sum() / denominator


def policy_loss(
    logprobs_BT: torch.Tensor,
    old_logprobs_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    denominator: int,
    settings: AlgorithmSection,
    *,
    reference_logprobs_BT: torch.Tensor | None = None,
    weights_BT: torch.Tensor | None = None,
) -> tuple[torch.Tensor, Metrics]:
    """Returns this micro-batch's share of the batch loss, and its metrics.

    ``denominator`` is the size of the whole train batch over all micro-batches and ranks, in sequences
    or, with ``loss_mean: token``, in response tokens, so the shares simply add up: the loss does not
    depend on how the batch was cut. The reference is read when KL is in the loss; ``weights_BT`` are
    the rollout correction's and weigh the surrogate alone, as in verl and TRL: a token that the policy
    gradient counts less, or not at all, is held to the base model as any other.
    """
    # Padding is neutralised before any arithmetic: in the backward pass 0 * inf is nan. Float32 comes
    # first, once: the gradients of surrogate and KL are added before they are rounded again.
    logprobs_BT = logprobs_BT.float().masked_fill(~mask_BT, 0.0)
    old_logprobs_BT = old_logprobs_BT.float().masked_fill(~mask_BT, 0.0)
    advantages_BT = advantages_BT.float().masked_fill(~mask_BT, 0.0)
    losses_BT = token_losses(logprobs_BT, old_logprobs_BT, advantages_BT, settings, mask_BT)
    with torch.no_grad():
        metrics = ratio_metrics(logprobs_BT, old_logprobs_BT, advantages_BT, mask_BT, settings)
    if weights_BT is not None:
        losses_BT = losses_BT * weights_BT.detach().float().masked_fill(~mask_BT, 0.0)
    if settings.kl_in_loss:
        assert reference_logprobs_BT is not None, "KL in the loss needs the reference's log-probs"
        reference_logprobs_BT = reference_logprobs_BT.float().masked_fill(~mask_BT, 0.0)
        kl_BT = ESTIMATORS[settings.kl_estimator](logprobs_BT, reference_logprobs_BT)
        losses_BT = losses_BT + settings.kl_beta * kl_BT
        if mask_BT.any():
            metrics[Name.POLICY_KL_IN_LOSS] = mean(kl_BT[mask_BT].mean().item(), int(mask_BT.sum()))
    return batch_share(losses_BT, mask_BT, denominator, settings), metrics


def ratio_metrics(
    logprobs_BT: torch.Tensor,
    old_logprobs_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    settings: AlgorithmSection,
) -> Metrics:
    """Returns metrics of the ratios that the loss uses. ``clip_share`` is of the tokens that PPO's clip
    silences; with CISPO, which silences none, of those with a clipped weight.
    """
    log_ratio = (logprobs_BT.float() - old_logprobs_BT.float())[mask_BT]
    if log_ratio.numel() == 0:
        return {}
    log_ratio_BT = pre_clipped_log_ratio(logprobs_BT, old_logprobs_BT, settings)
    ratio = policy_ratio(log_ratio_BT, mask_BT, settings)[mask_BT]
    advantages = advantages_BT[mask_BT]
    clip_low, clip_high = settings.clip_bounds
    both_signs = settings.ratio == "cispo"
    clipped = ((ratio > clip_high) & ((advantages > 0) | both_signs)) | (
        (ratio < clip_low) & ((advantages < 0) | both_signs)
    )
    low, high = settings.pre_clip_min or 0.0, settings.pre_clip_max or math.inf
    pre_clipped = (log_ratio > math.log(high)) | (log_ratio < (math.log(low) if low else -math.inf))
    count = log_ratio.numel()
    metrics = {
        Name.POLICY_RATIO_MEAN: mean(ratio.mean().item(), count),
        Name.POLICY_RATIO_MAX: maximum(ratio.max().item()),
        Name.POLICY_CLIP_SHARE: mean(clipped.float().mean().item(), count),
        Name.POLICY_PRE_CLIP_SHARE: mean(pre_clipped.float().mean().item(), count),
    }
    if settings.dual_clip is not None:
        dual_clipped = (ratio > settings.dual_clip) & (advantages < 0)
        metrics[Name.POLICY_DUAL_CLIP_SHARE] = mean(dual_clipped.float().mean().item(), count)
    return metrics
