"""Voting@K and any-correct@K: the whole curve over K, exactly, from one pool of samples.

A vote is for a response, not for the slot it was shown in. The K samples of a pair come half from
each order; an odd K is the mean over giving its extra one to either order (8 + 7 and 7 + 8), as K = 1
is the mean over both orders. Alternating by row instead would let a model that always names slot 1
score anything from 0 to 1 where labels go with row numbers. Instead of drawing subsets, the
probability of every vote count is computed (hypergeometric): no seed, no sampling noise.

The rules: more votes wins; a tie counts half, what a fair coin would earn; an unreadable sample is
no vote; a row without any vote is wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from r1reward.evaluation.both_orders import Interval, bootstrap
from r1reward.types import Order, ScoredRollout, Slot


@dataclass(frozen=True)
class Ballots:
    """How the samples of one pair in one order voted, by stored response."""

    for_1: int
    for_2: int
    unreadable: int

    @property
    def num_samples(self) -> int:
        return self.for_1 + self.for_2 + self.unreadable

    def votes_for(self, response: Slot) -> int:
        return self.for_1 if response == 1 else self.for_2


@dataclass(frozen=True)
class VotePool:
    """All samples of one pair, by order, and the stored response that people preferred."""

    pair_id: str
    label: Slot
    stored: Ballots
    swapped: Ballots


@dataclass(frozen=True)
class VoteOdds:
    """Probabilities over which K samples are drawn: right, tied, and without any vote."""

    right: float
    tied: float
    no_vote: float

    @property
    def score(self) -> float:
        return self.right + self.tied / 2


@dataclass(frozen=True)
class VotingPoint:
    """One K of the curve; intervals are over pairs. ``chance`` is a coin's any-correct."""

    num_votes: int
    accuracy: Interval
    tied_share: float
    no_vote_share: float
    any_correct: Interval
    chance: float


def vote_pools(rollouts: Sequence[ScoredRollout]) -> list[VotePool]:
    """Count the votes of each pair, in the order in which pairs first appear.

    Raises ``ValueError`` if a pair was sampled in one order only.
    """
    by_prompt: dict[str, list[ScoredRollout]] = {}
    for scored in rollouts:
        by_prompt.setdefault(scored.rollout.request.prompt.prompt_id, []).append(scored)
    by_pair: dict[str, dict[Order, Ballots]] = {}
    labels: dict[str, Slot] = {}
    for samples in by_prompt.values():
        prompt = samples[0].rollout.request.prompt
        indices = {scored.rollout.request.sample_index for scored in samples}
        assert len(indices) == len(samples), "every sample of a prompt is a different one"
        pair = prompt.pair if prompt.order == "stored" else prompt.pair.swapped()
        pair_id = pair.pair_id
        labels[pair_id] = pair.preferred
        by_pair.setdefault(pair_id, {})[prompt.order] = count_votes(samples, prompt.order)
    for pair_id, orders in by_pair.items():
        if len(orders) != 2:
            raise ValueError(f"pair {pair_id} was sampled in one order only; voting needs both")
    return [
        VotePool(pair_id, labels[pair_id], orders["stored"], orders["swapped"])
        for pair_id, orders in by_pair.items()
    ]


def count_votes(samples: Sequence[ScoredRollout], order: Order) -> Ballots:
    """Slots as shown in ``order``, counted as votes for stored responses."""
    slots = Counter(scored.verdict.choice for scored in samples)
    first, second = (slots[1], slots[2]) if order == "stored" else (slots[2], slots[1])
    return Ballots(first, second, slots[None])


def margin_odds(ballots: Ballots, label: Slot, num_drawn: int) -> tuple[np.ndarray, float]:
    """Odds of right minus wrong votes when drawing without replacement, and of drawing no vote.

    The array [2 * num_drawn + 1] runs over margins from -num_drawn to num_drawn.
    """
    right, wrong = ballots.votes_for(label), ballots.votes_for(1 if label == 2 else 2)
    odds = np.zeros(2 * num_drawn + 1)
    all_draws = comb(ballots.num_samples, num_drawn)
    for num_right in range(min(right, num_drawn) + 1):
        for num_wrong in range(min(wrong, num_drawn - num_right) + 1):
            num_unreadable = num_drawn - num_right - num_wrong
            ways = (
                comb(right, num_right)
                * comb(wrong, num_wrong)
                * comb(ballots.unreadable, num_unreadable)
            )
            odds[num_drawn + num_right - num_wrong] += ways / all_draws
    return odds, comb(ballots.unreadable, num_drawn) / all_draws


def split_odds(pool: VotePool, num_stored: int, num_swapped: int) -> VoteOdds:
    """Outcome of a majority vote among samples drawn from each order's pool."""
    if num_stored > pool.stored.num_samples or num_swapped > pool.swapped.num_samples:
        raise ValueError(
            f"pair {pool.pair_id} has {pool.stored.num_samples} samples in the stored and "
            f"{pool.swapped.num_samples} in the swapped order; this vote needs {num_stored} and "
            f"{num_swapped}: sample more, or lower K"
        )
    stored, none_stored = margin_odds(pool.stored, pool.label, num_stored)
    swapped, none_swapped = margin_odds(pool.swapped, pool.label, num_swapped)
    margins = np.convolve(stored, swapped)
    centre = num_stored + num_swapped
    no_vote = none_stored * none_swapped
    tied = max(0.0, float(margins[centre]) - no_vote)  # a draw without votes has margin 0, too
    return VoteOdds(float(margins[centre + 1 :].sum()), tied, no_vote)


def vote_odds(pool: VotePool, num_votes: int) -> VoteOdds:
    """Voting@K of one pair, balanced over both orders. Needs ceil(K / 2) samples of each."""
    if num_votes < 1:
        raise ValueError(f"voting needs at least one vote, not {num_votes}")
    fewer, more = num_votes // 2, (num_votes + 1) // 2
    one, other = split_odds(pool, more, fewer), split_odds(pool, fewer, more)
    return VoteOdds(
        (one.right + other.right) / 2,
        (one.tied + other.tied) / 2,
        (one.no_vote + other.no_vote) / 2,
    )


def any_correct(pool: VotePool, num_drawn: int) -> float:
    """Probability that one of K samples is right: 1 - C(n - c, K) / C(n, K), unbiased for n >= K.

    The n samples are those of both orders together. Raises ``ValueError`` if there are fewer than K.
    """
    num_samples = pool.stored.num_samples + pool.swapped.num_samples
    if num_drawn > num_samples:
        raise ValueError(
            f"pair {pool.pair_id} has {num_samples} samples, fewer than K = {num_drawn}: "
            "sample more, or lower K"
        )
    num_right = pool.stored.votes_for(pool.label) + pool.swapped.votes_for(pool.label)
    return 1 - comb(num_samples - num_right, num_drawn) / comb(num_samples, num_drawn)


def chance_any_correct(num_drawn: int) -> float:
    """What a coin scores on any-correct@K: 1 - 2^-K, already 99.997 % at K = 15."""
    return 1 - 0.5**num_drawn


def voting_curve(
    pools: Sequence[VotePool], vote_counts: Sequence[int], num_bootstrap: int, seed: int = 0
) -> list[VotingPoint]:
    """Voting@K and any-correct@K for every K asked for. Raises ``ValueError`` if a pool is too small."""
    if not pools:
        raise ValueError("there are no votes to count")
    points = []
    for num_votes in vote_counts:
        odds = [vote_odds(pool, num_votes) for pool in pools]
        found = np.array([any_correct(pool, num_votes) for pool in pools])
        points.append(
            VotingPoint(
                num_votes=num_votes,
                accuracy=bootstrap(np.array([item.score for item in odds]), num_bootstrap, seed),
                tied_share=sum(item.tied for item in odds) / len(odds),
                no_vote_share=sum(item.no_vote for item in odds) / len(odds),
                any_correct=bootstrap(found, num_bootstrap, seed),
                chance=chance_any_correct(num_votes),
            )
        )
    return points
