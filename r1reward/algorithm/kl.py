"""KL to the base model, in the reward (paper, section 3) or in the loss (GRPO, arXiv 2402.03300).

The estimators are those of Schulman's note on approximating KL (joschu.net/blog/kl-approx.html), per
token, of the same shape as their arguments, NumPy arrays or tensors. With d = log pi - log pi_ref:

    k1 = d                       unbiased, may be negative; its gradient has expectation 0
    k2 = d^2 / 2                 biased; its gradient d * grad log pi is in expectation KL's own
    k3 = exp(-d) - 1 + d         unbiased, never negative; its gradient is that of KL(pi_ref | pi)

So in the reward, where nothing is differentiated, k1 is the natural one, and in the loss k2 is
(arXiv 2510.01555 compares them); k1 in the loss would do nothing on average and is refused. What is
said of gradients holds in expectation over tokens that pi itself has sampled.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

Array = Any  # np.ndarray or torch.Tensor, both arguments alike


def k1(logprobs: Array, reference_logprobs: Array) -> Array:
    """Returns log pi - log pi_ref."""
    return logprobs - reference_logprobs


def k2(logprobs: Array, reference_logprobs: Array) -> Array:
    """Returns (log pi - log pi_ref)^2 / 2."""
    return (logprobs - reference_logprobs) ** 2 / 2


def k3(logprobs: Array, reference_logprobs: Array) -> Array:
    """Returns pi_ref / pi - 1 - log(pi_ref / pi); expm1 keeps the small ones exact."""
    log_ratio = reference_logprobs - logprobs
    expm1 = torch.expm1 if isinstance(log_ratio, torch.Tensor) else np.expm1
    return expm1(log_ratio) - log_ratio


ESTIMATORS: Mapping[str, Callable[[Array, Array], Array]] = {"k1": k1, "k2": k2, "k3": k3}


def token_rewards(reward: float, kl: np.ndarray, beta: float) -> np.ndarray:
    """Returns -beta * KL at every token, the trace's reward added at the last one, shape [R]."""
    rewards = -beta * kl.astype(np.float64)
    rewards[-1] += reward
    return rewards


def returns_to_go(rewards: np.ndarray) -> np.ndarray:
    """Returns the undiscounted sum of the rewards from each token on, shape [R] (gamma = 1)."""
    return np.cumsum(rewards[::-1])[::-1]
