"""Which samples of a row are asked for, under every mode of orders."""

import pytest

from r1reward.evaluation.voting.schedule import full_plan, sample_schedule
from r1reward.recipe.choices import OrderMode
from tests.rows import make_item

ITEMS = [make_item(str(i), label=1 if i % 3 else 2) for i in range(400)]
MODES: list[OrderMode] = ["both", "single", "stored", "authors", "random"]


def test_both_orders_alternate_from_a_coin_of_the_row() -> None:
    assert sample_schedule(ITEMS[0], 4, "both", seed=0) in (
        [("stored", 0), ("swapped", 0), ("stored", 1), ("swapped", 1)],
        [("swapped", 0), ("stored", 0), ("swapped", 1), ("stored", 1)],
    )
    firsts = [sample_schedule(item, 1, "both", seed=0)[0][0] for item in ITEMS]
    assert 160 < firsts.count("stored") < 240


def test_a_single_order_is_a_coin_of_the_row() -> None:
    plans = [sample_schedule(item, 3, "single", seed=0) for item in ITEMS]
    assert all(plan == [(plan[0][0], i) for i in range(3)] for plan in plans)
    assert 160 < sum(plan[0][0] == "stored" for plan in plans) < 240


def test_a_random_order_is_a_coin_of_the_sample() -> None:
    plans = [sample_schedule(item, 10, "random", seed=0) for item in ITEMS]
    num_stored = [sum(order == "stored" for order, _ in plan) for plan in plans]
    assert 1850 < sum(num_stored) < 2150  # 4000 coins
    assert len(set(num_stored)) > 6
    # Second samples do not follow the first ones.
    assert 160 < sum(plan[0][0] == plan[1][0] for plan in plans) < 240


def test_fixed_orders() -> None:
    assert sample_schedule(ITEMS[0], 2, "stored", seed=0) == [("stored", 0), ("stored", 1)]
    assert sample_schedule(ITEMS[0], 1, "authors", seed=0) == [("swapped", 0)]  # label 2
    assert sample_schedule(ITEMS[1], 1, "authors", seed=0) == [("stored", 0)]


@pytest.mark.parametrize("mode", MODES)
def test_a_larger_k_only_adds_and_every_place_is_a_different_one(mode: OrderMode) -> None:
    for item in ITEMS[:50]:
        longest = sample_schedule(item, 16, mode, seed=3)
        assert all(sample_schedule(item, k, mode, seed=3) == longest[:k] for k in range(17))
        assert len(set(longest)) == 16
        for order in ("stored", "swapped"):
            indices = [index for found, index in longest if found == order]
            assert indices == list(range(len(indices)))


@pytest.mark.parametrize("mode", ["both", "single", "random"])
def test_the_seed_decides(mode: OrderMode) -> None:
    one, two = ([sample_schedule(i, 5, mode, seed=s) for i in ITEMS] for s in (1, 2))
    assert 0 < sum(a == b for a, b in zip(one, two, strict=True)) < 250


def test_the_full_plan_has_an_even_number_of_both_orders() -> None:
    plan = full_plan(ITEMS[0], 15, "both", seed=0)
    assert sorted(plan) == [(order, i) for order in ("stored", "swapped") for i in range(8)]
    assert plan[:15] == sample_schedule(ITEMS[0], 15, "both", seed=0)
    assert len(full_plan(ITEMS[0], 14, "both", seed=0)) == 14
    assert len(full_plan(ITEMS[0], 15, "random", seed=0)) == 15
