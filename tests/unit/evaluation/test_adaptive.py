"""Adaptive voting: exact verdicts, no sample too many, and savings that are predicted."""

from dataclasses import replace
from fractions import Fraction
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.conditions import Conditions
from r1reward.evaluation.items import Item
from r1reward.evaluation.voting.adaptive import (
    AdaptiveSummary,
    adaptive_summary,
    always_asked,
    summary_of_rows,
    verdict,
)
from r1reward.evaluation.voting.schedule import full_plan, sample_schedule
from r1reward.evaluation.voting.stopping import (
    chance_of_change,
    expected_samples,
    next_samples,
    samples_needed,
    settled,
    shares_at_stop,
    stopping_chance,
    tally,
    worst_error,
)
from r1reward.recipe.choices import OrderMode
from r1reward.types import Slot
from tests.rows import make_answer, make_item

VOTES = st.lists(st.sampled_from([1, 2, None]), min_size=1, max_size=17)
ERRORS = st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.45])


def votes_of(for_1: int, for_2: int = 0, unreadable: int = 0) -> list[Slot | None]:
    votes: list[Slot | None] = []
    for vote, count in zip((1, 2, None), (for_1, for_2, unreadable), strict=True):
        votes.extend([vote] * count)  # type: ignore[list-item]
    return votes


def one_at_a_time(votes: list[Slot | None], error: float) -> int:
    return next(n for n in range(len(votes) + 1) if settled(tally(votes[:n]), len(votes), error))


@given(VOTES)
def test_without_an_error_the_verdict_is_that_of_all_votes(votes: list[Slot | None]) -> None:
    num_needed = samples_needed(votes, 0)
    assert verdict(votes[:num_needed]) == verdict(votes)


@given(VOTES, ERRORS)
def test_asking_in_batches_takes_the_samples_of_asking_one_by_one(
    votes: list[Slot | None], error: float
) -> None:
    assert samples_needed(votes, error) == one_at_a_time(votes, error)


@pytest.mark.parametrize("num_samples", [1, 2, 5, 6])
def test_without_an_error_it_stops_exactly_when_nothing_can_change(num_samples: int) -> None:
    options: tuple[Slot | None, ...] = (1, 2, None)
    for num_drawn in range(num_samples + 1):
        for drawn in product(options, repeat=num_drawn):
            ends = {
                verdict([*drawn, *rest])
                for rest in product(options, repeat=num_samples - num_drawn)
            }
            fixed = len(ends) == 1 and (None not in ends or num_drawn == num_samples)
            assert settled(tally(drawn), num_samples, 0) == fixed


def test_how_many_to_ask_by_hand() -> None:
    assert next_samples([], 15, 0) == 8
    assert next_samples([], 16, 0) == 9
    assert next_samples(votes_of(6, 2), 15, 0) == 2
    assert next_samples(votes_of(8), 15, 0) == 0
    assert next_samples(votes_of(8), 16, 0) == 1  # eight more for the other one would tie
    assert next_samples([1, None, None], 5, 0) == 1  # two for it leave one
    assert next_samples([1, 2], 2, 0) == 0
    assert next_samples([1, 2], 4, 0) == 2
    assert next_samples([None] * 3, 3, 0) == 0
    # Three in a row leave 12: seven ... twelve losing ways of 1820 are 70 = 3.8 %. Of rows at 50 % that
    # stop there more than 5 % end otherwise, so it takes four.
    assert next_samples([], 15, 0.05) == 4
    assert next_samples([], 15, 0.08) == 3


def test_the_error_is_that_of_the_predictive_distribution() -> None:
    assert float(chance_of_change(3, 0, 12)) == pytest.approx(70 / 1820)
    assert chance_of_change(2, 1, 0) == 0
    assert chance_of_change(2, 1, 1) == pytest.approx(2 / 5)  # (1 + 1) / (3 + 2): a tie
    assert chance_of_change(3, 1, 1) == 0


def test_the_chance_of_a_change_is_the_tail_of_a_beta_binomial() -> None:
    """scipy's rounds a chance of 3e-16 to 0; without an error that would settle a vote too early."""
    for leading, trailing, num_left in [
        (5, 2, 8),
        (1, 0, 14),
        (9, 8, 15),
        (20, 3, 41),
        (31, 1, 32),
    ]:
        least = (leading - trailing + num_left + 1) // 2
        tail = betabinom.sf(least - 1, num_left, trailing + 1, leading + 1)
        assert float(chance_of_change(leading, trailing, num_left)) == pytest.approx(tail, abs=1e-9)
    assert not settled((31, 1, 0), 64, 0)


@pytest.mark.parametrize("num_samples", [3, 8, 15, 16, 25])
@pytest.mark.parametrize("error", [0.01, 0.05, 0.2, 0.45])
def test_no_row_of_any_share_errs_more_often_than_allowed(num_samples: int, error: float) -> None:
    chance = stopping_chance(num_samples, error)
    assert worst_error(num_samples, chance) <= error
    assert chance <= error


def test_rows_at_50_percent_are_where_the_uniform_prior_is_wrong() -> None:
    """Regression: 5 % allowed under a uniform prior were 7 % of rows at 50 %."""
    assert worst_error(15, Fraction(1, 20)) == pytest.approx(0.0741, abs=1e-4)
    assert worst_error(15, stopping_chance(15, 0.05)) == pytest.approx(0.0352, abs=1e-4)


@pytest.mark.parametrize(("num_samples", "error"), [(7, 0.1), (6, 0.2)])
def test_the_bound_holds_for_every_sequence_of_votes_counted_out(
    num_samples: int, error: float
) -> None:
    """Also where the two orders differ, which alternate, and where some answers are unreadable."""
    options: tuple[Slot | None, ...] = (1, 2, None)
    sequences = list(product(options, repeat=num_samples))
    changed = [
        verdict(votes[: samples_needed(votes, error)]) != verdict(votes) for votes in sequences
    ]
    codes = np.array([[options.index(vote) for vote in votes] for votes in sequences])
    found = []
    for one, two, unreadable in product(np.linspace(0, 1, 11), np.linspace(0, 1, 11), (0, 0.2)):
        odds = np.ones(len(sequences))
        for place, share in enumerate([one, two] * num_samples):
            if place < num_samples:
                read = 1 - unreadable
                kinds = np.array([read * share, read * (1 - share), unreadable])
                odds *= kinds[codes[:, place]]
        found.append(float(odds[changed].sum()))
    assert max(found) <= error
    at_half = worst_error(num_samples, stopping_chance(num_samples, error))
    assert max(found) == pytest.approx(at_half, abs=0.02)
    assert max(found) > 0.01


@pytest.mark.parametrize("error", [-0.1, 0.5, 1.0])
def test_an_error_of_half_is_no_vote(error: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 0.5\)"):
        next_samples([], 5, error)


@pytest.mark.parametrize("num_samples", [1, 3, 8, 15])
def test_expected_samples_are_the_negative_hypergeometric_mean(num_samples: int) -> None:
    threshold = num_samples // 2 + 1
    for majority in range(threshold, num_samples + 1):
        wanted = threshold * (num_samples + 1) / (majority + 1)
        found = expected_samples((num_samples - majority, majority, 0), 0)
        assert found == pytest.approx(wanted)
    if num_samples % 2 == 0:
        assert expected_samples((num_samples / 2, num_samples / 2, 0), 0) == num_samples


@pytest.mark.parametrize("error", [0.0, 0.1, 0.3])
def test_expected_samples_are_the_mean_over_every_sequence(error: float) -> None:
    for counts in [(4, 2, 0), (3, 3, 0), (2, 1, 3), (0, 5, 1), (0, 0, 4), (3, 2, 1), (1, 1, 4)]:
        votes = votes_of(*counts)
        sequences = list(permutations(votes))
        mean = sum(one_at_a_time(list(s), error) for s in sequences) / len(sequences)
        assert expected_samples(counts, error) == pytest.approx(mean)


def test_the_share_of_a_winner_is_r_minus_1_of_n_minus_1() -> None:
    for losing in range(8):
        one, two, unreadable = shares_at_stop((8, losing, 0), 15, 0)
        assert unreadable == 0
        assert one == pytest.approx(7 / (7 + losing))
        assert one + two == pytest.approx(1)


@pytest.mark.parametrize("error", [0.0, 0.1, 0.3])
def test_shares_at_the_stop_have_no_bias(error: float) -> None:
    for counts in [(4, 2, 0), (3, 3, 0), (2, 1, 3), (0, 5, 1), (3, 2, 1)]:
        votes = votes_of(*counts)
        found = [
            shares_at_stop(tally(s[: one_at_a_time(list(s), error)]), 6, error)
            for s in permutations(votes)
        ]
        assert np.mean(found, axis=0) == pytest.approx(np.array(counts) / 6)


def drawn_rows(num_samples: int, habit: float, unreadable: float) -> list[list[Slot | None]]:
    """Rows of a model that is mostly, not always, sure; ``habit`` is its pull to a slot, in logits."""
    generator = np.random.default_rng(0)
    rows = []
    for share in generator.beta(2, 1, 3000):
        logit, start = np.log(share / (1 - share)), generator.integers(2)
        row: list[Slot | None] = []
        for number in range(num_samples):
            pull = habit if (start + number) % 2 else -habit
            first: Slot = 1 if generator.random() < 1 / (1 + np.exp(-logit - pull)) else 2
            row.append(None if generator.random() < unreadable else first)
        rows.append(row)
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("num_samples", [8, 15])
@pytest.mark.parametrize(("habit", "unreadable"), [(0, 0), (0, 0.1), (1, 0), (1, 0.03)])
def test_what_is_used_is_predicted_within_a_point(
    num_samples: int, habit: float, unreadable: float
) -> None:
    rows = drawn_rows(num_samples, habit, unreadable)
    found = summary_of_rows(rows, num_samples, error=0)
    assert found.predicted_share == pytest.approx(found.used_share, abs=0.01)
    assert found.num_changed == 0
    assert 0.5 < found.used_share < 0.9


@pytest.mark.slow
def test_an_error_saves_more_and_changes_few_verdicts() -> None:
    rows = drawn_rows(15, 0, 0)
    exact, rough = summary_of_rows(rows, len(rows[0]), 0), summary_of_rows(rows, len(rows[0]), 0.05)
    assert rough.used_share < exact.used_share - 0.2
    assert rough.predicted_share == pytest.approx(rough.used_share, abs=0.01)
    assert rough.num_changed is not None and 0 < rough.num_changed < 0.05 * len(rows)


def answers_of(
    items: list[Item], rows: list[list[Slot | None]], orders: OrderMode, seed: int
) -> list[Answer]:
    """Answers that are these votes for responses, in the sequence of the schedule."""
    answers = []
    for item, votes in zip(items, rows, strict=True):
        schedule = sample_schedule(item, len(votes), orders, seed)
        for (order, index), vote in zip(schedule, votes, strict=True):
            shown = vote if vote is None or order == "stored" else (2 if vote == 1 else 1)
            answers.append(make_answer(item.key, order, index, shown))
    return answers[::-1]


def planned(num_samples: int, orders: OrderMode, seed: int) -> Conditions:
    """Exact adaptive voting over K samples."""
    return Conditions(
        "model", "pairs", "data", 1, {}, orders, num_samples, 1.0, 1.0, seed, "paper", adaptive=0.0
    )


@pytest.mark.slow
@pytest.mark.parametrize("orders", ["both", "random", "single"])
def test_a_run_that_stopped_early_tells_what_its_replay_does(orders: OrderMode) -> None:
    rows = drawn_rows(15, 0, 0.02)[:1500]
    items = [make_item(str(i)) for i in range(len(rows))]
    full = adaptive_summary(items, answers_of(items, rows, orders, 4), planned(15, orders, 4))
    assert full == summary_of_rows(rows, len(rows[0]), 0)
    short = [votes[: samples_needed(votes, 0)] for votes in rows]
    answers = answers_of(items, short, orders, 4)
    found = adaptive_summary(items, answers, planned(15, orders, 4))
    assert (found.replayed, found.num_changed) == (False, None)
    assert found.used_share == pytest.approx(full.used_share)
    assert found.majority_share == pytest.approx(full.majority_share, abs=0.01)
    assert found.predicted_share == pytest.approx(full.predicted_share, abs=0.01)
    first = always_asked(items, answers, planned(15, orders, 4))
    assert len(first) == 8 * len(rows)
    # The plain share of all answers leans to the winners of the rows; that of the first ones does not.
    share = [np.mean([a.response == 1 for a in found]) for found in (first, answers)]
    truth = np.mean([vote == 1 for votes in rows for vote in votes])
    assert abs(share[0] - truth) < 0.01 < abs(share[1] - truth)


def test_a_summary_by_hand() -> None:
    items = [make_item("a"), make_item("b"), make_item("not asked")]
    rows: list[list[Slot | None]] = [[1, 1, 2], [2, 1, None]]
    answers = answers_of(items[:2], rows, "both", 0)
    # a stops after 2 (expected: 2 * 4 / 3); b is a tie and takes 3.
    found = adaptive_summary(items, answers, planned(3, "both", 0))
    assert found.predicted_share == pytest.approx((8 / 3 + 3) / 6)
    assert replace(found, predicted_share=0) == AdaptiveSummary(
        num_rows=2,
        num_samples=3,
        error=0,
        replayed=True,
        used_share=5 / 6,
        predicted_share=0,
        majority_share=0.5,
        num_changed=0,
    )


def test_the_extra_sample_of_a_full_plan_is_no_part_of_the_vote() -> None:
    item = make_item("a")
    answers = [make_answer("a", order, i, 1) for order, i in full_plan(item, 3, "both", 0)]
    found = adaptive_summary([item], answers, planned(3, "both", 0))
    assert (found.replayed, found.num_samples, found.used_share) == (True, 3, 1.0)


def test_answers_off_the_schedule_and_unfinished_rows_are_refused() -> None:
    items = [make_item("a")]
    answers = answers_of(items, [[1, 1, 2, 2]], "stored", 0)
    with pytest.raises(ValueError, match="not the first ones of its schedule"):
        adaptive_summary(items, answers[:2], planned(5, "stored", 0))
    with pytest.raises(ValueError, match="not the first ones of its schedule"):
        adaptive_summary(items, [make_answer("a", "swapped", 0, 1)], planned(5, "stored", 0))
    with pytest.raises(ValueError, match="1 of 1 rows have too few samples for K = 5"):
        adaptive_summary(items, answers, planned(5, "stored", 0))
