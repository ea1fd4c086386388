"""Data order as a pure function of the seed."""

from collections import Counter

import pytest

from r1reward.data.order import (
    derive_seed,
    epoch_permutation,
    epoch_without_repeats,
    step_pairs,
)
from r1reward.types import Order


def steps(num_steps: int, seed: int = 0) -> list[tuple[int, Order]]:
    """10 pairs, 4 a step: five steps are two epochs, the third crosses over."""
    return [item for step in range(num_steps) for item in step_pairs(10, 4, seed, step)]


def test_an_epoch_covers_every_pair_once() -> None:
    shown = [index for index, _ in steps(5)]
    assert sorted(shown[:10]) == list(range(10))
    assert sorted(shown[10:]) == list(range(10))


def test_epochs_are_shuffled_and_differ() -> None:
    shown = [index for index, _ in steps(5)]
    assert shown[:10] != list(range(10))
    assert shown[:10] != shown[10:]


def test_a_pair_is_shown_in_the_other_order_in_the_next_epoch() -> None:
    shown = steps(10)
    first, second, third = dict(shown[:10]), dict(shown[10:20]), dict(shown[20:30])
    for index in range(10):
        assert {first[index], second[index]} == {"stored", "swapped"}
    assert third == first


def test_every_pair_in_every_order_exactly_once_in_two_epochs() -> None:
    counts = Counter(steps(5))
    assert len(counts) == 20
    assert set(counts.values()) == {1}


def test_about_half_of_an_epoch_is_swapped() -> None:
    orders = Counter(order for _, order in step_pairs(4000, 4000, 7, 0))
    assert abs(orders["swapped"] - 2000) < 4 * 1000**0.5  # four standard deviations


def test_a_step_depends_on_its_number_and_the_seed_alone() -> None:
    straight = [step_pairs(10, 4, 3, step) for step in range(6)]
    epoch_permutation.cache_clear()
    backwards = [step_pairs(10, 4, 3, step) for step in reversed(range(6))]
    assert backwards[::-1] == straight


def test_seeds_give_other_orders() -> None:
    assert steps(5, seed=0) != steps(5, seed=1)
    assert [index for index, _ in steps(5, seed=0)] != [index for index, _ in steps(5, seed=1)]
    swaps = [[order for _, order in sorted(step_pairs(64, 64, seed, 0))] for seed in (0, 1)]
    assert swaps[0] != swaps[1]


def test_derived_seeds_are_distinct_and_repeat() -> None:
    parts = [
        (seed, step, f"prompt-{i}", 0) for seed in (0, 1) for step in range(20) for i in range(50)
    ]
    seeds = [derive_seed(*part) for part in parts]
    assert len(set(seeds)) == len(parts)
    assert seeds == [derive_seed(*part) for part in parts]
    assert all(0 <= seed < 2**48 for seed in seeds)


def test_derived_seeds_do_not_run_neighbouring_parts_together() -> None:
    assert derive_seed("ab", "c") != derive_seed("a", "bc")
    assert derive_seed(1, 23) != derive_seed(12, 3)
    assert derive_seed(1) != derive_seed(1, "")


def without_repeats(num_pairs: int, pairs_per_step: int, num_steps: int) -> list[list[int]]:
    """The pairs of each step."""
    return [
        [index for index, _ in step_pairs(num_pairs, pairs_per_step, 0, step, no_repeats=True)]
        for step in range(num_steps)
    ]


@pytest.mark.parametrize("num_pairs", range(5, 16))
@pytest.mark.parametrize("pairs_per_step", range(1, 6))
def test_no_step_repeats_a_pair_and_every_epoch_still_has_all(
    num_pairs: int, pairs_per_step: int
) -> None:
    """Whole epochs, and every way in which steps can lie across their ends."""
    shown = without_repeats(num_pairs, pairs_per_step, 4 * num_pairs)
    assert all(len(set(step)) == pairs_per_step for step in shown)
    walk = [index for step in shown for index in step]
    for start in range(0, len(walk) - num_pairs + 1, num_pairs):
        assert sorted(walk[start : start + num_pairs]) == list(range(num_pairs))


def test_only_a_repeated_pair_changes_places() -> None:
    """Ten pairs, four a step: the third step has two of the first epoch and two of the second."""
    changed = 0
    for seed in range(40):
        plain = epoch_permutation(10, seed, 1)
        mended = epoch_without_repeats(10, 4, seed, 1)
        shown = epoch_permutation(10, seed, 0)[-2:]
        num_repeated = sum(index in shown for index in plain[:2])
        assert sum(a != b for a, b in zip(plain, mended, strict=True)) == 2 * num_repeated
        assert all(a == b for a, b in zip(plain[:2], mended, strict=False) if a not in shown)
        changed += num_repeated
    assert changed > 5


def test_the_first_epoch_and_epochs_that_end_with_a_step_are_as_ever() -> None:
    for seed in range(20):
        assert epoch_without_repeats(10, 4, seed, 0) == epoch_permutation(10, seed, 0)
        assert epoch_without_repeats(10, 4, seed, 2) == epoch_permutation(10, seed, 2)
        assert epoch_without_repeats(12, 4, seed, 1) == epoch_permutation(12, seed, 1)


def test_without_repeats_a_step_depends_on_its_number_and_the_seed_alone() -> None:
    straight = without_repeats(7, 5, 30)
    epoch_without_repeats.cache_clear()
    for step in reversed(range(30)):
        shown = [index for index, _ in step_pairs(7, 5, 0, step, no_repeats=True)]
        assert shown == straight[step]


def test_the_order_of_a_seed_is_the_same_in_every_version() -> None:
    """Numbers of recipes that are published, and runs that are resumed, depend on it."""
    assert [step_pairs(6, 4, 0, step) for step in range(3)] == [
        [(0, "swapped"), (5, "stored"), (3, "stored"), (1, "stored")],
        [(4, "swapped"), (2, "stored"), (4, "stored"), (3, "swapped")],
        [(0, "stored"), (5, "swapped"), (2, "swapped"), (1, "swapped")],
    ]
    assert derive_seed(0, 1, "a-stored", 0) == 120235083778920


def test_without_repeats_a_run_resumes_after_any_number_of_epochs() -> None:
    """Regression: it ended in Python's limit of recursion, a call for every epoch before."""
    epoch_without_repeats.cache_clear()
    step = step_pairs(1025, 1024, 0, 900, no_repeats=True)
    assert len({index for index, _ in step}) == 1024
