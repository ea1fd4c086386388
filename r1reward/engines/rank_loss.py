"""What a micro-batch adds to the policy loss of the whole batch, from its samples and log-probs.

Shape legend: B samples of a micro-batch, R response tokens of one of them, T those of the longest.
"""

from collections.abc import Sequence

import numpy as np
import torch

from r1reward.algorithm.batch import BatchSize
from r1reward.algorithm.correction import rollout_weights
from r1reward.algorithm.loss import policy_loss
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

    ``mask_BT`` tells which tokens are real.
    """
    algorithm = settings.algorithm
    is_first_pass_B = torch.tensor([s.old_logprobs is None for s in samples], device=mask_BT.device)
    old_logprobs_BT = torch.where(
        is_first_pass_B[:, None],
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


def pad_arrays(arrays: Sequence[np.ndarray | None], mask_BT: torch.Tensor) -> torch.Tensor:
    """Arrays [R] as one float32 tensor [B, T] on the mask's device; None becomes zeros."""
    padded_BT = torch.zeros(mask_BT.shape, dtype=torch.float32)
    for row, array in enumerate(arrays):
        if array is not None:
            padded_BT[row, : len(array)] = torch.from_numpy(np.asarray(array, dtype=np.float32))
    return padded_BT.to(mask_BT.device)


def split_rows(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> list[np.ndarray]:
    """The real tokens of every row as an array [R]."""
    return [row[mask].float().cpu().numpy() for row, mask in zip(values_BT, mask_BT, strict=True)]
