"""The schedule of the learning rate, with every rate worked out by hand."""

from __future__ import annotations

import math

import pytest

from r1reward.algorithm.learning_rate import learning_rate
from r1reward.recipe.learner_sections import LearnerSection


def rates(num_updates: int, **settings: float) -> list[float]:
    section = LearnerSection.model_validate({"lr": 1.0, "warmup_share": 0.0} | settings)
    return [learning_rate(update, num_updates, section) for update in range(num_updates)]


def test_warm_up_rises_along_a_line_and_its_first_update_moves() -> None:
    """A quarter of twenty updates: five steps of a fifth, the fifth at the peak."""
    assert rates(20, warmup_share=0.25)[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_warm_up_is_rounded_up_to_whole_updates() -> None:
    assert rates(10, warmup_share=0.11)[:3] == pytest.approx([0.5, 1.0, 1.0])


def test_the_rate_falls_along_a_cosine_to_its_floor() -> None:
    """Seven updates: the angle is 0, 30, 60, ... 180 degrees."""
    root = math.sqrt(3) / 2
    cosines = [1, root, 0.5, 0, -0.5, -root, -1]
    wanted = [0.1 + 0.9 * (1 + cosine) / 2 for cosine in cosines]
    assert rates(7, min_lr_ratio=0.1) == pytest.approx(wanted)


def test_without_a_floor_the_last_update_does_nothing() -> None:
    assert rates(3, min_lr_ratio=0.0) == pytest.approx([1.0, 0.5, 0.0], abs=1e-15)


def test_a_floor_of_one_keeps_the_rate() -> None:
    assert rates(5, min_lr_ratio=1.0) == [1.0] * 5


def test_the_rate_is_a_share_of_the_peak() -> None:
    section = LearnerSection(lr=4e-6, warmup_share=0.5, min_lr_ratio=0.25)
    found = [learning_rate(update, 4, section) for update in range(4)]
    assert found == pytest.approx([2e-6, 4e-6, 4e-6, 1e-6])


@pytest.mark.parametrize("num_updates", [1, 2])
def test_runs_of_one_or_two_updates_have_a_rate(num_updates: int) -> None:
    """One update is at the peak; of two the second is at the floor."""
    assert rates(num_updates, min_lr_ratio=0.1) == pytest.approx([1.0, 0.1][:num_updates])


def test_warm_up_may_leave_no_room_for_the_cosine() -> None:
    assert rates(2, warmup_share=1.0) == pytest.approx([0.5, 1.0])
    assert rates(2, warmup_share=0.5, min_lr_ratio=0.1) == pytest.approx([1.0, 1.0])


def test_an_update_after_the_last_stays_at_the_floor() -> None:
    section = LearnerSection(lr=1.0, warmup_share=0.0, min_lr_ratio=0.1)
    assert learning_rate(50, 10, section) == pytest.approx(0.1)
