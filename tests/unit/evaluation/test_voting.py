"""Voting@K and any-correct@K against hand-counted draws and brute force over every subset."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1reward.evaluation.voting.curves import (
    any_correct,
    default_vote_counts,
    majority_score,
    split_odds,
    vote_odds,
    voting_curve,
)
from r1reward.evaluation.voting.votes import (
    Ballots,
    RowVotes,
    count_votes,
    pool_orders,
    vote_splits,
)
from r1reward.types import Slot
from tests.rows import NONE, make_answers, make_item, make_row


def test_votes_are_for_responses_not_for_slots() -> None:
    # Slot 1 is response 1 in the stored order and response 2 in the swapped one.
    (row,) = count_votes([make_item("a")], make_answers("a", [1, 1, 2], [1, None, 1, 1, 2]))
    assert row.stored == Ballots(for_1=2, for_2=1, unreadable=0)
    assert row.swapped == Ballots(for_1=1, for_2=3, unreadable=1)
    assert (row.votes_right, row.votes_wrong, row.unreadable, row.num_samples) == (3, 4, 1, 8)
    assert (row.first_stored, row.first_swapped) == (True, False)


def test_rows_keep_the_order_of_the_items_however_their_answers_are_mixed() -> None:
    items = [make_item("b", label=2), make_item("a"), make_item("not asked")]
    answers = [*make_answers("a", [1], [2]), *make_answers("b", [2], [1])]
    rows = count_votes(items, answers)
    assert [(row.key, row.label, row.accuracy) for row in rows] == [("b", 2, 1.0), ("a", 1, 1.0)]
    assert count_votes(items, answers[::-1]) == rows


def test_the_same_sample_twice_is_refused() -> None:
    with pytest.raises(AssertionError):
        count_votes([make_item("a")], [*make_answers("a", [1], []), *make_answers("a", [1], [])])


def test_one_vote_is_the_mean_over_both_orders() -> None:
    # Stored 3 of 4 right, swapped 1 of 4 right and 1 unreadable: (0.75 + 0.25) / 2.
    odds = vote_odds(make_row((3, 1, 0), (1, 2, 1)), num_votes=1)
    assert odds.score == pytest.approx(0.5)
    assert odds.tied == 0.0
    assert odds.no_vote == pytest.approx(0.125)


def test_three_votes_by_hand() -> None:
    # Two of the stored pool (3 right, 1 wrong) are both right in 3 of 6 draws, else one each; one of
    # the swapped pool (1 right, 3 wrong) is right in 1 of 4: 1/2 + 1/2 * 1/4 = 5/8.
    ballots = make_row((3, 1, 0), (1, 3, 0))
    assert split_odds(ballots, 2, 1).right == pytest.approx(5 / 8)
    # One of the stored and two of the swapped pool: one each in 3 of 6 draws, else both wrong:
    # 1/2 * 3/4 = 3/8. Three votes are the mean of the two.
    assert split_odds(ballots, 1, 2).right == pytest.approx(3 / 8)
    assert vote_odds(ballots, num_votes=3).right == pytest.approx(1 / 2)
    assert vote_odds(ballots, num_votes=3).tied == pytest.approx(0)


def test_a_tie_is_worth_half_and_an_unreadable_sample_is_no_vote() -> None:
    assert vote_odds(make_row((1, 0, 0), (0, 1, 0)), 2).score == 0.5
    # One unreadable sample leaves the other alone.
    assert vote_odds(make_row((1, 0, 0), (0, 0, 1)), 2).score == 1.0
    assert vote_odds(make_row((0, 1, 0), (0, 0, 1)), 2).score == 0.0


def test_a_row_without_any_vote_is_wrong_not_tied() -> None:
    odds = vote_odds(make_row((0, 0, 2), (0, 0, 2)), 4)
    assert (odds.right, odds.tied, odds.no_vote, odds.score) == (0.0, 0.0, 1.0, 0.0)


def test_the_label_decides_which_votes_are_right() -> None:
    assert vote_odds(make_row((0, 2, 0), (0, 2, 0), label=2), 4).score == 1.0
    assert vote_odds(make_row((0, 2, 0), (0, 2, 0), label=1), 4).score == 0.0


SLOTS: tuple[Slot, Slot] = (1, 2)


@pytest.mark.parametrize("num_votes", [1, 2, 3, 4, 5, 8])
def test_a_model_that_always_names_one_slot_gets_half_at_every_k(num_votes: int) -> None:
    for label in SLOTS:
        rows = count_votes([make_item("a", label)], make_answers("a", [1] * 4, [1] * 4))
        (point,) = voting_curve(rows, [num_votes])
        assert point.accuracy.value == pytest.approx(0.5)


def test_too_few_samples_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="needs 3 and 2: sample more, or lower K"):
        vote_odds(make_row((2, 0, 0), (2, 0, 0)), 5)


def test_a_row_asked_in_one_order_gives_all_its_votes_from_it() -> None:
    # Two of (2 right, 1 wrong): both right in 1 of 3 draws, a tie in the other 2.
    for row in (make_row((2, 1, 0), NONE), make_row(NONE, (2, 1, 0))):
        odds = vote_odds(row, 2)
        assert odds.right == pytest.approx(1 / 3)
        assert odds.tied == pytest.approx(2 / 3)
        assert vote_odds(row, 3).score == 1.0
        assert vote_odds(row, 1).score == pytest.approx(2 / 3) == row.accuracy
        with pytest.raises(ValueError, match="sample more, or lower K"):
            vote_odds(row, 4)


def test_pooled_orders_give_any_samples() -> None:
    row = make_row((3, 0, 0), (0, 0, 1), label=2)
    with pytest.raises(ValueError, match="needs 2 and 2"):
        vote_odds(row, 4)
    pooled = pool_orders(row)
    assert (pooled.stored, pooled.swapped.num_samples) == (Ballots(3, 0, 1), 0)
    assert vote_odds(pooled, 4).score == 0.0
    assert vote_odds(pooled, 1).no_vote == 0.25


def test_the_majority_of_whatever_samples_a_row_has() -> None:
    assert majority_score(make_row((3, 1, 0), (0, 1, 0))) == 1.0
    assert majority_score(make_row((3, 1, 0), (0, 1, 0), label=2)) == 0.0
    assert majority_score(make_row((1, 0, 0), (0, 1, 3))) == 0.5
    assert majority_score(make_row((0, 0, 1), (0, 0, 1))) == 0.0


def test_default_vote_counts_end_with_k() -> None:
    assert default_vote_counts(1) == [1]
    assert default_vote_counts(2) == [1, 2]
    assert default_vote_counts(8) == [1, 2, 3, 5, 7, 8]
    assert default_vote_counts(15) == [1, 2, 3, 5, 7, 9, 11, 13, 15]
    assert default_vote_counts(64) == [1, 2, 3, 5, 7, 9, 11, 13, 15, 23, 35, 53, 64]


def outcomes(ballots: Ballots) -> list[int]:
    """+1, -1 or 0 for each sample, right being response 1."""
    return [1] * ballots.for_1 + [-1] * ballots.for_2 + [0] * ballots.unreadable


def row_of(label: Slot, stored: Ballots, swapped: Ballots) -> RowVotes:
    return RowVotes("x", label, "x", 0, stored, swapped, None, None)


BALLOTS = st.builds(Ballots, *[st.integers(0, 3)] * 3).filter(lambda b: b.num_samples >= 1)


@given(BALLOTS, BALLOTS, st.data())
def test_odds_are_those_of_every_subset(
    stored: Ballots, swapped: Ballots, data: st.DataObject
) -> None:
    num_stored = data.draw(st.integers(0, stored.num_samples))
    num_swapped = data.draw(st.integers(0 if num_stored else 1, swapped.num_samples))
    draws = [
        [*a, *b]
        for a, b in product(
            combinations(outcomes(stored), num_stored), combinations(outcomes(swapped), num_swapped)
        )
    ]
    odds = split_odds(row_of(1, stored, swapped), num_stored, num_swapped)
    assert odds.right == pytest.approx(sum(sum(draw) > 0 for draw in draws) / len(draws))
    tied = sum(sum(draw) == 0 and any(draw) for draw in draws) / len(draws)
    assert odds.tied == pytest.approx(tied)
    assert odds.no_vote == pytest.approx(sum(not any(draw) for draw in draws) / len(draws))


@given(BALLOTS, BALLOTS, st.integers(1, 6))
def test_voting_is_fair_to_both_responses(
    stored: Ballots, swapped: Ballots, num_votes: int
) -> None:
    """The scores under both labels add up to 1, less what had no vote."""
    if (num_votes + 1) // 2 > min(stored.num_samples, swapped.num_samples):
        return
    one = vote_odds(row_of(1, stored, swapped), num_votes)
    two = vote_odds(row_of(2, stored, swapped), num_votes)
    assert one.score + two.score + one.no_vote == pytest.approx(1)


def test_any_correct_by_hand() -> None:
    # 1 right of 2 in the stored order: one sample of each order finds it with probability 1/2.
    one_right = make_row((1, 1, 0), (0, 1, 1))
    assert any_correct(one_right, 1) == 0.25
    assert any_correct(one_right, 2) == pytest.approx(0.5)
    assert any_correct(one_right, 4) == 1.0
    assert any_correct(make_row((0, 2, 0), (0, 1, 1)), 4) == 0.0


def test_any_correct_comes_from_the_draws_of_the_vote() -> None:
    """Regression: a model that always names slot 1 was right in one of 2 samples of both orders with
    probability 2/3, as if both could be of one order; its votes are one of each.
    """
    always_1 = make_row((2, 0, 0), (0, 2, 0))
    assert any_correct(always_1, 2) == 1.0
    assert vote_odds(always_1, 2).tied == 1.0


@given(BALLOTS, BALLOTS, st.integers(1, 6))
def test_any_correct_is_that_of_every_subset(
    stored: Ballots, swapped: Ballots, num_drawn: int
) -> None:
    splits = vote_splits(num_drawn, bool(stored.num_samples), bool(swapped.num_samples))
    if any(one > stored.num_samples or two > swapped.num_samples for one, two in splits):
        return
    wanted = []
    for one, two in splits:
        halves = combinations(outcomes(stored), one), combinations(outcomes(swapped), two)
        draws = list(product(*halves))
        wanted.append(sum(1 in first + second for first, second in draws) / len(draws))
    row = row_of(1, stored, swapped)
    assert any_correct(row, num_drawn) == pytest.approx(sum(wanted) / len(wanted))


def test_the_curve_rises_for_a_model_that_is_right_more_often_than_not() -> None:
    pools = [make_row((10, 5, 0), (10, 5, 0))] * 4
    curve = voting_curve(pools, [1, 5, 15, 29])
    accuracies = [point.accuracy.value for point in curve]
    assert accuracies == sorted(accuracies)
    assert accuracies[0] == pytest.approx(2 / 3)
    assert accuracies[-1] > 0.99
    assert [point.num_votes for point in curve] == [1, 5, 15, 29]
    assert [point.chance for point in curve[:2]] == [0.5, 0.96875]
    assert curve[2].chance == pytest.approx(0.99997, abs=5e-6)
    assert [point.any_correct.value for point in curve] == sorted(
        point.any_correct.value for point in curve
    )


def test_the_curve_agrees_with_drawing_votes_from_a_known_coin() -> None:
    """An average over many pools of a 0.7 coin is the binomial majority; 3 votes give 0.784."""
    generator = np.random.default_rng(0)
    pools = []
    for key in range(3000):
        stored, swapped = (int(x) for x in generator.binomial(6, 0.7, size=2))
        pools.append(make_row((stored, 6 - stored, 0), (swapped, 6 - swapped, 0), key=str(key)))
    one, three = voting_curve(pools, [1, 3])
    assert one.accuracy.value == pytest.approx(0.7, abs=0.01)
    assert three.accuracy.value == pytest.approx(0.7**3 + 3 * 0.7**2 * 0.3, abs=0.012)
    assert three.accuracy.low < three.accuracy.value < three.accuracy.high
    assert three.any_correct.value == pytest.approx(1 - 0.3**3, abs=0.005)


def test_the_gain_over_one_sample_is_paired_by_row() -> None:
    """One row gains by voting, the other is always wrong: the interval knows both."""
    pools = [make_row((2, 1, 0), (2, 1, 0), key="a"), make_row((0, 3, 0), (0, 3, 0), key="b")]
    one, three = voting_curve(pools, [1, 3])
    assert (one.gain.value, one.gain.low, one.gain.high) == (0, 0, 0)
    gain = vote_odds(pools[0], 3).score - 2 / 3
    assert gain > 0
    assert three.gain.value == pytest.approx(gain / 2)
    assert three.gain.low < 0 < three.gain.high


def test_the_interval_of_a_gain_is_over_groups_of_rows() -> None:
    widths = []
    for grouped in (True, False):
        rows = []
        for number in range(40):
            ballots = (2, 1, 0) if number < 20 else (0, 3, 0)
            group = f"g{number // 10}" if grouped else ""
            rows.append(make_row(ballots, ballots, key=f"{number}", group=group))
        (point,) = voting_curve(rows, [3])
        widths.append(point.gain.high - point.gain.low)
    assert widths[0] > 2 * widths[1]


def test_ties_and_silence_are_counted() -> None:
    pools = [make_row((1, 0, 0), (0, 1, 0)), make_row((0, 0, 1), (0, 0, 1))]
    (point,) = voting_curve(pools, [2])
    assert (point.tied_share, point.no_vote_share, point.accuracy.value) == (0.5, 0.5, 0.25)


def test_intervals_are_over_groups_of_rows() -> None:
    rows = [make_row((1, 0, 0), (1, 0, 0), key=f"{i}", group=f"{i // 10}") for i in range(20)]
    rows += [make_row((0, 1, 0), (0, 1, 0), key=f"{i}", group=f"{i // 10}") for i in range(20, 40)]
    (point,) = voting_curve(rows, [2])
    # Four groups, two of them right; forty rows of their own would give 0.35 to 0.65.
    assert point.accuracy.value == 0.5
    assert point.accuracy.low < 0.01
    assert point.accuracy.high > 0.99
    assert point.weighted is None
