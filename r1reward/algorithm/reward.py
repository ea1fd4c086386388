"""The reward of a trace (paper, section 4.2): Result * (1 + w_c * Consistency) + w_f * Format."""

from collections.abc import Sequence
from dataclasses import replace

from r1reward.recipe.sections import RewardSection
from r1reward.types import JudgeWord, Order, Reward, ScoredRollout, Slot, Verdict

CONSISTENCY: dict[str, dict[JudgeWord, float | None]] = {
    "signed": {"match": 1.0, "mismatch": -1.0, "undecided": 0.0, "abstain": None, "skipped": None},
    "binary": {"match": 1.0, "mismatch": 0.0, "undecided": 0.0, "abstain": None, "skipped": None},
}


def is_right(verdict: Verdict, label: Slot) -> bool:
    """Returns whether the choice is the label. An answer that could not be read is wrong; it never
    earns a reward.
    """
    return verdict.choice is not None and verdict.choice == label


def score(verdict: Verdict, label: Slot, judge_word: JudgeWord, settings: RewardSection) -> Reward:
    """Returns the reward and its parts.

    Consistency multiplies the result, so the judge's word on a wrong answer changes nothing. A judge
    that abstained leaves the term out: the answer then earns what an undecided one earns.
    """
    result = 1.0 if is_right(verdict, label) else 0.0
    form = 1.0 if verdict.well_formed else 0.0
    consistency = CONSISTENCY[settings.consistency_range][judge_word]
    factor = 1.0 + settings.consistency_weight * (consistency or 0.0)
    reward = result * factor + settings.format_weight * form
    return Reward(reward, result, consistency, form, judge_word)


def reward_positions(rollouts: Sequence[ScoredRollout], weight: float) -> list[ScoredRollout]:
    """Returns rollouts whose reward has w_p * result * the partner's result added; the partner is the
    same sample in the other order.

    Ours: a judge that is right in both orders of a pair has not guessed by slot. Every rollout needs
    its partner in the batch, as ``rollout.both_orders`` asks for them.
    """
    results = {sample_key(scored, other=False): scored.reward.result for scored in rollouts}
    rewarded = []
    for scored in rollouts:
        position = scored.reward.result * results[sample_key(scored, other=True)]
        total = scored.reward.total + weight * position
        reward = replace(scored.reward, total=total, position=position)
        rewarded.append(replace(scored, reward=reward))
    return rewarded


def sample_key(scored: ScoredRollout, *, other: bool) -> tuple[str, Order, int]:
    """Returns what a rollout is a sample of: the stored pair, in its order or in the other, and which
    one.
    """
    request = scored.rollout.request
    swapped = (request.prompt.order == "swapped") != other
    order: Order = "swapped" if swapped else "stored"
    return request.prompt.stored_pair.pair_id, order, request.sample_index
