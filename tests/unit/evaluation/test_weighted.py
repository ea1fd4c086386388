"""Weighted voting by hand, against plain voting and against brute force."""

from dataclasses import replace
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1reward.evaluation.voting.curves import vote_odds, voting_curve
from r1reward.evaluation.voting.votes import count_votes, pool_orders
from r1reward.evaluation.voting.weighted import (
    WeightedVotes,
    subsets,
    weighted_score,
    weighted_votes,
)
from r1reward.types import Slot
from tests.rows import make_answer, make_item, make_row

ITEM = make_item("a", label=2)
ANSWERS = [
    make_answer("a", "swapped", 0, 1, 0.5),  # for response 2: right
    make_answer("a", "stored", 1, 1, 0.75),  # wrong
    make_answer("a", "stored", 0, 2, 1.0),
    make_answer("a", "swapped", 1, None),
]


def test_weights_are_signed_by_what_is_right_and_ordered_by_sample() -> None:
    items = [ITEM, make_item("not asked")]
    assert weighted_votes(items, ANSWERS) == [WeightedVotes("a", (1.0, -0.75), (0.5, 0.0))]
    assert weighted_votes(items, ANSWERS, pooled=True) == [
        WeightedVotes("a", (1.0, -0.75, 0.5, 0.0), ())
    ]


def test_a_readable_answer_without_confidence_leaves_no_weighted_vote() -> None:
    assert weighted_votes([ITEM], [*ANSWERS, make_answer("a", "stored", 2, 1)]) is None


def test_a_sure_vote_outweighs_two_that_are_not() -> None:
    row = WeightedVotes("a", (0.9,), (-0.4, -0.4))
    assert weighted_score(row, 2) == 1.0
    assert weighted_score(replace(row, stored=(0.9, 0.0)), 4) == 1.0
    assert weighted_score(replace(row, stored=(0.8, 0.0)), 4) == 0.5
    assert weighted_score(replace(row, stored=(0.7, 0.0)), 4) == 0.0


def test_ties_half_and_no_vote_wrong() -> None:
    assert weighted_score(WeightedVotes("a", (0.1, 0.2), (-0.3, 0.0)), 4) == 0.5  # not 5.6e-17
    assert weighted_score(WeightedVotes("a", (0.0,), (0.0,)), 2) == 0.0
    assert weighted_score(WeightedVotes("a", (), (0.9, -0.2, -0.2)), 3) == 1.0


SIGNED = st.sampled_from([-1.0, -0.75, -0.5, 0.0, 0.25, 0.5, 1.0])
WEIGHTS = st.lists(SIGNED, min_size=1, max_size=5).map(tuple)


@given(WEIGHTS, WEIGHTS, st.data())
def test_small_pools_are_exact(
    stored: tuple[float, ...], swapped: tuple[float, ...], data: st.DataObject
) -> None:
    num_votes = data.draw(st.integers(1, 2 * min(len(stored), len(swapped))))
    fewer, more = num_votes // 2, (num_votes + 1) // 2
    if more > min(len(stored), len(swapped)):
        return
    scores = []
    for split in ((more, fewer), (fewer, more)):
        draws = [
            (*a, *b)
            for a, b in product(combinations(stored, split[0]), combinations(swapped, split[1]))
        ]
        wins = [1.0 if sum(d) > 0 else 0.5 if sum(d) == 0 and any(d) else 0.0 for d in draws]
        scores.append(sum(wins) / len(wins))
    wanted = sum(scores) / 2
    assert weighted_score(WeightedVotes("a", stored, swapped), num_votes) == pytest.approx(wanted)


CHOICES = st.lists(st.sampled_from([1, 2, None]), min_size=4, max_size=8)


@given(CHOICES, CHOICES, st.integers(1, 8), st.booleans())
def test_equal_weights_are_plain_voting(
    stored: list[Slot | None], swapped: list[Slot | None], num_votes: int, pooled: bool
) -> None:
    answers = [
        *(make_answer("a", "stored", i, choice, 0.7) for i, choice in enumerate(stored)),
        *(make_answer("a", "swapped", i, choice, 0.7) for i, choice in enumerate(swapped)),
    ]
    (row,) = count_votes([ITEM], answers)
    weights = weighted_votes([ITEM], answers, pooled=pooled)
    assert weights is not None
    wanted = vote_odds(pool_orders(row) if pooled else row, num_votes).score
    # Pools of 8 are listed in full; the 100 subsets of a pooled one are a sample.
    allowed = 0.2 if pooled else 1e-12
    assert weighted_score(weights[0], num_votes) == pytest.approx(wanted, abs=allowed)


def test_large_pools_are_sampled_from_a_seed_without_bias() -> None:
    # 20 of each order, 60 % right: close to what plain voting computes.
    row = WeightedVotes("a", (0.5,) * 12 + (-0.5,) * 8, (0.5,) * 12 + (-0.5,) * 8)
    scores = [weighted_score(row, 9, seed) for seed in range(60)]
    assert len(set(scores)) > 1
    assert weighted_score(row, 9, 3) == scores[3]
    assert sum(scores) / 60 == pytest.approx(
        vote_odds(make_row((12, 8, 0), (12, 8, 0)), 9).score, abs=0.01
    )
    # The shuffles of one K are continued by the next.
    assert (subsets(20, 5, 0) == subsets(20, 9, 0)[:, :5]).all()


def test_the_curve_shows_both_votes() -> None:
    answers = [
        make_answer("a", "stored", 0, 2, 0.9),
        make_answer("a", "swapped", 0, 2, 0.6),
    ]
    rows = count_votes([ITEM], answers)
    weights = weighted_votes([ITEM], answers)
    one, two = voting_curve(rows, [1, 2], weights=weights)
    assert one.weighted is not None and two.weighted is not None
    assert (one.accuracy.value, one.weighted.value) == (0.5, 0.5)
    assert (two.accuracy.value, two.weighted.value) == (0.5, 1.0)
    with pytest.raises(AssertionError):
        voting_curve(rows, [1], weights=[replace(w, key="b") for w in weights or ()])
