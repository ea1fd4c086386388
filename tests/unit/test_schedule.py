"""The learning rate at the updates where it is known exactly."""

from itertools import pairwise

import pytest

from r1reward.algorithm.schedule import learning_rate
from r1reward.config import LearnerSection


def settings(warmup_share: float = 0.1, min_lr_ratio: float = 0.1) -> LearnerSection:
    return LearnerSection(lr=1.0, warmup_share=warmup_share, min_lr_ratio=min_lr_ratio)


def rates(num_updates: int, section: LearnerSection) -> list[float]:
    return [learning_rate(update, num_updates, section) for update in range(num_updates)]


def test_warm_up_is_linear_and_its_first_update_already_moves() -> None:
    assert rates(40, settings())[:5] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_cosine_is_halfway_between_rate_and_floor_in_the_middle() -> None:
    # Warm-up 1 of 12 updates, so the cosine runs over updates 1 ... 11 and has its middle at 6.
    section = settings(warmup_share=1 / 12)
    assert learning_rate(1, 12, section) == pytest.approx(1.0)
    assert learning_rate(6, 12, section) == pytest.approx(0.55)


def test_the_last_update_is_at_the_floor() -> None:
    assert learning_rate(39, 40, settings()) == pytest.approx(0.1)
    assert learning_rate(39, 40, settings(min_lr_ratio=0.0)) == pytest.approx(0.0)


def test_after_warm_up_the_rate_only_falls() -> None:
    later = rates(40, settings())[3:]
    assert all(old >= new for old, new in pairwise(later))
    assert later[0] > later[-1]


def test_a_floor_of_one_keeps_the_rate_constant_after_warm_up() -> None:
    assert rates(10, settings(min_lr_ratio=1.0, warmup_share=0.0)) == pytest.approx([1.0] * 10)


def test_without_warm_up_the_first_update_has_the_full_rate() -> None:
    assert learning_rate(0, 10, settings(warmup_share=0.0)) == pytest.approx(1.0)


def test_a_single_update_runs_at_the_full_rate() -> None:
    assert learning_rate(0, 1, settings()) == pytest.approx(1.0)


def test_updates_past_the_planned_end_stay_at_the_floor() -> None:
    assert learning_rate(500, 40, settings()) == pytest.approx(0.1)
