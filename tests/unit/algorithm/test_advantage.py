"""Normalise, then filter: the paper's numbers and the fault of the released filter."""

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1reward.algorithm.advantage import (
    advantage_metrics,
    advantages_from_returns,
    filter_as_released,
    filter_outliers,
    standardize,
)
from r1reward.metrics import Name, numbers


def one_token_each(*returns: float) -> list[np.ndarray]:
    return [np.array([value]) for value in returns]


def flat(values: list[np.ndarray]) -> list[float]:
    return [float(x) for x in np.concatenate(values)]


def test_z_of_the_one_zero_among_255_ones_is_minus_15_97() -> None:
    z = flat(standardize(one_token_each(*[1.0] * 255, 0.0)))
    assert z[-1] == pytest.approx(-15.97, abs=0.005)
    assert z[-1] == pytest.approx(-math.sqrt(255), rel=1e-6)  # population sigma
    assert z[0] == pytest.approx(1 / math.sqrt(255), rel=1e-6)


def test_statistics_are_over_tokens_not_over_sequences() -> None:
    # Tokens 1, 1, 1, 5: mean 2, population sigma sqrt(3). Over sequences the mean would be 3.
    z = standardize([np.array([1.0, 1.0, 1.0]), np.array([5.0])])
    assert flat(z) == pytest.approx([-1 / math.sqrt(3)] * 3 + [math.sqrt(3)], rel=1e-6)


def test_equal_returns_have_advantage_zero() -> None:
    advantages = advantages_from_returns(
        one_token_each(0.7, 0.7, 0.7), normalize=True, filter_sigma=3.0
    )
    assert flat(advantages.values) == pytest.approx([0, 0, 0], abs=1e-6)
    assert all(keep.all() for keep in advantages.kept)


def test_a_filtered_token_becomes_zero_and_stays_in_its_sequence() -> None:
    returns = [np.array([1.0, 0.0]), *one_token_each(*[1.0] * 254)]
    advantages = advantages_from_returns(returns, normalize=True, filter_sigma=3.0)
    assert advantages.values[0].tolist() == [pytest.approx(1 / math.sqrt(255)), 0.0]
    assert advantages.kept[0].tolist() == [True, False]
    assert [len(values) for values in advantages.values] == [2] + [1] * 254


def test_statistics_are_not_taken_again_after_filtering() -> None:
    advantages = advantages_from_returns(
        one_token_each(*[1.0] * 255, 0.0), normalize=True, filter_sigma=3.0
    )
    assert flat(advantages.values)[:255] == pytest.approx([1 / math.sqrt(255)] * 255)


def test_without_filter_the_outlier_keeps_its_z() -> None:
    advantages = advantages_from_returns(
        one_token_each(*[1.0] * 255, 0.0), normalize=True, filter_sigma=None
    )
    assert flat(advantages.values)[-1] == pytest.approx(-math.sqrt(255))
    assert all(keep.all() for keep in advantages.kept)


def test_without_normalisation_the_filter_still_judges_by_z_and_raw_returns_survive() -> None:
    # z of the 5 is sqrt(255); a filter on raw values with sigma 6 would keep it.
    advantages = advantages_from_returns(
        one_token_each(*[1.0] * 255, 5.0), normalize=False, filter_sigma=6.0
    )
    assert flat(advantages.values) == [1.0] * 255 + [0.0]
    # And raw values far above 3 survive when their z is small.
    advantages = advantages_from_returns(
        one_token_each(100.0, 102.0), normalize=False, filter_sigma=3.0
    )
    assert flat(advantages.values) == [100.0, 102.0]


def test_neither_normalised_nor_filtered_is_the_return_itself() -> None:
    advantages = advantages_from_returns(
        one_token_each(1.0, -4.0), normalize=False, filter_sigma=None
    )
    assert flat(advantages.values) == [1.0, -4.0]


@pytest.mark.parametrize("num_right", [50, 75, 89])
def test_up_to_nine_tenths_right_every_wrong_answer_keeps_its_advantage(num_right: int) -> None:
    p = num_right / 100
    returns = one_token_each(*[1.0] * num_right, *[0.0] * (100 - num_right))
    advantages = advantages_from_returns(returns, normalize=True, filter_sigma=3.0)
    expected = [-math.sqrt(p / (1 - p))] * (100 - num_right)
    assert flat(advantages.values)[num_right:] == pytest.approx(expected, rel=1e-6)


def test_above_nine_tenths_right_every_wrong_answer_is_filtered_and_the_metrics_say_so() -> None:
    returns = one_token_each(*[1.0] * 95, *[0.0] * 5)
    advantages = advantages_from_returns(returns, normalize=True, filter_sigma=3.0)
    assert flat(standardize(returns))[-1] == pytest.approx(-math.sqrt(19), rel=1e-6)
    assert flat(advantages.values)[95:] == [0.0] * 5
    metrics = numbers(advantage_metrics(advantages, [True] * 95 + [False] * 5))
    assert metrics[Name.ADVANTAGE_FILTERED_WRONG_SHARE] == 1.0
    assert metrics[Name.ADVANTAGE_FILTERED_TOKEN_SHARE] == pytest.approx(0.05)
    assert metrics[Name.ADVANTAGE_NUM_WRONG] == 5
    assert metrics[Name.ADVANTAGE_MIN] == 0.0


def test_metrics_of_a_small_batch_by_hand() -> None:
    advantages = advantages_from_returns(
        one_token_each(1.0, 1.0, 1.0, -3.0), normalize=False, filter_sigma=None
    )
    metrics = advantage_metrics(advantages, [True, True, True, False])
    assert numbers(metrics) == {
        Name.ADVANTAGE_MEAN: 0.0,
        Name.ADVANTAGE_STD: pytest.approx(math.sqrt(3)),
        Name.ADVANTAGE_MIN: -3.0,
        Name.ADVANTAGE_MAX: 1.0,
        Name.ADVANTAGE_FILTERED_TOKEN_SHARE: 0.0,
        Name.ADVANTAGE_FILTERED_WRONG_SHARE: 0.0,
        Name.ADVANTAGE_NUM_WRONG: 1.0,
    }


def test_a_wrong_sample_counts_as_filtered_only_when_every_token_is() -> None:
    returns = [np.array([1.0, 0.0]), np.array([0.0]), *one_token_each(*[1.0] * 997)]
    advantages = advantages_from_returns(returns, normalize=True, filter_sigma=3.0)
    right = [False, False] + [True] * 997
    assert numbers(advantage_metrics(advantages, right))[Name.ADVANTAGE_FILTERED_WRONG_SHARE] == 0.5


def test_without_wrong_answers_their_filtered_share_is_left_out_of_the_log() -> None:
    advantages = advantages_from_returns(one_token_each(1.0, 2.0), normalize=True, filter_sigma=3.0)
    metrics = numbers(advantage_metrics(advantages, [True, True]))
    assert Name.ADVANTAGE_FILTERED_WRONG_SHARE not in metrics
    assert metrics[Name.ADVANTAGE_NUM_WRONG] == 0.0


def test_the_released_filters_fault_is_not_ours() -> None:
    """The authors compare the normalised value with raw mean +- 3.

    With rewards 2 and 0.5 and 75 % right, the mean is 1.625 and z of a wrong answer -1.73: below
    1.625 - 3 = -1.375, so theirs removes every wrong answer; by its own sigma it is no outlier.
    """
    returns = one_token_each(*[2.0] * 75, *[0.5] * 25)
    z_wrong = flat(standardize(returns))[-1]
    assert z_wrong == pytest.approx(-math.sqrt(3), rel=1e-6)
    assert z_wrong < np.concatenate(returns).mean() - 3, "theirs would filter it"
    advantages = advantages_from_returns(returns, normalize=True, filter_sigma=3.0)
    assert flat(advantages.values)[75:] == pytest.approx([-math.sqrt(3)] * 25, rel=1e-6)
    assert all(keep.all() for keep in advantages.kept)


@given(
    st.lists(
        st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=4), min_size=1, max_size=8
    ),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_permuting_the_sequences_permutes_the_advantages(
    returns: list[list[float]], normalize: bool, random: Random
) -> None:
    arrays = [np.array(values) for values in returns]
    order = list(range(len(arrays)))
    random.shuffle(order)
    # 2.9 standard deviations: no small integer batch sits exactly on it, where rounding decides.
    straight = advantages_from_returns(arrays, normalize=normalize, filter_sigma=2.9)
    permuted = advantages_from_returns(
        [arrays[i] for i in order], normalize=normalize, filter_sigma=2.9
    )
    spread = float(np.concatenate(arrays).std())
    for place, index in enumerate(order):
        # Rounding of the sums is divided by the spread, which may be tiny.
        tolerance = 1e-9 + (1e-13 / (spread + 1e-8) if normalize else 0.0)
        assert permuted.values[place] == pytest.approx(straight.values[index], abs=tolerance)


# Filter rules ---------------------------------------------------------------------------------


def seventy_five_right() -> list[np.ndarray]:
    """The paper's rewards, 2 and 0.5, of 75 right and 25 wrong traces: mean 1.625, sigma 0.6495."""
    return one_token_each(*[2.0] * 75, *[0.5] * 25)


def test_the_authors_rule_drops_every_wrong_answer_of_a_batch_that_is_three_quarters_right() -> (
    None
):
    advantages = advantages_from_returns(
        seventy_five_right(), normalize=True, filter_sigma=3.0, filter_rule="authors"
    )
    # z of a right answer is 1/sqrt(3), of a wrong one -sqrt(3), which is below 1.625 - 3.
    assert flat(advantages.values) == pytest.approx([1 / math.sqrt(3)] * 75 + [0.0] * 25, rel=1e-6)
    assert [keep.all() for keep in advantages.kept] == [True] * 75 + [False] * 25


def test_the_authors_rule_begins_to_bite_between_68_and_69_per_cent() -> None:
    def num_kept_wrong(num_right: int) -> int:
        returns = one_token_each(*[2.0] * num_right, *[0.5] * (100 - num_right))
        advantages = advantages_from_returns(
            returns, normalize=True, filter_sigma=3.0, filter_rule="authors"
        )
        return sum(bool(keep.all()) for keep in advantages.kept[num_right:])

    assert (num_kept_wrong(68), num_kept_wrong(69)) == (32, 0)


def test_keeping_both_signs_clips_the_wrong_answers_that_the_rule_would_remove_together() -> None:
    returns = one_token_each(*[1.0] * 95, *[0.0] * 5)  # z of a wrong answer is -sqrt(19) = -4.36
    advantages = advantages_from_returns(
        returns, normalize=True, filter_sigma=3.0, filter_rule="keep_both_signs"
    )
    assert flat(advantages.values) == pytest.approx([1 / math.sqrt(19)] * 95 + [-3.0] * 5, rel=1e-6)
    metrics = numbers(advantage_metrics(advantages, [True] * 95 + [False] * 5))
    assert metrics[Name.ADVANTAGE_FILTERED_WRONG_SHARE] == 0.0


def test_keeping_both_signs_holds_for_right_answers_too() -> None:
    returns = one_token_each(*[0.0] * 95, *[1.0] * 5)
    advantages = advantages_from_returns(
        returns, normalize=True, filter_sigma=3.0, filter_rule="keep_both_signs"
    )
    assert flat(advantages.values)[95:] == [3.0] * 5


def test_an_outlier_is_removed_as_ever_while_its_sign_has_other_tokens() -> None:
    """One of -9 is far outside, but twenty of -0.3 go on speaking for the negatives."""
    returns = one_token_each(*[0.1] * 175, *[-0.3] * 20, -9.0)
    ours = advantages_from_returns(
        returns, normalize=True, filter_sigma=3.0, filter_rule="keep_both_signs"
    )
    papers = advantages_from_returns(returns, normalize=True, filter_sigma=3.0)
    assert flat(ours.values) == flat(papers.values)
    assert ours.values[-1] == 0.0


@pytest.mark.parametrize(("sigma", "kept"), [(1.5, False), (2.0, True)])
def test_the_threshold_is_the_callers(sigma: float, kept: bool) -> None:
    advantages = advantages_from_returns(seventy_five_right(), normalize=True, filter_sigma=sigma)
    wrong = -math.sqrt(3) if kept else 0.0
    assert flat(advantages.values)[75:] == pytest.approx([wrong] * 25, rel=1e-6)


def test_the_authors_bound_is_the_callers() -> None:
    # 1.625 - 4 is below -sqrt(3).
    advantages = advantages_from_returns(
        seventy_five_right(), normalize=True, filter_sigma=4.0, filter_rule="authors"
    )
    assert flat(advantages.values)[75:] == pytest.approx([-math.sqrt(3)] * 25, rel=1e-6)


def test_the_threshold_of_keeping_both_signs_is_the_callers() -> None:
    advantages = advantages_from_returns(
        seventy_five_right(), normalize=True, filter_sigma=1.5, filter_rule="keep_both_signs"
    )
    assert flat(advantages.values)[75:] == [-1.5] * 25
    # Mean 0, sigma sqrt(1.375): z are 0.85, -0.43 and -2.13, which is outside 2 but not alone.
    returns = one_token_each(*[1.0] * 4, *[-0.5] * 3, -2.5)
    advantages = advantages_from_returns(
        returns, normalize=True, filter_sigma=2.0, filter_rule="keep_both_signs"
    )
    spread = math.sqrt(1.375)
    expected = [1 / spread] * 4 + [-0.5 / spread] * 3 + [0.0]
    assert flat(advantages.values) == pytest.approx(expected, rel=1e-6)


# Masked sequences -----------------------------------------------------------------------------


def test_a_masked_sequence_has_advantage_0_and_is_in_no_statistic() -> None:
    # Counted are 1, 1, 3, 3: mean 2, sigma 1. With the 100s in it everything would be otherwise.
    returns = [np.array([1.0, 1.0]), np.array([100.0, 100.0]), np.array([3.0, 3.0])]
    counted = [True, False, True]
    advantages = advantages_from_returns(returns, normalize=True, filter_sigma=3.0, counted=counted)
    assert flat(advantages.values) == pytest.approx([-1, -1, 0, 0, 1, 1], rel=1e-6)
    metrics = numbers(advantage_metrics(advantages, [False, False, True]))
    assert metrics[Name.ADVANTAGE_NUM_WRONG] == 1
    assert metrics[Name.ADVANTAGE_STD] == pytest.approx(1)
    assert metrics[Name.ADVANTAGE_FILTERED_TOKEN_SHARE] == 0


def test_masked_tokens_do_not_speak_for_their_sign() -> None:
    returns = one_token_each(*[1.0] * 95, *[0.0] * 5, 0.7)
    counted = [True] * 100 + [False]  # 0.7 has z = -1.15, inside; but it is not there
    advantages = advantages_from_returns(
        returns, normalize=True, filter_sigma=3.0, filter_rule="keep_both_signs", counted=counted
    )
    assert flat(advantages.values)[95:] == [-3.0] * 5 + [0.0]


def test_a_batch_that_is_masked_whole_teaches_nothing() -> None:
    advantages = advantages_from_returns(
        one_token_each(1.0, 2.0), normalize=True, filter_sigma=3.0, counted=[False, False]
    )
    assert flat(advantages.values) == [0.0, 0.0]
    assert numbers(advantage_metrics(advantages, [True, False])) == {Name.ADVANTAGE_NUM_WRONG: 0.0}


def test_both_filters_keep_what_is_on_their_bounds() -> None:
    """|z| <= 3, and of the released one 0.5 - 3 <= z <= 0.5 + 3; these numbers are exact in binary."""
    above = 2**-40
    (kept,) = filter_outliers([np.array([-3 - above, -3, 0, 3, 3 + above])], 3.0)
    assert kept.tolist() == [False, True, True, True, False]
    (kept,) = filter_as_released([np.array([-2.5 - above, -2.5, 0, 3.5, 3.5 + above])], 0.5, 3.0)
    assert kept.tolist() == [False, True, True, True, False]
