"""What a micro-batch adds to the policy loss of the whole batch, from its samples and log-probs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from r1reward.algorithm.batch import BatchSize
from r1reward.algorithm.correction import rollout_weights
from r1reward.algorithm.loss import policy_loss
from r1reward.engines.padding import pad_arrays, pad_rows
from r1reward.metrics import Metrics, Name, maximum, mean
from r1reward.recipe.components import LearnerSettings
from r1reward.types import TrainingSample


def policy_loss_share(
    settings: LearnerSettings,
    samples: Sequence[TrainingSample],
    logprobs_BT: torch.Tensor,
    entropies_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    batch_size: BatchSize,
) -> tuple[torch.Tensor, Metrics]:
    """The share of the loss, with its gradient, and the metrics of the micro-batch.

    B samples, T tokens of the longest response; ``mask_BT`` tells which of them are real.
    """
    algorithm = settings.algorithm
    old_logprobs_BT = torch.where(
        pad_rows([s.old_logprobs is None for s in samples], mask_BT),
        logprobs_BT.detach(),
        pad_arrays([s.old_logprobs for s in samples], mask_BT),
    )
    rollout_BT = pad_arrays([s.rollout_logprobs for s in samples], mask_BT)
    weights_BT, correction_metrics = rollout_weights(
        old_logprobs_BT, rollout_BT, mask_BT, settings.rollout_correction
    )
    reference_BT = None
    if algorithm.kl_in_loss:
        assert all(s.reference_logprobs is not None for s in samples)
        reference_BT = pad_arrays([s.reference_logprobs for s in samples], mask_BT)
    loss, metrics = policy_loss(
        logprobs_BT,
        old_logprobs_BT,
        pad_arrays([s.advantages for s in samples], mask_BT),
        mask_BT,
        batch_size.denominator(algorithm.loss_mean),
        algorithm,
        reference_logprobs_BT=reference_BT,
        weights_BT=weights_BT,
    )
    from_engine = algorithm.old_logprobs == "rollout"
    learner_BT = logprobs_BT.detach() if from_engine else old_logprobs_BT
    gap = (learner_BT - rollout_BT)[mask_BT]
    entropy = entropies_BT[mask_BT]
    metrics |= correction_metrics | {
        Name.POLICY_ENTROPY: mean(entropy.mean().item(), len(entropy)),
        Name.POLICY_BEHAVIOUR_KL: mean(-gap.mean().item(), len(gap)),
        Name.POLICY_LOGPROB_GAP_MEAN: mean(gap.abs().mean().item(), len(gap)),
        Name.POLICY_LOGPROB_GAP_MAX: maximum(gap.abs().max().item()),
    }
    return loss, metrics
