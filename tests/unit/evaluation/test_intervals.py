"""Bootstraps over values and over groups of them, against theory and values worked out by hand."""

import numpy as np
import pytest

from r1reward.evaluation.intervals import all_right, bootstrap, bootstrap_by_group


def test_bootstrap_interval_has_the_width_of_theory() -> None:
    values = np.array([1.0] * 140 + [0.0] * 60)
    interval = bootstrap(values, num_samples=4000, seed=0)
    half_width = 1.96 * (0.7 * 0.3 / 200) ** 0.5
    assert interval.value == pytest.approx(0.7)
    assert interval.low == pytest.approx(0.7 - half_width, abs=0.008)
    assert interval.high == pytest.approx(0.7 + half_width, abs=0.008)


def test_bootstrap_interval_covers_the_truth_about_19_times_in_20() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for seed in range(200):
        values = (generator.random(100) < 0.6).astype(float)
        interval = bootstrap(values, num_samples=300, seed=seed)
        covered += interval.low <= 0.6 <= interval.high
    assert 180 <= covered <= 199


def test_bootstrap_repeats_from_its_seed_and_is_certain_of_a_constant() -> None:
    values = np.arange(20.0)
    assert bootstrap(values, 100, seed=3) == bootstrap(values, 100, seed=3)
    assert bootstrap(values, 100, seed=3) != bootstrap(values, 100, seed=4)
    constant = bootstrap(np.full(5, 0.25), 100, seed=0)
    assert (constant.value, constant.low, constant.high) == (0.25, 0.25, 0.25)


def test_all_right_is_one_flag_a_group() -> None:
    flags = all_right([True, False, True, True, True], ["b", "a", "b", "a", "c"])
    assert flags.tolist() == [0.0, 1.0, 1.0]  # a, b, c: in the order of their names


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
