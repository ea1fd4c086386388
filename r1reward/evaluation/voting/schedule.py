"""Which samples of a row are asked for, and in which sequence: a pure function of row and seed.

A row's samples form one fixed sequence. A larger K only adds to its end, and adaptive voting stops
somewhere in it, so samples that exist are never the wrong ones.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from random import Random

from r1reward.data.order import derive_seed
from r1reward.evaluation.items import Item
from r1reward.recipe.choices import OrderMode
from r1reward.types import Order


def sample_schedule(
    item: Item, num_samples: int, orders: OrderMode, seed: int
) -> list[tuple[Order, int]]:
    """Returns (order, sample index) of the first K samples; the index counts within its order.

    ``both`` alternates, a coin of the row deciding which order is first; ``single`` stays with the
    order of that coin; ``random`` throws one for every sample; ``authors`` shows the preferred
    response in slot 1; ``parity`` goes by the length of the responses.
    """
    seen: Counter[Order] = Counter()
    schedule = []
    for order in islice(order_sequence(item, orders, seed), num_samples):
        schedule.append((order, seen[order]))
        seen[order] += 1
    return schedule


def full_plan(
    item: Item, num_samples: int, orders: OrderMode, seed: int
) -> list[tuple[Order, int]]:
    """Returns the samples of a row whose voting@K is wanted exactly, without adaptive voting.

    With both orders an odd K takes one sample more, so that either order can have the extra vote.
    """
    extra = 1 if orders == "both" and num_samples % 2 else 0
    return sample_schedule(item, num_samples + extra, orders, seed)


def order_sequence(item: Item, orders: OrderMode, seed: int) -> Iterator[Order]:
    """Yields the order of every sample, without end."""
    coins = Random(derive_seed(seed, "orders", item.key))
    order = coin_order(coins)
    while True:
        match orders:
            case "both":
                yield order
                order = "swapped" if order == "stored" else "stored"
            case "single":
                yield order
            case "random":
                yield order
                order = coin_order(coins)
            case "stored":
                yield "stored"
            case "authors":
                yield item.preferred_first
            case "parity":
                yield item.parity_order


def coin_order(coins: Random) -> Order:
    """Returns an order by a coin."""
    return "stored" if coins.random() < 0.5 else "swapped"
