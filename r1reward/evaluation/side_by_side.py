"""Models side by side on one benchmark, for the terminal, the summary and the report."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from r1reward.evaluation.compare import compare_evaluations
from r1reward.evaluation.conditions import Conditions
from r1reward.evaluation.evaluation import Evaluation
from r1reward.evaluation.intervals import percent, points, signed_points
from r1reward.evaluation.voting.curves import VotingPoint
from r1reward.recipe.derive import ModelName

HEADINGS: Mapping[ModelName, str] = {"base": "base", "sft": "SFT only", "rl": "RL"}


Line = tuple[str, Sequence[str]]  # a label, and a cell for each model


def title(bench: str, conditions: Conditions) -> str:
    """Returns the heading of the table: how many pairs, in which orders."""
    orders = "both orders" if conditions.orders == "both" else f"orders: {conditions.orders}"
    return f"{conditions.num_rows} pairs of {bench}, {orders}"


def lines(results: Mapping[ModelName, Evaluation]) -> list[Line]:
    """What the paper's tables show, and what shows that it was learned for the right reason."""
    evaluations = list(results.values())
    votes = sorted(
        {k for k in (5, evaluations[0].conditions.num_samples) if voting_points(evaluations, k)}
    )
    table: list[Line] = [
        ("accuracy, one sample", [points(one.accuracy) for one in evaluations]),
        ("gain over the column before, points", gains(evaluations)),
    ]
    for k in votes:
        cells = [points(point.accuracy) for point in voting_points(evaluations, k)]
        table.append((f"voting@{k}", cells))
    if votes:
        cells = [signed_points(point.gain) for point in voting_points(evaluations, votes[-1])]
        table.append((f"voting@{votes[-1]} minus one sample, points", cells))
    return [
        *table,
        ("right in both orders", [percent(one.audit.both_right_share) for one in evaluations]),
        ("slot-1 rate", [percent(one.audit.slot_1_rate) for one in evaluations]),
        ("answer follows analysis", [percent(one.parts.consistency) for one in evaluations]),
        ("response length, tokens", lengths(evaluations)),
    ]


def voting_points(evaluations: Sequence[Evaluation], num_votes: int) -> list[VotingPoint]:
    """The points of one K, or none where it was not measured."""
    if num_votes < 2:
        return []
    return [point for one in evaluations for point in one.voting if point.num_votes == num_votes]


def gains(evaluations: Sequence[Evaluation]) -> list[str]:
    """By how much each model beats the one before, paired by row; empty for the first."""
    compared = [compare_evaluations(old, new).accuracy for old, new in pairwise(evaluations)]
    return ["", *(signed_points(interval) for interval in compared)]


def lengths(evaluations: Sequence[Evaluation]) -> list[str]:
    """Mean length of an answer, and how much longer it is than the first model's."""
    base = evaluations[0].parts.num_tokens
    cells = []
    for one in evaluations:
        length = one.parts.num_tokens
        if length is None:
            cells.append("-")
        elif one is evaluations[0] or not base:
            cells.append(f"{length:.1f}")
        else:
            cells.append(f"{length:.1f} ({100 * (length / base - 1):+.0f} %)")
    return cells
