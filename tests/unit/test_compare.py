"""McNemar's exact test and bootstraps over groups, against values worked out by hand."""

from dataclasses import replace
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1reward.evaluation.both_orders import PairOutcome, bootstrap
from r1reward.evaluation.compare import (
    McNemar,
    all_right,
    bootstrap_by_group,
    mcnemar,
    mcnemar_by_order,
    sign_test,
)


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


def outcome(pair_id: str, stored: bool, swapped: bool) -> PairOutcome:
    return PairOutcome(pair_id, 1, 1 if stored else 2, 2 if swapped else 1, 4, 5)


def test_each_order_has_its_own_test() -> None:
    before = [outcome(str(i), stored=False, swapped=True) for i in range(6)]
    after = [outcome(str(i), stored=True, swapped=i > 1) for i in range(6)]
    tests = mcnemar_by_order(before, after)
    assert tests == {"stored": McNemar(6, 0, 2 / 64), "swapped": McNemar(0, 2, 0.5)}


def test_other_pairs_cannot_be_compared() -> None:
    before = [outcome("a", True, True)]
    with pytest.raises(ValueError, match="different pairs"):
        mcnemar_by_order(before, [replace(before[0], pair_id="b")])
    with pytest.raises(ValueError):
        mcnemar([True], [True, False])


def test_all_right_is_one_flag_a_group() -> None:
    flags = all_right([True, False, True, True, True], ["b", "a", "b", "a", "c"])
    assert flags.tolist() == [1.0, 0.0, 1.0]  # b, a, c: in order of first appearance


def test_the_mean_is_over_items_and_the_interval_over_groups() -> None:
    # One group of 8 right items, eight groups of one wrong item each.
    values = [1.0] * 8 + [0.0] * 8
    groups = ["big"] * 8 + [f"small {i}" for i in range(8)]
    interval = bootstrap_by_group(values, groups, 2000, seed=0)
    assert interval.value == 0.5
    # The big group is missing from a resample with probability (8/9)^9 = 0.35: the low end is 0.
    assert interval.low == 0.0
    # Three draws of it (24 right of 30) lie between the percentiles 93.1 and 98.8 of B(9, 1/9).
    assert interval.high == pytest.approx(24 / 30)
    assert bootstrap(np.array(values), 2000, seed=0).low > 0.2


def test_groups_of_one_give_the_plain_bootstrap() -> None:
    values = np.array([1.0] * 30 + [0.0] * 20)
    groups = [str(i) for i in range(50)]
    plain = bootstrap(values, 4000, seed=1)
    grouped = bootstrap_by_group(values, groups, 4000, seed=1)
    assert grouped.value == plain.value
    assert (grouped.low, grouped.high) == pytest.approx((plain.low, plain.high), abs=0.021)


def test_repeating_every_item_of_a_group_does_not_narrow_the_interval() -> None:
    values, groups = [1.0] * 20 + [0.0] * 20, [str(i) for i in range(40)]
    once = bootstrap_by_group(values, groups, 4000, seed=0)
    five_times = bootstrap_by_group(values * 5, groups * 5, 4000, seed=0)
    assert five_times == once
    assert bootstrap(np.array(values * 5), 4000, seed=0).low > once.low + 0.05


def test_the_interval_repeats_from_its_seed() -> None:
    values, groups = list(np.linspace(0, 1, 30)), [str(i // 3) for i in range(30)]
    assert bootstrap_by_group(values, groups, 200, 3) == bootstrap_by_group(values, groups, 200, 3)
    assert bootstrap_by_group(values, groups, 200, 3) != bootstrap_by_group(values, groups, 200, 4)
