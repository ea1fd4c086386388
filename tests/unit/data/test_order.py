"""Data order as a pure function of the seed."""

from collections import Counter

from r1reward.data.order import derive_seed, epoch_permutation, step_pairs
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
