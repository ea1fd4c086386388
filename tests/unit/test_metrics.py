"""Metrics obey the reduction that they carry."""

import pytest

from r1reward.metrics import Metric, last, maximum, mean, merge, plain, total


def test_means_merge_by_their_denominators() -> None:
    merged = merge([{"loss": mean(1.0, 3)}, {"loss": mean(5.0, 1)}])
    assert merged["loss"] == Metric(2.0, "mean", 4)


def test_merging_means_of_parts_is_the_mean_of_the_whole() -> None:
    values = [0.5, 1.5, -2.0, 7.0, 3.0]
    parts = [{"x": mean(values[:1])}, {"x": mean(values[1:4])}, {"x": mean(values[4:])}]
    merged = merge(parts)["x"]
    assert merged.value == pytest.approx(2.0)
    assert merged.weight == 5


def test_sums_add_maxima_compete_and_the_last_one_stays() -> None:
    merged = merge(
        [
            {"tokens": total(3), "peak": maximum(2.0), "lr": last(0.1)},
            {"tokens": total(4), "peak": maximum(-1.0), "lr": last(0.2)},
        ]
    )
    assert plain(merged) == {"lr": 0.2, "peak": 2.0, "tokens": 7.0}


def test_names_in_only_some_parts_survive() -> None:
    assert plain(merge([{"a": total(1)}, {"b": total(2)}, {}])) == {"a": 1.0, "b": 2.0}


def test_a_mean_over_nothing_adds_nothing_and_is_not_logged() -> None:
    nothing = mean([])
    assert merge([{"x": nothing}, {"x": mean([4.0])}])["x"] == Metric(4.0, "mean", 1)
    assert merge([{"x": mean([4.0])}, {"x": nothing}])["x"] == Metric(4.0, "mean", 1)
    assert plain(merge([{"x": nothing}, {"x": nothing}])) == {}


def test_a_sum_of_zero_is_logged() -> None:
    assert plain({"dropped": total(0)}) == {"dropped": 0.0}


def test_one_name_with_two_reductions_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="one name, one reduction"):
        merge([{"x": total(1)}, {"x": maximum(1)}])


def test_a_sequence_is_its_own_denominator() -> None:
    assert mean([1.0, 2.0, 6.0]) == Metric(3.0, "mean", 3.0)
    with pytest.raises(AssertionError):
        mean([1.0], weight=2)


def test_merging_leaves_its_parts_alone() -> None:
    first = {"x": total(1)}
    merge([first, {"x": total(2)}])
    assert first == {"x": Metric(1.0, "sum")}


def test_logged_names_are_sorted() -> None:
    assert list(plain({"b": last(1), "a": last(2)})) == ["a", "b"]
