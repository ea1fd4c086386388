"""The step's advantages: from the rewards of a whole rollout batch to a number for every token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r1reward.algorithm.advantage import Advantages, advantages_from_returns
from r1reward.algorithm.baseline import relative_rewards
from r1reward.algorithm.kl import ESTIMATORS, returns_to_go, token_rewards
from r1reward.metrics import Metrics, mean, total
from r1reward.recipe.learner_sections import AlgorithmSection
from r1reward.types import ScoredRollout


def batch_advantages(
    algorithm: AlgorithmSection,
    rollouts: Sequence[ScoredRollout],
    old: Sequence[np.ndarray | None],
    reference: Sequence[np.ndarray | None],
) -> tuple[Advantages, Metrics]:
    """Per-token returns from rewards and reference KL, normalised and filtered."""
    metrics: Metrics = {}
    if algorithm.needs_reference:
        estimate = ESTIMATORS[algorithm.kl_estimator]
        kls = []
        for old_R, reference_R in zip(old, reference, strict=True):
            assert old_R is not None, "a reference run computes every old log-prob"
            assert reference_R is not None
            kls.append(estimate(old_R, reference_R))
        metrics["policy/reference_kl"] = mean([float(x) for kl_R in kls for x in kl_R])
    else:
        kls = [np.zeros(len(s.rollout.response_token_ids)) for s in rollouts]
    beta = algorithm.kl_beta if algorithm.kl_placement == "reward" else 0.0
    counted = [True] * len(rollouts)
    if algorithm.mask_truncated:  # DAPO's overlong filtering, arXiv 2503.14476
        counted = [scored.rollout.finish_reason != "length" for scored in rollouts]
        metrics["advantage/num_masked"] = total(counted.count(False))
    groups = [scored.rollout.request.prompt.prompt_id for scored in rollouts]
    totals = [scored.reward.total for scored in rollouts]
    rewards = relative_rewards(totals, groups, counted, algorithm)
    returns = [
        returns_to_go(token_rewards(reward, kl_R, beta))
        for reward, kl_R in zip(rewards, kls, strict=True)
    ]
    advantages = advantages_from_returns(
        returns,
        normalize=algorithm.normalizes_batch,
        filter_sigma=algorithm.filter_sigma,
        filter_rule=algorithm.filter_rule,
        counted=counted,
    )
    return advantages, metrics
