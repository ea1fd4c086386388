"""Is one model better than another? Tests on the same items, and intervals over groups of items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1reward.evaluation.both_orders import Interval, PairOutcome
from r1reward.types import Order


@dataclass(frozen=True)
class McNemar:
    """Items that only one of two models got right, and the exact two-sided p-value."""

    num_gained: int
    num_lost: int
    p_value: float


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> McNemar:
    """McNemar's exact test on items that are right (True) or wrong, in the same order in both."""
    changes = [int(new) - int(old) for old, new in zip(before, after, strict=True)]
    num_gained, num_lost = changes.count(1), changes.count(-1)
    return McNemar(num_gained, num_lost, sign_test(num_gained, num_lost))


def sign_test(num_gained: int, num_lost: int) -> float:
    """min(1, 2 * P(X <= smaller count)) for X ~ Binomial(gained + lost, 1/2).

    In whole numbers up to the last division, so it is exact for any number of items.
    """
    num_changed, smaller = num_gained + num_lost, min(num_gained, num_lost)
    ways = 0
    term = 1  # C(num_changed, k)
    for k in range(smaller + 1):
        ways += term
        term = term * (num_changed - k) // (k + 1)
    return min(1.0, 2 * ways / (1 << num_changed))


def mcnemar_by_order(
    before: Sequence[PairOutcome], after: Sequence[PairOutcome]
) -> dict[Order, McNemar]:
    """One test an order. The two orders of a pair are not independent, so they are never pooled.

    Raises ``ValueError`` if the pairs differ.
    """
    if [outcome.pair_id for outcome in before] != [outcome.pair_id for outcome in after]:
        raise ValueError("the two evaluations are of different pairs and cannot be compared")
    return {
        "stored": mcnemar([o.right_stored for o in before], [o.right_stored for o in after]),
        "swapped": mcnemar([o.right_swapped for o in before], [o.right_swapped for o in after]),
    }


def group_indices(groups: Sequence[str]) -> np.ndarray:
    """The number of each item's group [N], counted in the order of first appearance."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
    return np.array([numbers[group] for group in groups], dtype=np.int64)


def all_right(right: Sequence[bool], groups: Sequence[str]) -> np.ndarray:
    """1.0 for each group [G] whose items are all right, else 0.0; the mean is Acc+."""
    assert len(right) == len(groups)
    flags = np.ones(len(set(groups)))
    np.minimum.at(flags, group_indices(groups), np.asarray(right, dtype=np.float64))
    return flags


def bootstrap_by_group(
    values: Sequence[float] | np.ndarray, groups: Sequence[str], num_samples: int, seed: int
) -> Interval:
    """Mean over items [N] with its 95 % percentile interval, resampling whole groups.

    Items of one group (pairs of one question) rise and fall together; resampling them one by one
    would make the interval too narrow. Differences of two models work the same way.
    """
    assert len(values) == len(groups)
    indices = group_indices(groups)
    sums = np.bincount(indices, weights=np.asarray(values, dtype=np.float64))
    sizes = np.bincount(indices)
    # A resample only matters by how often it drew each (sum, size).
    kinds, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(sizes), counts / len(sizes), size=num_samples)
    means = (draws @ kinds[:, 0]) / (draws @ kinds[:, 1])
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(sums.sum() / sizes.sum()), float(low), float(high))
