"""The advantages of one step: from the rewards of its rollouts to what the loss sees of every token.

Shape legend: R response tokens of a rollout, each rollout with its own R.
"""

from collections.abc import Sequence

import numpy as np

from r1reward.algorithm.advantage import Advantages, advantage_metrics, advantages_from_returns
from r1reward.algorithm.baseline import relative_rewards
from r1reward.algorithm.kl import ESTIMATORS, returns_to_go, token_rewards
from r1reward.metrics import Metrics, Name, mean, total
from r1reward.recipe.learner_sections import AlgorithmSection
from r1reward.types import ScoredRollout


def batch_advantages(
    settings: AlgorithmSection,
    rollouts: Sequence[ScoredRollout],
    old_logprobs: Sequence[np.ndarray | None],
    reference_logprobs: Sequence[np.ndarray | None],
) -> tuple[Advantages, Metrics]:
    """Returns of every token from rewards and reference KL, normalised and filtered (paper, eq. 6).

    ``old_logprobs`` and ``reference_logprobs`` hold one array [R] a rollout, in the order of
    ``rollouts``. Both are read only where ``settings.needs_reference`` asks for the KL to the base
    model; elsewhere their entries may be None. The metrics describe the advantages, the KL and how many
    rollouts were masked.
    """
    metrics: Metrics = {}
    if settings.needs_reference:
        needed = [*old_logprobs, *reference_logprobs]
        assert all(logprobs_R is not None for logprobs_R in needed), (
            "a run with a reference computes its log-probs and every old one"
        )
        estimate = ESTIMATORS[settings.kl_estimator]
        kls = list(map(estimate, old_logprobs, reference_logprobs))
        metrics[Name.POLICY_REFERENCE_KL] = mean([float(kl) for kl_R in kls for kl in kl_R])
    else:
        kls = [np.zeros(len(scored.rollout.response_token_ids)) for scored in rollouts]
    beta = settings.kl_beta if settings.kl_placement == "reward" else 0.0
    counted = [True] * len(rollouts)
    if settings.mask_truncated:  # DAPO's overlong filtering, arXiv 2503.14476
        counted = [scored.rollout.finish_reason != "length" for scored in rollouts]
        metrics[Name.ADVANTAGE_NUM_MASKED] = total(counted.count(False))
    prompts = [scored.rollout.request.prompt.prompt_id for scored in rollouts]
    rewards = relative_rewards(
        [scored.reward.total for scored in rollouts], prompts, counted, settings
    )
    advantages = advantages_from_returns(
        [
            returns_to_go(token_rewards(reward, kl_R, beta))
            for reward, kl_R in zip(rewards, kls, strict=True)
        ],
        normalize=settings.normalizes_batch,
        filter_sigma=settings.filter_sigma,
        filter_rule=settings.filter_rule,
        counted=counted,
    )
    right = [scored.reward.result > 0 for scored in rollouts]
    return advantages, {**metrics, **advantage_metrics(advantages, right)}
