"""Intervals of means in clusters: against exact ones, theory, and values worked out by hand."""

import numpy as np
import pytest
from scipy.stats import beta, binom

from r1reward.evaluation.intervals import (
    all_right,
    difference_interval,
    mean_intervals,
    share_interval,
)
from studies.coverage import Cell, cells, measure, measure_difference


def of_counts(num_right: int, num_all: int) -> tuple[float, float]:
    interval = share_interval([1.0] * num_right + [0.0] * (num_all - num_right))
    assert interval.value == num_right / num_all
    return interval.low, interval.high


def test_in_the_middle_it_has_the_width_of_theory() -> None:
    low, high = of_counts(140, 200)
    half_width = 1.96 * (0.7 * 0.3 / 200) ** 0.5
    assert low == pytest.approx(0.7 - half_width, abs=0.005)
    assert high == pytest.approx(0.7 + half_width, abs=0.005)


def test_yes_and_no_lie_close_to_the_exact_binomial() -> None:
    """Half a row that was not seen, where Clopper and Pearson add a whole one; and Student's quantile."""
    for num_right, num_all in [(25, 50), (45, 50), (120, 200), (180, 200), (197, 200)]:
        low, high = of_counts(num_right, num_all)
        num_wrong = num_all - num_right
        exact = (
            beta.ppf(0.025, num_right, num_wrong + 1),
            beta.ppf(0.975, num_right + 1, num_wrong),
        )
        assert exact[0] - 0.001 < low < exact[0] + 0.01
        assert exact[1] - 0.01 < high < exact[1] + 0.001


def test_near_the_end_it_has_a_width_on_both_sides() -> None:
    """Regression: 199 of 200 printed [98.5, 100.0], 200 of 200 [100.0, 100.0]."""
    low, high = of_counts(199, 200)
    assert (low, high) == pytest.approx((0.9767, 0.99988), abs=1e-4)
    low, high = of_counts(200, 200)
    assert (low, high) == pytest.approx((0.98743, 1.0), abs=1e-4)
    assert of_counts(0, 200) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("value", [0.0, 0.25, 0.5, 1.0])
def test_equal_values_have_a_width(value: float) -> None:
    interval = share_interval([value] * 50)
    assert interval.value == value
    assert interval.high - interval.low > 0.02
    assert 0 <= interval.low <= value <= interval.high <= 1


def test_one_row_or_group_alone_tells_nothing() -> None:
    for values, groups in [([1.0], ["a"]), ([1.0, 0.5, 0.0], ["a", "a", "a"])]:
        interval = share_interval(values, groups)
        assert (interval.low, interval.high) == (0.0, 1.0)
    interval = difference_interval([0.5], ["a"])
    assert (interval.value, interval.low, interval.high) == (0.5, -1.0, 1.0)


@pytest.mark.parametrize("num_rows", [50, 200])
@pytest.mark.parametrize("rate", [0.5, 0.9, 0.99])
def test_the_coverage_of_yes_and_no_is_exact(num_rows: int, rate: float) -> None:
    """Without simulation: every number of right rows, with its probability."""
    counts = np.arange(num_rows + 1)
    right = (np.arange(num_rows) < counts[:, None]).astype(float)
    _, low, high = mean_intervals(right, np.ones_like(right))
    covered = binom.pmf(counts, num_rows, rate)[(low <= rate) & (rate <= high)].sum()
    assert 0.935 <= covered <= (0.97 if rate <= 0.9 else 1)


@pytest.mark.parametrize(
    "cell",
    [
        Cell(50, 0.9, 8, grouped=True),
        Cell(200, 0.99, 8, grouped=False),
        Cell(50, 0.99, 1, grouped=False),
        Cell(200, 0.5, 1, grouped=True),
    ],
    ids=str,
)
def test_the_coverage_of_clusters(cell: Cell) -> None:
    """The hardest cells of docs/intervals.md, in fewer runs: bounds are 3 standard errors wider."""
    assert cell in set(cells())
    found = measure(cell, 2000)
    assert 0.92 <= found.share <= (0.982 if cell.rate <= 0.9 else 1)
    assert found.narrowest > 0


def test_the_coverage_of_a_difference() -> None:
    found = measure_difference(Cell(50, 0.98, 1, grouped=False), 0.01, 2000)
    assert found.share > 0.92
    assert found.narrowest > 0


def test_all_right_is_one_flag_a_group() -> None:
    flags = all_right([True, False, True, True, True], ["b", "a", "b", "a", "c"])
    assert flags.tolist() == [0.0, 1.0, 1.0]  # a, b, c: in the order of their names


def test_the_mean_is_over_items_and_the_interval_over_groups() -> None:
    # One group of 8 right items, eight groups of one wrong item each.
    values = [1.0] * 8 + [0.0] * 8
    groups = ["big"] * 8 + [f"small {i}" for i in range(8)]
    interval = share_interval(values, groups)
    assert interval.value == 0.5
    assert interval.low < 0.05
    assert interval.high > 0.95
    assert share_interval(values).low > 0.2


def test_repeating_every_item_of_a_group_does_not_narrow_the_interval() -> None:
    values, groups = [1.0] * 20 + [0.0] * 20, [str(i) for i in range(40)]
    once = share_interval(values, groups)
    five_times = share_interval(values * 5, groups * 5)
    assert (five_times.low, five_times.high) == pytest.approx((once.low, once.high))
    assert share_interval(values * 5).low > once.low + 0.05


def test_pairs_of_a_group_that_go_together_widen_the_interval() -> None:
    values = ([1.0] * 4 + [0.0] * 4) * 10
    together = share_interval(values, [str(i // 4) for i in range(80)])
    apart = share_interval(values, [str(i % 4 + 4 * (i // 8)) for i in range(80)])
    alone = share_interval(values)
    assert together.high - together.low > 1.7 * (alone.high - alone.low)
    assert apart.high - apart.low < 0.5 * (alone.high - alone.low)


def test_a_difference_is_turned_round_with_its_models() -> None:
    groups = [str(i) for i in range(40)]
    gained = [0.5, 1.0, -0.5, *[0.0] * 37]
    up = difference_interval(gained, groups)
    down = difference_interval([-gain for gain in gained], groups)
    assert (up.value, up.low, up.high) == pytest.approx((-down.value, -down.high, -down.low))
    assert up.value == pytest.approx(0.025)
    assert -0.06 < up.low < 0 < up.high < 0.12


def test_a_difference_of_nothing_is_not_known_to_be_nothing() -> None:
    interval = difference_interval([0.0] * 50, [str(i) for i in range(50)])
    assert (interval.low, interval.high) == pytest.approx((-0.0376, 0.0376), abs=1e-4)
