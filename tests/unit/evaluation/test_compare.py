"""McNemar's exact test and paired differences, against values worked out by hand."""

from dataclasses import replace
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1reward.evaluation.compare import (
    McNemar,
    mcnemar,
    mcnemar_by_order,
    paired_difference,
    sign_test,
)
from r1reward.evaluation.intervals import Interval
from r1reward.evaluation.voting.curves import vote_odds
from r1reward.evaluation.voting.votes import RowVotes
from tests.rows import NONE, make_row


def test_mcnemar_counts_only_what_changed() -> None:
    before = [True, True, False, False, False, True]
    after = [True, False, True, True, True, True]
    # 3 gained, 1 lost: 2 * (1 + 4) / 16.
    assert mcnemar(before, after) == McNemar(3, 1, 0.625)
    assert mcnemar(after, before) == McNemar(1, 3, 0.625)


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (6, 0, 2 / 64),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (4, 4, 1.0),
        (121, 59, 4.434e-6),  # 2 * P(X <= 59) for X ~ Binomial(180, 1/2)
    ],
)
def test_sign_test(gained: int, lost: int, p_value: float) -> None:
    assert sign_test(gained, lost) == pytest.approx(p_value, rel=2e-3)
    assert sign_test(lost, gained) == sign_test(gained, lost)


@given(st.integers(0, 40), st.integers(0, 40))
def test_sign_test_is_the_sum_of_its_tails(gained: int, lost: int) -> None:
    n, k = gained + lost, min(gained, lost)
    tail = sum(comb(n, i) for i in range(k + 1)) / 2**n
    assert sign_test(gained, lost) == pytest.approx(min(1.0, 2 * tail))
    assert 0 < sign_test(gained, lost) <= 1


def test_sign_test_of_thousands_agrees_with_the_normal_tail() -> None:
    # 10,000 changes, 100 more gained than half: z with continuity is 199 / 100, p = 0.0466.
    assert sign_test(5100, 4900) == pytest.approx(0.0466, abs=2e-4)
    assert 0 <= sign_test(6000, 0) < 1e-300


def row(key: str, stored: bool | None, swapped: bool | None, group: str = "") -> RowVotes:
    """A row with one sample of label 1 in each order that is not None."""
    ballots = {None: NONE, True: (1, 0, 0), False: (0, 1, 0)}
    return make_row(
        ballots[stored], ballots[swapped], key=key, group=group, first=(stored, swapped)
    )


def test_each_order_has_its_own_test() -> None:
    before = [row(str(i), stored=False, swapped=True) for i in range(6)]
    after = [row(str(i), stored=True, swapped=i > 1) for i in range(6)]
    tests = mcnemar_by_order(before, after)
    assert tests == {"stored": McNemar(6, 0, 2 / 64), "swapped": McNemar(0, 2, 0.5)}


def test_an_order_is_tested_on_the_rows_that_both_asked_in_it() -> None:
    before = [row("a", False, None), row("b", None, False), row("c", False, None)]
    after = [row("a", True, None), row("b", True, None), row("c", None, True)]
    assert mcnemar_by_order(before, after) == {"stored": McNemar(1, 0, 1.0), "swapped": None}


def difference(before: list[RowVotes], after: list[RowVotes], num_votes: int = 0) -> Interval:
    """Of the accuracy of one sample, or of a vote."""

    def scores(rows: list[RowVotes]) -> list[float]:
        return [vote_odds(r, num_votes).score if num_votes else r.accuracy for r in rows]

    return paired_difference(scores(before), scores(after), [r.group for r in before])


def test_other_rows_cannot_be_compared() -> None:
    before = [row("a", True, True), row("b", True, True)]
    after = [row("b", False, True), row("c", True, True), row("d", True, True)]
    with pytest.raises(ValueError, match="1 are common, of 2 before and 3 after; evaluate both"):
        mcnemar_by_order(before, after)
    with pytest.raises(ValueError, match="0 are common, of 1 before and 1 after; evaluate both"):
        mcnemar_by_order(before[:1], after[1:2])
    with pytest.raises(ValueError, match="2 are common"):
        mcnemar_by_order(before, before[::-1])
    with pytest.raises(ValueError, match="no rows"):
        mcnemar_by_order([], [])
    with pytest.raises(ValueError):
        mcnemar([True], [True, False])


def test_paired_difference_is_after_minus_before_of_each_row() -> None:
    before = [row("a", True, False), row("b", False, False), row("c", True, True)]
    after = [row("a", True, True), row("b", False, True), row("c", True, True)]
    assert difference(before, after).value == pytest.approx(1 / 3)
    assert difference(after, before).value == pytest.approx(-1 / 3)
    same = difference(before, before)
    assert same.value == 0.0
    assert (
        same.high == pytest.approx(-same.low) and same.high > 0.5
    )  # three rows tell little of the others
    # Two votes of a: from a tie to a win; of b: from lost to a tie.
    voted = difference(before, after, num_votes=2)
    assert voted.value == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_votes_are_compared_where_samples_are_not() -> None:
    before = [make_row((3, 2, 0), NONE)]
    after = [make_row((4, 1, 0), NONE)]
    assert difference(before, after).value == pytest.approx(0.2)
    voted = difference(before, after, num_votes=5)
    assert voted.value == 0.0


def test_pairing_removes_what_both_models_share() -> None:
    # Half of the rows are always right and half always wrong, but one in ten improves: the unpaired
    # interval would be twice as wide.
    before = [row(str(i), i < 50, i < 50) for i in range(100)]
    after = [row(str(i), i < 60, i < 60) for i in range(100)]
    change = difference(before, after)
    assert change.value == pytest.approx(0.1)
    assert (change.low, change.high) == pytest.approx((0.035, 0.165), abs=0.001)


def test_rows_of_a_group_change_together() -> None:
    before = [row(str(i), False, False, group=str(i // 10)) for i in range(40)]
    after = [row(str(i), i < 20, i < 20, group=str(i // 10)) for i in range(40)]
    change = difference(before, after)
    assert change.value == 0.5
    assert change.low < 0
    assert change.high > 0.95
    alone = difference(
        [replace(one, group=one.key) for one in before],
        [replace(one, group=one.key) for one in after],
    )
    assert 0.3 < alone.low < alone.high < 0.7
