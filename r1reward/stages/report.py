"""Tables of what a run did."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from r1reward.evaluation.audit import LengthAudit
from r1reward.evaluation.both_orders import Evaluation, Interval, PairOutcome


def read_evaluation(path: Path) -> Evaluation:
    return evaluation_from_json(json.loads(path.read_text()))


def evaluation_from_json(raw: Mapping[str, Any]) -> Evaluation:
    """What ``Evaluation.to_json`` gave, as an ``Evaluation`` again."""
    return Evaluation(
        **{
            **raw,
            "by_length": LengthAudit(**raw["by_length"]),
            "accuracy": Interval(**raw["accuracy"]),
            "outcomes": [PairOutcome(**outcome) for outcome in raw["outcomes"]],
        }
    )


def points(interval: Interval) -> str:
    return f"{100 * interval.value:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def by_length(audit: LengthAudit) -> str:
    accuracies = (audit.accuracy_preferred_longer, audit.accuracy_preferred_shorter)
    return " / ".join("-" if value is None else f"{100 * value:.1f} %" for value in accuracies)


def comparison_table(before: Evaluation, after: Evaluation, difference: Interval) -> Table:
    """Held-out results before and after training, and the paired difference in accuracy."""
    table = Table(title=f"{before.num_pairs} held-out pairs, both orders, one sample each")
    table.add_column("")
    table.add_column("before", justify="right")
    table.add_column("after", justify="right")
    table.add_row("accuracy [95 %]", points(before.accuracy), points(after.accuracy))
    lengths = [by_length(evaluation.by_length) for evaluation in (before, after)]
    table.add_row("  preferred longer / shorter", *lengths)
    shares = [
        ("both orders right (chance 25 %)", "both_right_share"),
        ("slot-1 rate", "slot_1_rate"),
        ("flip rate after swap", "flip_rate"),
        ("answer follows analysis", "consistency"),
        ("well formed", "format"),
        ("unreadable", "unparsed_share"),
        ("truncated", "truncated_share"),
    ]
    for label, name in shares:
        table.add_row(label, *(f"{100 * getattr(e, name):.1f} %" for e in (before, after)))
    table.add_row("reward", f"{before.reward:.3f}", f"{after.reward:.3f}")
    table.add_row("response length, tokens", f"{before.length:.1f}", f"{after.length:.1f}")
    verdict = (
        "above 0" if difference.low > 0 else "includes 0" if difference.high >= 0 else "below 0"
    )
    low, high = 100 * difference.low, 100 * difference.high
    table.caption = (
        f"paired difference in accuracy: {100 * difference.value:+.1f} points "
        f"[{low:+.1f}, {high:+.1f}], {verdict}\n"
        f"always picking the longer response would score {100 * after.by_length.pick_longer:.1f} %"
    )
    return table
