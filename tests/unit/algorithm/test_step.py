"""The step's advantages: what rewards, KL, groups and masks of a whole batch make of every token."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from r1reward.algorithm.advantage import Advantages
from r1reward.algorithm.step import batch_advantages
from r1reward.metrics import Name, numbers
from r1reward.recipe.learner_sections import AlgorithmSection
from r1reward.types import Reward, RolloutRequest, ScoredRollout, Verdict
from tests.fakes import make_pair, make_prompt, make_rollout


def scored(reward: float, num_tokens: int, question: int = 0, cut: bool = False) -> ScoredRollout:
    """A rollout of ``num_tokens`` tokens; a reward above 1 is that of a right answer."""
    request = RolloutRequest(make_prompt(make_pair(question)), 0, seed=0)
    rollout = replace(
        make_rollout(request, "text"),
        response_token_ids=tuple(range(num_tokens)),
        finish_reason="length" if cut else "stop",
    )
    result = 1.0 if reward > 1 else 0.0
    return ScoredRollout(
        rollout, Verdict("text", 1, True), Reward(reward, result, None, 0.5, "skipped")
    )


def advantages_of(
    rollouts: Sequence[ScoredRollout],
    old: Sequence[np.ndarray | None] | None = None,
    reference: Sequence[np.ndarray | None] | None = None,
    **settings: object,
) -> tuple[Advantages, dict[str, float]]:
    unknown = [None] * len(rollouts)
    advantages, metrics = batch_advantages(
        AlgorithmSection.model_validate(settings), rollouts, old or unknown, reference or unknown
    )
    return advantages, numbers(metrics)


def tokens(advantages: Advantages) -> list[list[float]]:
    return [values.tolist() for values in advantages.values]


def test_every_token_has_the_z_of_its_traces_reward() -> None:
    # Tokens 2, 2, 2, 0.5: mean 1.625, population sigma 1.5 * sqrt(3) / 4.
    advantages, metrics = advantages_of([scored(2.0, 3), scored(0.5, 1)])
    z = 1 / math.sqrt(3)
    assert tokens(advantages) == [pytest.approx([z] * 3), pytest.approx([-3 * z])]
    assert metrics[Name.ADVANTAGE_NUM_WRONG] == 1
    assert metrics[Name.ADVANTAGE_MIN] == pytest.approx(-3 * z)
    assert Name.POLICY_REFERENCE_KL not in metrics


def test_kl_in_the_reward_is_summed_from_each_token_on() -> None:
    old, reference = [np.array([-0.5, -0.5])], [np.array([-0.7, -0.9])]
    advantages, metrics = advantages_of(
        [scored(2.0, 2)], old, reference, normalize=False, filter_sigma=None, kl_beta=0.5
    )
    # k1 is 0.2 and 0.4: the last return is 2 - 0.2, the first one 2 - 0.2 - 0.1.
    assert tokens(advantages) == [pytest.approx([1.7, 1.8])]
    assert metrics[Name.POLICY_REFERENCE_KL] == pytest.approx(0.3)


def test_kl_in_the_loss_is_measured_and_leaves_the_reward_alone() -> None:
    old, reference = [np.array([-0.5, -0.5])], [np.array([-0.7, -0.9])]
    advantages, metrics = advantages_of(
        [scored(2.0, 2)],
        old,
        reference,
        normalize=False,
        filter_sigma=None,
        kl_beta=0.5,
        kl_placement="loss",
        kl_estimator="k2",
    )
    assert tokens(advantages) == [[2.0, 2.0]]
    assert metrics[Name.POLICY_REFERENCE_KL] == pytest.approx((0.02 + 0.08) / 2)


def test_a_cut_trace_is_masked_and_in_no_statistic() -> None:
    rollouts = [scored(2.0, 1), scored(0.5, 1), scored(0.0, 2, cut=True)]
    advantages, metrics = advantages_of(rollouts, mask_truncated=True)
    assert tokens(advantages) == [pytest.approx([1.0]), pytest.approx([-1.0]), [0.0, 0.0]]
    assert metrics[Name.ADVANTAGE_NUM_MASKED] == 1
    assert metrics[Name.ADVANTAGE_NUM_WRONG] == 1


def test_the_samples_of_a_prompt_are_one_group() -> None:
    rollouts = [scored(2.0, 1, 0), scored(2.0, 1, 1), scored(1.0, 1, 0), scored(2.0, 1, 1)]
    advantages, _ = advantages_of(
        rollouts, baseline="group_mean", normalize=False, filter_sigma=None
    )
    assert tokens(advantages) == [[0.5], [0.0], [-0.5], [0.0]]


def test_a_run_with_a_reference_needs_its_log_probs() -> None:
    with pytest.raises(AssertionError, match="computes its log-probs"):
        advantages_of([scored(2.0, 1)], [np.zeros(1)], None, kl_beta=0.1)
