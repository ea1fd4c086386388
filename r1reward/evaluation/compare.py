"""Is one model better than another? Tests and intervals of differences on the same rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from r1reward.evaluation.evaluation import Evaluation
from r1reward.evaluation.intervals import Interval, difference_interval
from r1reward.evaluation.voting.votes import RowVotes
from r1reward.types import Order


@dataclass(frozen=True)
class McNemar:
    """Items that only one of two models got right, and the exact two-sided p-value."""

    num_gained: int
    num_lost: int
    p_value: float


def mcnemar(before: Sequence[bool | None], after: Sequence[bool | None]) -> McNemar | None:
    """McNemar's exact test on items that are right (True), wrong or not asked (None).

    Both sequences have the same items in the same order. Returns None if both asked none of them.
    """
    changes = [
        int(new) - int(old)
        for old, new in zip(before, after, strict=True)
        if old is not None and new is not None
    ]
    if not changes:
        return None
    num_gained, num_lost = changes.count(1), changes.count(-1)
    return McNemar(num_gained, num_lost, sign_test(num_gained, num_lost))


def sign_test(num_gained: int, num_lost: int) -> float:
    """Returns the exact two-sided p-value of X ~ Binomial(gained + lost, 1/2); 1 if nothing changed."""
    from scipy.stats import (
        binomtest,  # takes half a second, which `r1reward --help` need not wait for
    )

    if num_gained == num_lost == 0:
        return 1.0
    return float(binomtest(num_gained, num_gained + num_lost).pvalue)


def mcnemar_by_order(
    before: Sequence[RowVotes], after: Sequence[RowVotes]
) -> dict[Order, McNemar | None]:
    """One test an order, on sample 0 of the rows that both asked in it; None if there are none.

    The two orders of a row are not independent, so they are never pooled. Raises ``ValueError`` if
    the rows differ.
    """
    check_same_rows(before, after)
    return {
        "stored": mcnemar([r.first_stored for r in before], [r.first_stored for r in after]),
        "swapped": mcnemar([r.first_swapped for r in before], [r.first_swapped for r in after]),
    }


@dataclass(frozen=True)
class Comparison:
    """After minus before on the same rows: of one sample, of the vote, and tests by order."""

    accuracy: Interval
    voted: Interval
    mcnemar: dict[Order, McNemar | None]


def compare_evaluations(before: Evaluation, after: Evaluation) -> Comparison:
    """Compares two evaluations row by row. The same two always give the same numbers.

    Raises ``ValueError`` if the rows differ.
    """
    check_same_rows(before.rows, after.rows)
    groups = [row.group for row in before.rows]
    return Comparison(
        accuracy=paired_difference(before.row_accuracies, after.row_accuracies, groups),
        voted=paired_difference(before.row_scores, after.row_scores, groups),
        mcnemar=mcnemar_by_order(before.rows, after.rows),
    )


def paired_difference(
    before: Sequence[float], after: Sequence[float], groups: Sequence[str]
) -> Interval:
    """Mean of after - before over the same rows, with its interval over groups of rows.

    The three sequences hold one entry for each row, in the same order.
    """
    differences = [new - old for old, new in zip(before, after, strict=True)]
    return difference_interval(differences, groups)


def check_same_rows(before: Sequence[RowVotes], after: Sequence[RowVotes]) -> None:
    """Raises ``ValueError`` unless both have the same rows in the same order."""
    if not before or not after:
        raise ValueError("there are no rows to compare")
    keys, other_keys = ([row.key for row in rows] for rows in (before, after))
    if keys != other_keys:
        num_common = len(set(keys) & set(other_keys))
        raise ValueError(
            f"the two evaluations are of different rows: {num_common} are common, of {len(keys)} "
            f"before and {len(other_keys)} after; evaluate both on the same data, and ask again for rows "
            "without an answer"
        )
