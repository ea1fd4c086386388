"""Voting with every vote weighted by its confidence, the probability of the answer that was written.

The rules are those of ``voting``: K samples balanced over both orders, an odd K the mean over both
splits, a tie half, a row without a vote wrong. Sums of weights have no closed formula, so subsets are
listed: all of an order's where there are no more than ``NUM_SUBSETS`` (pools of up to 8 an order for
every K, and any pool that K uses up), else that many seeded ones, the first samples of the same
shuffles for every K and row. Every subset of one order meets every subset of the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.items import Item
from r1reward.evaluation.voting.votes import answers_by_item, vote_splits
from r1reward.types import Order, Slot

NUM_SUBSETS = 100
SAME = 1e-9  # sums of the same weights in another order differ by rounding only


@dataclass(frozen=True)
class WeightedVotes:
    """One weight a sample, by order: positive for the right response, negative for the wrong one.

    An unreadable sample weighs 0.
    """

    key: str
    stored: tuple[float, ...]
    swapped: tuple[float, ...]


def weighted_votes(
    items: Sequence[Item], answers: Sequence[Answer], *, pooled: bool = False
) -> list[WeightedVotes] | None:
    """Returns the weights of every item that was asked, in the order of the items.

    ``pooled`` takes all samples as of one order, like ``votes.pool_orders``. None if any readable
    answer has no confidence: votes with and without weight cannot be counted together.
    """
    if any(answer.choice is not None and answer.confidence is None for answer in answers):
        return None
    rows = []
    for item, given in answers_by_item(items, answers):
        orders: dict[Order, list[float]] = {"stored": [], "swapped": []}
        for answer in sorted(given, key=lambda answer: answer.sample_key):
            orders["stored" if pooled else answer.order].append(weight(answer, item.pair.preferred))
        rows.append(WeightedVotes(item.key, tuple(orders["stored"]), tuple(orders["swapped"])))
    return rows


def weight(answer: Answer, label: Slot) -> float:
    """Returns the weight of a vote: its confidence, negative if it is wrong, 0 if it is unreadable."""
    if answer.response is None or answer.confidence is None:
        return 0.0
    return answer.confidence if answer.response == label else -answer.confidence


def weighted_score(row: WeightedVotes, num_votes: int, seed: int = 0) -> float:
    """Returns what weighted voting@K is expected to score. No pool may be smaller than its share of K."""
    splits = vote_splits(num_votes, bool(row.stored), bool(row.swapped))
    return sum(split_score(row, *split, seed) for split in splits) / len(splits)


def split_score(row: WeightedVotes, num_stored: int, num_swapped: int, seed: int) -> float:
    """Returns the score of weighted votes among samples of each order."""
    stored = np.array(row.stored)[subsets(len(row.stored), num_stored, seed)]
    swapped = np.array(row.swapped)[subsets(len(row.swapped), num_swapped, seed)]
    margins = np.add.outer(stored.sum(axis=1), swapped.sum(axis=1))
    voted = np.logical_or.outer(stored.any(axis=1), swapped.any(axis=1))
    tied = (np.abs(margins) < SAME) & voted
    return float((margins >= SAME).mean() + tied.mean() / 2)


@lru_cache
def subsets(num_samples: int, num_drawn: int, seed: int) -> np.ndarray:
    """Returns the indices [S, num_drawn] of subsets: all of them if they are few, else seeded ones."""
    if comb(num_samples, num_drawn) <= NUM_SUBSETS:
        listed = list(combinations(range(num_samples), num_drawn))
        return np.array(listed, dtype=np.int64).reshape(len(listed), num_drawn)
    return shuffles(num_samples, seed)[:, :num_drawn]


@lru_cache
def shuffles(num_samples: int, seed: int) -> np.ndarray:
    """Returns seeded permutations [NUM_SUBSETS, num_samples] of the indices."""
    indices = np.tile(np.arange(num_samples), (NUM_SUBSETS, 1))
    return np.random.default_rng(seed).permuted(indices, axis=1)
