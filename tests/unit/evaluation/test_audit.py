"""The audit on a few answers counted by hand."""

import pytest

from r1reward.evaluation.audit import audit, length_audit
from r1reward.evaluation.voting.votes import count_votes
from tests.rows import make_answer, make_answers, make_item

ITEMS = [
    make_item("a", 1, "long response", "short"),
    make_item("b", 2, "long response", "short"),
    make_item("c", 1, "same", "size"),
]


def test_every_number_by_hand() -> None:
    answers = [
        *make_answers("a", [1, 1], [2, 1]),  # right, right; right, wrong
        *make_answers("b", [1], [1, None]),  # wrong; right, unreadable
        make_answer("c", "stored", 0, 2, truncated=True),  # wrong
    ]
    found = audit(count_votes(ITEMS, answers), answers)
    assert (found.num_rows, found.num_rows_both_orders, found.num_answers) == (3, 2, 8)
    assert (found.num_unparsed, found.num_truncated) == (1, 1)
    assert (found.unparsed_share, found.truncated_share) == (1 / 8, 1 / 8)
    assert found.slot_1_rate == pytest.approx(5 / 7)
    # a: slot 1 in both with probability 1 * 1/2; b: 1 * 1/2.
    assert found.flip_rate == pytest.approx(1 / 2)
    # a: 1 * 1/2; b: 0 * 1/2.
    assert found.both_right_share == pytest.approx(1 / 4)
    lengths = found.by_length
    assert (lengths.num_preferred_longer, lengths.num_preferred_shorter, lengths.num_equal) == (
        1, 1, 1,
    )  # fmt: skip
    assert lengths.accuracy_preferred_longer == pytest.approx((1 + 1 / 2) / 2)
    assert lengths.accuracy_preferred_shorter == pytest.approx((0 + 1 / 2) / 2)
    assert (lengths.pick_longer, lengths.pick_shorter) == (0.5, 0.5)


def test_one_order_has_no_flips() -> None:
    answers = make_answers("a", [1, 2], [])
    found = audit(count_votes(ITEMS, answers), answers)
    assert (found.flip_rate, found.both_right_share, found.num_rows_both_orders) == (None, None, 0)
    assert found.slot_1_rate == 0.5


def test_a_coin_is_right_in_both_orders_a_quarter_of_the_time() -> None:
    answers = make_answers("a", [1, 2], [1, 2])
    found = audit(count_votes(ITEMS, answers), answers)
    assert (found.both_right_share, found.flip_rate, found.slot_1_rate) == (0.25, 0.5, 0.5)


def test_nothing_readable_is_no_rate_and_no_answer_is_refused() -> None:
    answers = make_answers("a", [None], [None])
    found = audit(count_votes(ITEMS, answers), answers)
    assert (found.slot_1_rate, found.flip_rate, found.unparsed_share) == (None, 0.0, 1.0)
    with pytest.raises(ValueError, match="no answers"):
        audit([], [])


def test_equal_lengths_earn_a_picker_half_and_no_side_an_accuracy() -> None:
    found = length_audit([0, 0, 3, 0], [1.0, 0.0, 0.5, 1.0])
    assert (found.num_preferred_longer, found.num_preferred_shorter, found.num_equal) == (1, 0, 3)
    assert (found.pick_longer, found.pick_shorter) == (0.625, 0.375)
    assert (found.accuracy_preferred_longer, found.accuracy_preferred_shorter) == (0.5, None)
