"""Group baselines: a trace's reward relative to the other samples of its prompt. Off in the paper.

``group_mean`` is GRPO's (DeepSeekMath, arXiv 2402.03300) and, with the batch's normalisation behind it,
that of REINFORCE++-baseline (arXiv 2501.03262); ``leave_one_out`` is RLOO's (arXiv 2402.14740).
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from r1reward.algorithm.advantage import EPSILON
from r1reward.recipe.learner_sections import AlgorithmSection


def relative_rewards(
    rewards: Sequence[float],
    groups: Sequence[str],
    counted: Sequence[bool],
    settings: AlgorithmSection,
) -> list[float]:
    """Returns one reward a trace, its group's baseline taken off; ``groups`` names each trace's prompt.

    With ``normalize_scope: group`` it is divided by the population spread of the group's rewards, as in
    GRPO. A group that all came out alike gives 0. Traces that are not counted are left as they are and
    are in no one's baseline.
    """
    relative = list(rewards)
    if settings.baseline == "none":
        return relative
    members: dict[str, list[int]] = defaultdict(list)
    for index, (group, counts) in enumerate(zip(groups, counted, strict=True)):
        if counts:
            members[group].append(index)
    for indices in members.values():
        group_G = np.array([rewards[index] for index in indices])
        centred_G = group_G - group_G.mean()
        if settings.baseline == "leave_one_out":
            # r - mean of the others. Alone, there is nothing to compare with.
            num_others = len(group_G) - 1
            centred_G = centred_G * len(group_G) / num_others if num_others else 0 * group_G
        if settings.normalize_scope == "group":
            centred_G = centred_G / (group_G.std() + EPSILON)
        for index, value in zip(indices, centred_G, strict=True):
            relative[index] = float(value)
    return relative
