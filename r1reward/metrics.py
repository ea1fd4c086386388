"""Metric values that carry how they reduce.

A number without its reduction is averaged wrongly sooner or later: a mean over tokens needs its
token count, a maximum must not be averaged. Every metric says so itself, and ``merge`` obeys.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Reduction = Literal["mean", "sum", "max", "last"]


@dataclass(frozen=True)
class Metric:
    """``value`` under ``reduction``; for a mean, ``weight`` is its denominator."""

    value: float
    reduction: Reduction
    weight: float = 1.0


Metrics = dict[str, Metric]


def mean(values: Sequence[float] | float, weight: float | None = None) -> Metric:
    """The mean of a sequence, or a mean already taken over ``weight`` items."""
    if isinstance(values, int | float):
        return Metric(float(values), "mean", 1.0 if weight is None else weight)
    assert weight is None, "a sequence is its own denominator"
    count = len(values)
    return Metric(sum(values) / count if count else 0.0, "mean", float(count))


def total(value: float) -> Metric:
    return Metric(float(value), "sum")


def maximum(value: float) -> Metric:
    return Metric(float(value), "max")


def last(value: float) -> Metric:
    return Metric(float(value), "last")


def merge(parts: Iterable[Mapping[str, Metric]]) -> Metrics:
    """Reduce metrics of the same name over micro-batches, ranks or updates."""
    merged: Metrics = {}
    for part in parts:
        for name, metric in part.items():
            merged[name] = combine(merged[name], metric) if name in merged else metric
    return merged


def combine(a: Metric, b: Metric) -> Metric:
    assert a.reduction == b.reduction, "one name, one reduction"
    match a.reduction:
        case "mean":
            weight = a.weight + b.weight
            if weight == 0:
                return a
            return Metric((a.value * a.weight + b.value * b.weight) / weight, "mean", weight)
        case "sum":
            return Metric(a.value + b.value, "sum")
        case "max":
            return Metric(max(a.value, b.value), "max")
        case "last":
            return b


def plain(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Names to numbers, for the log; a mean over nothing is left out."""
    return {
        name: metric.value
        for name, metric in sorted(metrics.items())
        if not (metric.reduction == "mean" and metric.weight == 0)
    }
