"""Voting@K and any-correct@K: the whole curve over K, exactly, from one pool of samples.

A vote is for a response, not for the slot it was shown in. The K samples of a row come half from
each order; an odd K is the mean over giving its extra one to either order (8 + 7 and 7 + 8), as K = 1
is the mean over both orders. Alternating by row instead would let a model that always names slot 1
score anything from 0 to 1 where labels go with row numbers. A row asked in one order only gives all
K from that order. Instead of drawing subsets, the probability of every vote count is computed
(hypergeometric): no seed, no sampling noise.

The rules: more votes wins; a tie counts half, what a fair coin would earn; an unreadable sample is
no vote; a row without any vote is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np

from r1reward.evaluation.intervals import Interval, difference_interval, share_interval
from r1reward.evaluation.voting.votes import Ballots, RowVotes, vote_splits
from r1reward.evaluation.voting.weighted import WeightedVotes, weighted_score
from r1reward.types import Slot

NO_GAIN = Interval(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class VoteOdds:
    """Probabilities over which K samples are drawn: right, tied, and without any vote."""

    right: float
    tied: float
    no_vote: float

    @property
    def score(self) -> float:
        """What the vote is expected to score: a tie counts half."""
        return self.right + self.tied / 2


@dataclass(frozen=True)
class VotingPoint:
    """One K of the curve; intervals are over groups of rows. ``chance`` is a coin's any-correct,
    1 - 2^-K: already 99.997 % at K = 15.

    ``gain`` is by how much the vote beats one sample, paired by row. ``weighted`` is the accuracy of
    votes weighted by their confidence, None where that is unknown.
    """

    num_votes: int
    accuracy: Interval
    gain: Interval
    weighted: Interval | None
    tied_share: float
    no_vote_share: float
    any_correct: Interval
    chance: float


@lru_cache(maxsize=10_000)
def margin_odds(ballots: Ballots, label: Slot, num_drawn: int) -> tuple[np.ndarray, float]:
    """Returns the odds of right minus wrong votes when drawing without replacement, and of drawing no
    vote.

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
    odds.setflags(write=False)  # it is cached
    return odds, comb(ballots.unreadable, num_drawn) / all_draws


def split_odds(row: RowVotes, num_stored: int, num_swapped: int) -> VoteOdds:
    """Returns the outcome of a majority vote among samples drawn from each order's pool."""
    if num_stored > row.stored.num_samples or num_swapped > row.swapped.num_samples:
        raise ValueError(
            f"row {row.key} has {row.stored.num_samples} samples in the stored and "
            f"{row.swapped.num_samples} in the swapped order; this vote needs {num_stored} and "
            f"{num_swapped}: sample more, or lower K"
        )
    stored, none_stored = margin_odds(row.stored, row.label, num_stored)
    swapped, none_swapped = margin_odds(row.swapped, row.label, num_swapped)
    margins = np.convolve(stored, swapped)
    centre = num_stored + num_swapped
    no_vote = none_stored * none_swapped
    tied = max(0.0, float(margins[centre]) - no_vote)  # a draw without votes has margin 0, too
    return VoteOdds(float(margins[centre + 1 :].sum()), tied, no_vote)


def vote_odds(row: RowVotes, num_votes: int) -> VoteOdds:
    """Returns the odds of voting@K on one row. With both orders it needs ceil(K / 2) samples of each."""
    has_stored, has_swapped = row.stored.num_samples > 0, row.swapped.num_samples > 0
    splits = vote_splits(num_votes, has_stored, has_swapped)
    odds = [split_odds(row, *split) for split in splits]
    return VoteOdds(
        sum(one.right for one in odds) / len(odds),
        sum(one.tied for one in odds) / len(odds),
        sum(one.no_vote for one in odds) / len(odds),
    )


def majority_score(row: RowVotes) -> float:
    """Returns the score of the vote of all samples a row has, whatever their orders: 1, 0, or a half
    for a tie.

    For rows that got no common number of samples, as in adaptive voting.
    """
    if row.votes_right == row.votes_wrong:
        return 0.5 if row.votes_right else 0.0
    return float(row.votes_right > row.votes_wrong)


def any_correct(row: RowVotes, num_votes: int) -> float:
    """Returns the probability that one of the K samples of a vote is right, without bias.

    None of k samples of n with c right ones is right with probability C(n - c, k) / C(n, k); the K come
    from both orders as those of ``vote_odds`` do.
    """
    has_stored, has_swapped = row.stored.num_samples > 0, row.swapped.num_samples > 0
    splits = vote_splits(num_votes, has_stored, has_swapped)
    missed = [
        none_right(row.stored, row.label, stored) * none_right(row.swapped, row.label, swapped)
        for stored, swapped in splits
    ]
    return 1 - sum(missed) / len(missed)


def none_right(ballots: Ballots, label: Slot, num_drawn: int) -> float:
    """Returns the probability that no sample of one order's pool is right when drawing some of it."""
    num_other = ballots.num_samples - ballots.votes_for(label)
    return comb(num_other, num_drawn) / comb(ballots.num_samples, num_drawn)


def default_vote_counts(num_samples: int) -> list[int]:
    """Returns the Ks of a curve: 1, 2, every odd number to 15, then odd ones by half more; K itself is
    last.
    """
    counts = [1, 2, *range(3, 16, 2)]
    while counts[-1] < num_samples:
        counts.append(counts[-1] * 3 // 2 | 1)
    return [*(count for count in counts if count < num_samples), num_samples]


def voting_curve(
    rows: Sequence[RowVotes],
    vote_counts: Sequence[int],
    weights: Sequence[WeightedVotes] | None = None,
) -> list[VotingPoint]:
    """Returns voting@K and any-correct@K for every K asked for. Raises ``ValueError`` if a pool is too
    small.

    ``weights`` are the same rows' votes with their confidences, if these are known.
    """
    assert weights is None or [row.key for row in rows] == [row.key for row in weights]
    groups = [row.group for row in rows]

    def interval(values: Sequence[float]) -> Interval:
        return share_interval(values, groups)

    single = [vote_odds(row, 1).score for row in rows]
    points = []
    for num_votes in vote_counts:
        odds = [vote_odds(row, num_votes) for row in rows]
        gains = [item.score - one for item, one in zip(odds, single, strict=True)]
        points.append(
            VotingPoint(
                num_votes=num_votes,
                accuracy=interval([item.score for item in odds]),
                # One vote is one sample: that difference is no estimate.
                gain=difference_interval(gains, groups) if num_votes > 1 else NO_GAIN,
                weighted=interval([weighted_score(w, num_votes) for w in weights])
                if weights
                else None,
                tied_share=sum(item.tied for item in odds) / len(odds),
                no_vote_share=sum(item.no_vote for item in odds) / len(odds),
                any_correct=interval([any_correct(row, num_votes) for row in rows]),
                chance=1 - 0.5**num_votes,
            )
        )
    return points
