"""The supervised loss of the cold start: make given traces likely.

Shape legend: B sequences, T positions of the response part.
"""

import math

import torch

from r1reward.metrics import Metrics, Name, mean


def supervised_loss(
    logprobs_BT: torch.Tensor, mask_BT: torch.Tensor, num_tokens: int
) -> tuple[torch.Tensor, Metrics]:
    """Returns this micro-batch's share of the batch loss (mean of -log p over response tokens), and
    metrics.

    ``num_tokens`` counts the response tokens of the whole batch over all micro-batches and ranks,
    so the shares simply add up and every token counts once, however the batch was cut and however
    long the trace it is in. (The RL loss counts every sequence once.)

    ``supervised/loss`` is the same mean; its exponential is the perplexity.
    ``supervised/above_half_share`` is the share of tokens with a probability above 1/2: a lower
    bound of the greedy token accuracy that needs no second look at the logits.
    """
    # Padding is neutralised before any arithmetic: in the backward pass 0 * inf is nan.
    losses_BT = -logprobs_BT.float().masked_fill(~mask_BT, 0.0)
    loss = losses_BT.sum() / num_tokens
    losses = losses_BT.detach()[mask_BT]
    if losses.numel() == 0:
        return loss, {}
    above_half = (losses < math.log(2)).float()
    return loss, {
        Name.SUPERVISED_LOSS: mean(losses.mean().item(), losses.numel()),
        Name.SUPERVISED_ABOVE_HALF_SHARE: mean(above_half.mean().item(), losses.numel()),
    }
