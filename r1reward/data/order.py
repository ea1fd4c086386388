"""Which pairs a step sees, in which order: pure functions of the seed, so a resume needs no state."""

import hashlib
import random
from collections.abc import Collection
from functools import lru_cache
from math import gcd

from r1reward.types import Order


@lru_cache(maxsize=2)
def epoch_permutation(num_pairs: int, seed: int, epoch: int) -> list[int]:
    """Returns the indices of all pairs in the order of an epoch."""
    indices = list(range(num_pairs))
    random.Random(f"{seed}-{epoch}").shuffle(indices)
    return indices


@lru_cache(maxsize=2)
def epoch_without_repeats(num_pairs: int, pairs_per_step: int, seed: int, epoch: int) -> list[int]:
    """Returns the order of an epoch, but for pairs that its first step has from the epoch before.

    Each of them changes places with the next pair that the step does not have. A step may have at most
    ``num_pairs`` pairs.
    """
    # The newest epoch that begins with a step: nothing before it matters.
    start = epoch - epoch % (pairs_per_step // gcd(num_pairs, pairs_per_step))
    indices = list(epoch_permutation(num_pairs, seed, start))
    for later in range(start + 1, epoch + 1):
        # Its first step has so many pairs of the epoch before.
        num_before = later * num_pairs % pairs_per_step
        shown = set(indices[-num_before:])
        indices = list(epoch_permutation(num_pairs, seed, later))
        make_way(indices, shown, pairs_per_step - num_before)
    return indices


def make_way(indices: list[int], shown: Collection[int], num_here: int) -> None:
    """Exchanges those of the first ``num_here`` indices that are ``shown`` already for later ones."""
    free = (offset for offset in range(num_here, len(indices)) if indices[offset] not in shown)
    for offset in range(num_here):
        if indices[offset] in shown:
            other = next(free)
            indices[offset], indices[other] = indices[other], indices[offset]


def step_pairs(
    num_pairs: int, pairs_per_step: int, seed: int, step: int, *, no_repeats: bool = False
) -> list[tuple[int, Order]]:
    """(pair index, order) of every prompt of a step.

    Every epoch is a new permutation; a coin decides which pairs it shows swapped, and a pair shown as
    stored in one epoch is shown swapped in the next, so that a slot habit never pays. A step that
    ends one epoch and begins the next may have a pair in both orders; with ``no_repeats`` it has each
    pair once, for who shows both orders of it anyway.
    """
    chosen: list[tuple[int, Order]] = []
    for position in range(step * pairs_per_step, (step + 1) * pairs_per_step):
        epoch, offset = divmod(position, num_pairs)
        if no_repeats:
            indices = epoch_without_repeats(num_pairs, pairs_per_step, seed, epoch)
        else:
            indices = epoch_permutation(num_pairs, seed, epoch)
        index = indices[offset]
        swapped = (random.Random(f"{seed}-order-{index}").random() < 0.5) ^ bool(epoch % 2)
        chosen.append((index, "swapped" if swapped else "stored"))
    return chosen


def derive_seed(*parts: object) -> int:
    """Returns a seed for one purpose, by hash: neighbouring numbers would give related streams."""
    text = "\x00".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
