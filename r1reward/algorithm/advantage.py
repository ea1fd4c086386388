"""Advantages: normalise over every response token of the batch, then filter (paper, eq. 6).

The whole rollout batch is here at once, so the statistics are global by construction: no rank
computes them from its own share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1reward.metrics import Metrics, last, mean, total

EPSILON = 1e-8


@dataclass(frozen=True)
class Advantages:
    """``values`` are what the loss sees, one array [R] a sequence; ``kept`` marks unfiltered tokens."""

    values: list[np.ndarray]
    kept: list[np.ndarray]


def standardize(values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """z = (A - mean) / (sigma + 1e-8) with population sigma over all tokens of the batch."""
    flat = np.concatenate(values).astype(np.float64)
    centre, spread = flat.mean(), flat.std()
    return [(value - centre) / (spread + EPSILON) for value in values]


def filter_outliers(values: Sequence[np.ndarray], sigma: float) -> list[np.ndarray]:
    """True where |z| <= sigma. What is outside gets advantage 0 but stays in every denominator."""
    return [np.abs(value) <= sigma for value in values]


def advantages_from_returns(
    returns: Sequence[np.ndarray], *, normalize: bool, filter_sigma: float | None
) -> Advantages:
    """Normalise first, filter second: the threshold is in units of the batch's own spread.

    With ``normalize`` off the filter still judges by z, and the raw return is what survives.
    """
    z = standardize(returns)
    values = z if normalize else [np.asarray(value, dtype=np.float64) for value in returns]
    if filter_sigma is None:
        kept = [np.ones(len(value), dtype=bool) for value in values]
    else:
        kept = filter_outliers(z, filter_sigma)
    filtered = [np.where(keep, value, 0.0) for value, keep in zip(values, kept, strict=True)]
    return Advantages(filtered, kept)


def advantage_metrics(advantages: Advantages, right: Sequence[bool]) -> Metrics:
    """Spread, filtered share, and how many of the wrong answers lost every token to the filter.

    When the share right passes 0.9 the 3-sigma rule removes every negative (z of a wrong answer is
    -sqrt(p / (1 - p))); ``filtered_wrong_share`` of 1 says that training has gone blind to errors.
    """
    flat = np.concatenate(advantages.values)
    kept = np.concatenate(advantages.kept)
    wrong = [keep for keep, ok in zip(advantages.kept, right, strict=True) if not ok]
    return {
        "advantage/mean": mean(float(flat.mean()), len(flat)),
        "advantage/std": last(float(flat.std())),
        "advantage/min": last(float(flat.min())),
        "advantage/max": last(float(flat.max())),
        "advantage/filtered_token_share": mean(float(1 - kept.mean()), len(kept)),
        "advantage/filtered_wrong_share": mean([float(not keep.any()) for keep in wrong]),
        "advantage/num_wrong": total(len(wrong)),
    }
