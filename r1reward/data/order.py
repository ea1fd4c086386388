"""Which pairs a step sees, in which order: pure functions of the seed, so a resume needs no state."""

from __future__ import annotations

import hashlib
import random
from functools import lru_cache

from r1reward.types import Order


@lru_cache(maxsize=2)
def epoch_permutation(num_pairs: int, seed: int, epoch: int) -> list[int]:
    """Returns the indices of all pairs in the order of an epoch."""
    indices = list(range(num_pairs))
    random.Random(f"{seed}-{epoch}").shuffle(indices)
    return indices


def step_pairs(
    num_pairs: int, pairs_per_step: int, seed: int, step: int
) -> list[tuple[int, Order]]:
    """(pair index, order) of every prompt of a step.

    Every epoch is a new permutation; a coin decides which pairs it shows swapped, and a pair shown as
    stored in one epoch is shown swapped in the next, so that a slot habit never pays.
    """
    chosen: list[tuple[int, Order]] = []
    for position in range(step * pairs_per_step, (step + 1) * pairs_per_step):
        epoch, offset = divmod(position, num_pairs)
        index = epoch_permutation(num_pairs, seed, epoch)[offset]
        swapped = (random.Random(f"{seed}-order-{index}").random() < 0.5) ^ bool(epoch % 2)
        chosen.append((index, "swapped" if swapped else "stored"))
    return chosen


def derive_seed(*parts: object) -> int:
    """Returns a seed for one purpose, by hash: neighbouring numbers would give related streams."""
    text = "\x00".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
