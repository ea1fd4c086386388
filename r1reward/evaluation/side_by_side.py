"""Models side by side on one benchmark, for the terminal, the summary and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from r1reward.evaluation.compare import compare_evaluations
from r1reward.evaluation.evaluation import Conditions, Evaluation
from r1reward.evaluation.number_format import percent, points, signed_points
from r1reward.evaluation.voting.curves import VotingPoint
from r1reward.recipe.derive import ModelName

HEADINGS: Mapping[ModelName, str] = {"base": "base", "sft": "SFT only", "rl": "RL"}


@dataclass(frozen=True)
class Line:
    """One line of the table: a label and a cell for each model."""

    label: str
    cells: Sequence[str]


def title(bench: str, conditions: Conditions) -> str:
    orders = "both orders" if conditions.orders == "both" else f"orders: {conditions.orders}"
    return f"{conditions.num_rows} pairs of {bench}, {orders}"


def lines(found: Mapping[ModelName, Evaluation]) -> list[Line]:
    """What the paper's tables show, and what shows that it was learned for the right reason."""
    every = list(found.values())
    votes = sorted({k for k in (5, every[0].conditions.num_samples) if voting_points(every, k)})
    table = [Line("accuracy, one sample", [points(one.accuracy) for one in every])]
    table.append(Line("gain over the column before, points", gains(every)))
    table += [
        Line(f"voting@{k}", [points(point.accuracy) for point in voting_points(every, k)])
        for k in votes
    ]
    if votes:
        last = voting_points(every, votes[-1])
        cells = [signed_points(point.gain) for point in last]
        table.append(Line(f"voting@{votes[-1]} minus one sample, points", cells))
    table += [
        Line("right in both orders", [percent(one.audit.both_right_share) for one in every]),
        Line("slot-1 rate", [percent(one.audit.slot_1_rate) for one in every]),
        Line("answer follows analysis", [percent(one.parts.consistency) for one in every]),
        Line("response length, tokens", lengths(every)),
    ]
    return table


def voting_points(every: Sequence[Evaluation], num_votes: int) -> list[VotingPoint]:
    """The points of one K, or none where it was not measured."""
    if num_votes < 2:
        return []
    return [point for one in every for point in one.voting if point.num_votes == num_votes]


def gains(every: Sequence[Evaluation]) -> list[str]:
    """Paired by row."""
    compared = [compare_evaluations(old, new).accuracy for old, new in pairwise(every)]
    return ["", *(signed_points(interval) for interval in compared)]


def lengths(every: Sequence[Evaluation]) -> list[str]:
    base = every[0].parts.num_tokens
    cells = []
    for one in every:
        length = one.parts.num_tokens
        if length is None:
            cells.append("-")
        elif one is every[0] or not base:
            cells.append(f"{length:.1f}")
        else:
            cells.append(f"{length:.1f} ({100 * (length / base - 1):+.0f} %)")
    return cells
