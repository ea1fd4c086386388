"""Token rewards and returns by hand."""

import numpy as np
import pytest

from r1reward.algorithm.kl import k1, returns_to_go, token_rewards


def test_k1_is_the_difference_of_log_probs_and_may_be_negative() -> None:
    kl = k1(np.array([-0.5, -2.0]), np.array([-1.5, -1.75]))
    assert kl.tolist() == [1.0, -0.25]


def test_kl_is_charged_at_every_token_and_the_reward_paid_at_the_last() -> None:
    rewards = token_rewards(2.0, np.array([1.0, -0.5, 0.25]), beta=0.5)
    assert rewards.tolist() == [-0.5, 0.25, 1.875]


def test_without_kl_only_the_last_token_is_rewarded() -> None:
    assert token_rewards(1.5, np.array([3.0, -7.0]), beta=0.0).tolist() == [0.0, 1.5]


def test_a_single_token_carries_reward_and_kl() -> None:
    assert token_rewards(1.0, np.array([0.5]), beta=0.1).tolist() == [pytest.approx(0.95)]


def test_token_rewards_leave_the_kl_array_alone() -> None:
    kl = np.array([1.0, 2.0])
    token_rewards(5.0, kl, beta=1.0)
    assert kl.tolist() == [1.0, 2.0]


def test_return_is_the_undiscounted_sum_of_later_rewards() -> None:
    assert returns_to_go(np.array([-0.5, 0.25, 1.875])).tolist() == [1.625, 2.125, 1.875]


def test_without_kl_every_token_returns_the_whole_reward() -> None:
    returns = returns_to_go(token_rewards(1.5, np.zeros(4), beta=0.0))
    assert returns.tolist() == [1.5, 1.5, 1.5, 1.5]


def test_float32_log_probs_do_not_round_the_reward() -> None:
    rewards = token_rewards(0.1, np.zeros(2, dtype=np.float32), beta=1e-3)
    assert float(rewards[-1]) == 0.1
