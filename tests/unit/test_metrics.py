"""Metrics obey the reduction that they carry."""

import pytest

from r1reward.metrics import Metric, Name, last, maximum, mean, merge, numbers, total
from tools.metrics_page import PAGE, metrics_page, read_meanings

LOSS, TOKENS, ASKED = Name.LEARNER_LOSS, Name.ROLLOUT_NUM_TOKENS, Name.JUDGE_NUM_ASKED


def test_means_merge_by_their_denominators() -> None:
    merged = merge([{LOSS: mean(1.0, 3)}, {LOSS: mean(5.0, 1)}])
    assert merged[LOSS] == Metric(2.0, "mean", 4)


def test_merging_means_of_parts_is_the_mean_of_the_whole() -> None:
    values = [0.5, 1.5, -2.0, 7.0, 3.0]
    parts = [{LOSS: mean(values[:1])}, {LOSS: mean(values[1:4])}, {LOSS: mean(values[4:])}]
    merged = merge(parts)[LOSS]
    assert merged.value == pytest.approx(2.0)
    assert merged.weight == 5


def test_sums_add_maxima_compete_and_the_last_one_stays() -> None:
    merged = merge(
        [
            {
                Name.ROLLOUT_NUM_TOKENS: total(3),
                Name.ROLLOUT_LENGTH_MAX: maximum(2.0),
                Name.LEARNER_LR: last(0.1),
            },
            {
                Name.ROLLOUT_NUM_TOKENS: total(4),
                Name.ROLLOUT_LENGTH_MAX: maximum(-1.0),
                Name.LEARNER_LR: last(0.2),
            },
        ]
    )
    assert numbers(merged) == {
        Name.LEARNER_LR: 0.2,
        Name.ROLLOUT_LENGTH_MAX: 2.0,
        Name.ROLLOUT_NUM_TOKENS: 7.0,
    }


def test_names_in_only_some_parts_survive() -> None:
    assert numbers(merge([{TOKENS: total(1)}, {ASKED: total(2)}, {}])) == {
        "judge/num_asked": 2.0,
        "rollout/num_tokens": 1.0,
    }


def test_a_mean_over_nothing_adds_nothing_and_is_not_logged() -> None:
    nothing = mean([])
    assert merge([{LOSS: nothing}, {LOSS: mean([4.0])}])[LOSS] == Metric(4.0, "mean", 1)
    assert merge([{LOSS: mean([4.0])}, {LOSS: nothing}])[LOSS] == Metric(4.0, "mean", 1)
    assert numbers(merge([{LOSS: nothing}, {LOSS: nothing}])) == {}


def test_a_sum_of_zero_is_logged() -> None:
    assert numbers({TOKENS: total(0)}) == {"rollout/num_tokens": 0.0}


def test_one_name_with_two_reductions_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="one name, one reduction"):
        merge([{TOKENS: total(1)}, {TOKENS: maximum(1)}])


def test_a_value_that_reduces_otherwise_than_its_name_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="learner/loss is declared as mean"):
        numbers({LOSS: total(1)})


def test_every_name_says_what_it_is_and_logs_as_it_is_called() -> None:
    for name in Name:
        assert read_meanings()[name.name].endswith(".")
        assert str(name) == name.value == name.name.lower().replace("_", "/", 1)
        assert name.reduction in ("mean", "sum", "max", "last")


def test_a_sequence_is_its_own_denominator() -> None:
    assert mean([1.0, 2.0, 6.0]) == Metric(3.0, "mean", 3.0)
    with pytest.raises(AssertionError):
        mean([1.0], weight=2)


def test_merging_leaves_its_parts_alone() -> None:
    first = {TOKENS: total(1)}
    merge([first, {TOKENS: total(2)}])
    assert first == {TOKENS: Metric(1.0, "sum")}


def test_logged_names_are_sorted() -> None:
    assert list(numbers({TOKENS: total(1), ASKED: total(2)})) == [
        "judge/num_asked",
        "rollout/num_tokens",
    ]


def test_the_page_of_metrics_is_the_one_that_is_made() -> None:
    assert PAGE.read_text() == metrics_page()
    assert all(f"`{name}`" in metrics_page() for name in Name)
