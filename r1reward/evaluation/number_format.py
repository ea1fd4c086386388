"""Shares and intervals as text: the one form that terminal, summary and page show."""

from __future__ import annotations

from r1reward.evaluation.intervals import Interval


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
