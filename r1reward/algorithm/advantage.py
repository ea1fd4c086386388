"""Advantages: normalise over every response token of the batch, then filter (paper, eq. 6).

The whole rollout batch is here at once, so the statistics are global by construction: no rank
computes them from its own share.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1reward.metrics import Metrics, Name, last, mean, total
from r1reward.recipe.choices import FilterRule

EPSILON = 1e-8


@dataclass(frozen=True)
class Advantages:
    """``values`` are what the loss sees, one array [R] a sequence; ``kept`` marks unfiltered tokens.

    ``counted`` is False for a sequence that was masked whole: it is in no statistic.
    """

    values: list[np.ndarray]
    kept: list[np.ndarray]
    counted: list[bool]


def counted_tokens(values: Sequence[np.ndarray], counted: Sequence[bool]) -> np.ndarray:
    """Returns the tokens of the counted sequences, end to end, in float64; empty if there are none."""
    chosen = [value for value, counts in zip(values, counted, strict=True) if counts]
    flat: np.ndarray = np.concatenate([np.zeros(0), *chosen]).astype(np.float64)
    return flat


def standardize(
    values: Sequence[np.ndarray], counted: Sequence[bool] | None = None
) -> list[np.ndarray]:
    """Returns z = (A - mean) / (sigma + 1e-8) with population sigma over all tokens of the batch
    (paper, eq. 6).

    Sequences that are not ``counted`` are measured by the others' mean and sigma.
    """
    flat = counted_tokens(values, counted or [True] * len(values))
    centre, spread = flat.mean(), flat.std()
    return [(value - centre) / (spread + EPSILON) for value in values]


def filter_outliers(values: Sequence[np.ndarray], sigma: float) -> list[np.ndarray]:
    """Returns True where |z| <= sigma. Others get advantage 0 but stay in every denominator."""
    return [np.abs(value) <= sigma for value in values]


def filter_as_released(z: Sequence[np.ndarray], raw_mean: float, bound: float) -> list[np.ndarray]:
    """Returns the released code's filter with its fault: z is held against the mean of the raw returns
    +- 3.

    With the paper's reward it drops every wrong answer from about 68 % right on. For comparison only.
    """
    return [(value >= raw_mean - bound) & (value <= raw_mean + bound) for value in z]


def filter_sparing_signs(
    z: Sequence[np.ndarray], counted: Sequence[bool], sigma: float
) -> list[np.ndarray]:
    """Returns ``filter_outliers``, but a sign that would lose every token of the batch loses none.
    Ours.

    Above 90 % right the 3-sigma rule removes every wrong answer and training goes blind to errors;
    here they stay, and the caller clips them at sigma, so that no token weighs more than the rule allows.
    """
    kept = filter_outliers(z, sigma)
    flat = counted_tokens(z, counted)
    for sign in (-1, 1):
        sizes = sign * flat[sign * flat > 0]
        if len(sizes) and sizes.min() > sigma:
            kept = [keep | (sign * value > 0) for keep, value in zip(kept, z, strict=True)]
    return kept


def advantages_from_returns(
    returns: Sequence[np.ndarray],
    *,
    normalize: bool,
    filter_sigma: float | None,
    filter_rule: FilterRule = "sigma",
    counted: Sequence[bool] | None = None,
) -> Advantages:
    """Returns advantages, one array [R] a sequence. It normalises first and filters second: the
    threshold is in units of the batch's own spread.

    With ``normalize`` off the filter still judges by z, and the raw return is what survives. Sequences
    that are not ``counted`` get advantage 0 at every token and are in neither mean nor sigma.
    """
    counted = [True] * len(returns) if counted is None else list(counted)
    everything = [np.ones(len(value), dtype=bool) for value in returns]
    if not any(counted):
        return Advantages([np.zeros(len(value)) for value in returns], everything, counted)
    z = standardize(returns, counted)
    values = z if normalize else [np.asarray(value, dtype=np.float64) for value in returns]
    if filter_sigma is None:
        kept = everything
    elif filter_rule == "authors":
        raw_mean = float(counted_tokens(returns, counted).mean())
        kept = filter_as_released(z, raw_mean, filter_sigma)
    elif filter_rule == "keep_both_signs":
        kept = filter_sparing_signs(z, counted, filter_sigma)
        values = [np.clip(value, -filter_sigma, filter_sigma) for value in values]
    else:
        kept = filter_outliers(z, filter_sigma)
    filtered = [
        np.where(keep & counts, value, 0.0)
        for value, keep, counts in zip(values, kept, counted, strict=True)
    ]
    return Advantages(filtered, kept, counted)


def advantage_metrics(advantages: Advantages, right: Sequence[bool]) -> Metrics:
    """Returns spread, filtered share, and how many of the wrong answers lost every token to the filter.

    When the share right passes 0.9 the 3-sigma rule removes every negative (z of a wrong answer is
    -sqrt(p / (1 - p))); ``filtered_wrong_share`` of 1 says that training has gone blind to errors.
    """
    counted = advantages.counted
    if not any(counted):
        return {Name.ADVANTAGE_NUM_WRONG: total(0)}
    flat = counted_tokens(advantages.values, counted)
    kept = counted_tokens(advantages.kept, counted)
    wrong = [
        keep
        for keep, ok, counts in zip(advantages.kept, right, counted, strict=True)
        if counts and not ok
    ]
    return {
        Name.ADVANTAGE_MEAN: mean(float(flat.mean()), len(flat)),
        Name.ADVANTAGE_STD: last(float(flat.std())),
        Name.ADVANTAGE_MIN: last(float(flat.min())),
        Name.ADVANTAGE_MAX: last(float(flat.max())),
        Name.ADVANTAGE_FILTERED_TOKEN_SHARE: mean(float(1 - kept.mean()), len(kept)),
        Name.ADVANTAGE_FILTERED_WRONG_SHARE: mean([float(not keep.any()) for keep in wrong]),
        Name.ADVANTAGE_NUM_WRONG: total(len(wrong)),
    }
