"""Estimates with their intervals: percentile bootstraps over values, or over groups of them.

Below them is the one form in which terminal, summary and page show shares and intervals as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap(values: np.ndarray, num_samples: int, seed: int) -> Interval:
    """Returns the mean of ``values`` [N] with its 95 % percentile interval."""
    return bootstrap_by_group(values, range(len(values)), num_samples, seed)


def all_right(right: Sequence[bool], groups: Sequence[str]) -> np.ndarray:
    """Returns 1.0 for each group [G] whose items are all right, else 0.0; the mean is Acc+.

    The groups are in the order of their names.
    """
    assert len(right) == len(groups)
    names, indices = np.unique(groups, return_inverse=True)
    flags = np.ones(len(names))
    np.minimum.at(flags, indices, np.asarray(right, dtype=np.float64))
    return flags


def bootstrap_by_group(
    values: Sequence[float] | np.ndarray,
    groups: Sequence[str] | Sequence[int],
    num_samples: int,
    seed: int,
) -> Interval:
    """Returns the mean over items [N] with its 95 % percentile interval, resampling whole groups.

    Items of one group (pairs of one question) rise and fall together; resampling them one by one
    would make the interval too narrow. Differences of two models work the same way.
    """
    assert len(values) == len(groups)
    indices = np.unique(groups, return_inverse=True)[1]
    sums = np.bincount(indices, weights=np.asarray(values, dtype=np.float64))
    sizes = np.bincount(indices)
    # A resample only matters by how often it drew each (sum, size): no [samples, groups] gather.
    kinds, counts = np.unique(np.stack([sums, sizes], axis=1), axis=0, return_counts=True)
    generator = np.random.default_rng(seed)
    draws = generator.multinomial(len(sizes), counts / len(sizes), size=num_samples)
    means = (draws @ kinds[:, 0]) / (draws @ kinds[:, 1])
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(sums.sum() / sizes.sum()), float(low), float(high))


def percent(value: float | None) -> str:
    """Returns a share in per cent, or a dash where it was not measured."""
    return "-" if value is None else f"{100 * value:.1f} %"


def bounds(interval: Interval, sign: str = "") -> str:
    """Returns both ends of an interval in points. ``sign`` "+" shows the sign of positive ones, too."""
    return f"[{100 * interval.low:{sign}.1f}, {100 * interval.high:{sign}.1f}]"


def points(interval: Interval) -> str:
    """Returns a share with its interval: ``65.5 % [62.6, 68.5]``."""
    return f"{percent(interval.value)} {bounds(interval)}"


def bare_points(interval: Interval) -> str:
    """Returns a share with its interval for a table whose heading names the unit."""
    return f"{100 * interval.value:.1f} {bounds(interval)}"


def signed_points(interval: Interval) -> str:
    """Returns a difference of two shares with its interval: ``+3.1 [+0.5, +5.7]``."""
    return f"{100 * interval.value:+.1f} {bounds(interval, '+')}"
