"""KL in the reward (paper, section 3; estimator k1 of Schulman's note on approximating KL)."""

from __future__ import annotations

import numpy as np


def k1(logprobs: np.ndarray, reference_logprobs: np.ndarray) -> np.ndarray:
    """Per-token estimate log pi - log pi_ref, shape [R]. Unbiased, not always positive."""
    difference: np.ndarray = logprobs - reference_logprobs
    return difference


def token_rewards(reward: float, kl: np.ndarray, beta: float) -> np.ndarray:
    """-beta * KL at every token, the trace's reward added at the last one, shape [R]."""
    rewards = -beta * kl.astype(np.float64)
    rewards[-1] += reward
    return rewards


def returns_to_go(rewards: np.ndarray) -> np.ndarray:
    """Undiscounted sum of the rewards from each token on, shape [R] (gamma = 1)."""
    return np.cumsum(rewards[::-1])[::-1]
