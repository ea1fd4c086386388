"""Group baselines by hand: GRPO's, RLOO's, and that of REINFORCE++-baseline."""

import math

import numpy as np
import pytest

from r1reward.algorithm.advantage import advantages_from_returns
from r1reward.algorithm.baseline import relative_rewards
from r1reward.recipe.learner_sections import AlgorithmSection

# Prompt a: mean 1, population spread sqrt((1 + 1/4 + 1/4 + 0) / 4). Prompt b: all alike.
REWARDS = [2.0, 1.5, 0.5, 0.5, 1.5, 1.0]
GROUPS = ["a", "b", "a", "a", "b", "a"]
ALL = [True] * 6
SPREAD = math.sqrt(0.375)


def relative(counted: list[bool] = ALL, **settings: object) -> list[float]:
    return relative_rewards(REWARDS, GROUPS, counted, AlgorithmSection.model_validate(settings))


def test_without_a_baseline_rewards_are_as_they_are() -> None:
    assert relative() == REWARDS


def test_the_group_mean_is_taken_off_each_prompts_samples() -> None:
    assert relative(baseline="group_mean") == [1.0, 0.0, -0.5, -0.5, 0.0, 0.0]


def test_grpo_divides_by_the_spread_of_the_prompts_rewards() -> None:
    expected = [1 / SPREAD, 0.0, -0.5 / SPREAD, -0.5 / SPREAD, 0.0, 0.0]
    assert relative(baseline="group_mean", normalize_scope="group") == pytest.approx(expected)


def test_leave_one_out_compares_with_the_others() -> None:
    # 2 - (0.5 + 0.5 + 1) / 3, 0.5 - (2 + 0.5 + 1) / 3, 1 - (2 + 0.5 + 0.5) / 3
    expected = [4 / 3, 0.0, -2 / 3, -2 / 3, 0.0, 0.0]
    assert relative(baseline="leave_one_out") == pytest.approx(expected)


def test_leave_one_out_over_the_spread_of_the_rewards_themselves() -> None:
    expected = [4 / 3 / SPREAD, 0.0, -2 / 3 / SPREAD, -2 / 3 / SPREAD, 0.0, 0.0]
    assert relative(baseline="leave_one_out", normalize_scope="group") == pytest.approx(expected)


def test_what_is_not_counted_is_in_no_baseline() -> None:
    counted = [False, True, True, True, False, True]
    # Prompt a without its 2: mean 2/3. Prompt b has one sample left, with nothing to compare.
    expected = [2.0, 0.0, -1 / 6, -1 / 6, 1.5, 1 / 3]
    assert relative(counted, baseline="group_mean") == pytest.approx(expected)
    others = [2.0, 0.0, 0.5 - 0.75, 0.5 - 0.75, 1.5, 0.5]
    assert relative(counted, baseline="leave_one_out") == pytest.approx(others)


def test_reinforce_pp_baseline_is_the_group_mean_and_then_the_batchs_normalisation() -> None:
    returns = [np.array([value]) for value in relative(baseline="group_mean")]
    advantages = advantages_from_returns(returns, normalize=True, filter_sigma=None)
    # 1, 0, -1/2, -1/2, 0, 0: mean 0, sigma sqrt(1.5 / 6) = 1/2
    values = [float(value[0]) for value in advantages.values]
    assert values == pytest.approx([2, 0, -1, -1, 0, 0], abs=1e-6)
