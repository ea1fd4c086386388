"""Estimates with their 95 % intervals, for terminal, ``compare`` and page: one method for all of them.

The method is for means of bounded values in clusters: rows of one group rise and fall together, and so
do the samples of one row, whose value is their mean already. Three steps, each for a known failure of
simpler ones (docs/intervals.md has the simulation):

- The variance is that of the mean over clusters, with Student's quantile for few of them.
- What was not seen is not impossible: each limit adds half a cluster on its side. It lies as far from
  the mean as the farthest one that was seen, moved on towards the end of the range where few clusters,
  or a small share of them, make up the spread. So an interval has a width when all rows are right.
- The limit is a quantile of the Beta distribution with that mean and variance: within the range, and
  skewed near its ends. For yes or no it is close to the mid-p variant of Clopper and Pearson's.

Below them is the one form in which terminal, summary and page show shares and intervals as text.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

TAIL = 0.025
NORMAL_QUANTILE = 1.959963984540054
UNSEEN = 0.5  # clusters
# Found by simulation: how many clusters are few, and which share of them is small.
FEW, RARE = 0.5, 0.05
SAME = 1e-12  # residuals of equal values differ by rounding only
LEAST_COUNT = 1e-3  # of a Beta distribution whose variance is as large as any


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def share_interval(
    values: Sequence[float] | np.ndarray, groups: Sequence[str] | Sequence[int] | None = None
) -> Interval:
    """Returns the mean over items [N] of values from 0 to 1, with its interval over groups of items.

    Items of one group (pairs of one question) rise and fall together: taken one by one they would make
    the interval too narrow. None: every item is a group of its own.
    """
    return bounded_interval(values, groups, 0.0, 1.0)


def difference_interval(values: Sequence[float], groups: Sequence[str]) -> Interval:
    """Returns the mean of differences of two shares, from -1 to 1, with its interval over groups."""
    return bounded_interval(values, groups, -1.0, 1.0)


def bounded_interval(
    values: Sequence[float] | np.ndarray,
    groups: Sequence[str] | Sequence[int] | None,
    lowest: float,
    highest: float,
) -> Interval:
    """Returns the mean of values between ``lowest`` and ``highest``, with its interval over groups."""
    groups = range(len(values)) if groups is None else groups
    assert len(values) == len(groups)
    indices = np.unique(groups, return_inverse=True)[1]
    scaled = (np.asarray(values, dtype=np.float64) - lowest) / (highest - lowest)
    sums = np.bincount(indices, weights=scaled)
    limits = mean_intervals(sums, np.bincount(indices).astype(np.float64))
    value, low, high = (lowest + (highest - lowest) * float(limit) for limit in limits)
    return Interval(value, low, high)


def mean_intervals(
    sums: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the mean over items of values from 0 to 1 and both ends of its interval, each [...].

    ``sums`` [..., G] of the values in each cluster, ``sizes`` [..., G] how many they are; a cluster of
    size 0 is none. One cluster alone tells nothing of the spread: its interval is from 0 to 1.
    """
    num_clusters = (sizes > 0).sum(axis=-1)
    mean = sums.sum(axis=-1) / sizes.sum(axis=-1)
    mean_size = sizes.sum(axis=-1) / num_clusters
    residuals = (sums - mean[..., None] * sizes) / mean_size[..., None]
    residuals = np.where(np.abs(residuals) > SAME, residuals, 0.0)
    # Of a cluster of mean size: small ones scatter more, and large ones count for more.
    larger = np.maximum(sizes / mean_size[..., None], 1.0)
    farthest = np.abs(residuals / larger).max(axis=-1)
    low = lower_limit(mean, residuals, num_clusters, farthest)
    return mean, low, 1 - lower_limit(1 - mean, -residuals, num_clusters, farthest)


def lower_limit(
    mean: np.ndarray, residuals: np.ndarray, num_clusters: np.ndarray, farthest: np.ndarray
) -> np.ndarray:
    """Returns the lower ends [...] of the intervals of means [...].

    ``residuals`` are [..., G]; ``farthest`` [...] is how far from the mean they lie at most.
    """
    # These take a while to import, which `r1reward --help` need not wait for.
    from scipy.special import betaincinv, stdtrit

    nearest = np.minimum(farthest, mean)
    unseen = -nearest - doubt(residuals, num_clusters) * (mean - nearest)
    weight = num_clusters + UNSEEN
    shift = UNSEEN * unseen / weight
    spread = (residuals**2).sum(axis=-1) + UNSEEN * unseen**2
    student = stdtrit(np.maximum(num_clusters - 1, 1), 1 - TAIL) / NORMAL_QUANTILE
    variance = (spread / weight - shift**2) / (weight + 1) * student**2
    centre = np.clip(mean + shift, 0.0, 1.0)
    ratio = np.divide(
        centre * (1 - centre), variance, out=np.zeros_like(variance), where=variance > 0
    )
    count = np.maximum(ratio - 1, LEAST_COUNT)
    limit = np.minimum(betaincinv(centre * count, (1 - centre) * count, TAIL), mean)
    return np.where((mean <= 0) | (num_clusters < 2), 0.0, limit)


def doubt(residuals: np.ndarray, num_clusters: np.ndarray) -> np.ndarray:
    """Returns from 0 to 1 [...] how little the residuals [..., G] tell of the worst that can be.

    1 where there are none. The spread is made up of as many clusters as would give it were they equal: if
    these are few, or a small share of all, worse ones may well be out there.
    """
    squares, fourths = (residuals**2).sum(axis=-1), (residuals**4).sum(axis=-1)
    num_equal = np.divide(squares**2, fourths, out=np.zeros_like(squares), where=fourths > 0)
    few = FEW / np.maximum(num_equal, FEW)
    rare = np.exp(-num_equal / (RARE * num_clusters))
    doubted: np.ndarray = np.minimum(few + rare, 1.0)
    return doubted


def all_right(right: Sequence[bool], groups: Sequence[str]) -> np.ndarray:
    """Returns 1.0 for each group [G] whose items are all right, else 0.0; the mean is Acc+.

    The groups are in the order of their names.
    """
    assert len(right) == len(groups)
    names, indices = np.unique(groups, return_inverse=True)
    flags = np.ones(len(names))
    np.minimum.at(flags, indices, np.asarray(right, dtype=np.float64))
    return flags


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
