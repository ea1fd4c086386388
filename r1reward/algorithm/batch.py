"""Cutting a batch into ranks and micro-batches: pure functions of the sequence lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from r1reward.types import TraceSample

S = TypeVar("S")


@dataclass(frozen=True)
class BatchSize:
    """A train batch over all micro-batches and ranks: what a micro-batch's loss is divided by.

    ``num_tokens`` counts response tokens.
    """

    num_sequences: int
    num_tokens: int

    def denominator(self, loss_mean: Literal["sequence", "token"]) -> int:
        return self.num_tokens if loss_mean == "token" else self.num_sequences


def split_across_ranks(lengths: Sequence[int], num_ranks: int) -> list[list[int]]:
    """Indices for each rank, longest first to the rank with the fewest tokens. Deterministic.

    Every rank gets at least one sequence when there are enough of them.
    """
    ranks: list[list[int]] = [[] for _ in range(num_ranks)]
    tokens = [0] * num_ranks
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        rank = min(range(num_ranks), key=lambda r: (tokens[r], r))
        ranks[rank].append(index)
        tokens[rank] += lengths[index]
    return ranks


def cut_micro_batches(
    lengths: Sequence[int], token_budget: int, packing: bool = False
) -> list[list[int]]:
    """Group indices of similar length so that rows * longest row <= budget, padding included.

    Packed samples need no padding: their lengths just add up.
    Raises ``ValueError`` for a sequence that is longer than the budget on its own.
    """
    batches: list[list[int]] = []
    used = 0
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        length = lengths[index]
        if length > token_budget:
            raise ValueError(
                f"a sequence of {length} tokens does not fit a micro-batch of {token_budget}: "
                "raise learner.micro_batch_tokens"
            )
        # Sorted ascending, so this sequence is the longest of the batch it joins.
        rows = len(batches[-1]) if batches else 0
        joined = used + length if packing else (rows + 1) * length
        if rows and joined <= token_budget:
            batches[-1].append(index)
            used += length
        else:
            batches.append([index])
            used = length
    return batches


def pick(items: Sequence[S], cuts: Sequence[Sequence[int]]) -> list[list[S]]:
    """The items of every micro-batch."""
    return [[items[i] for i in cut] for cut in cuts]


def put_back(cuts: Sequence[Sequence[int]], picked: Sequence[Sequence[S]]) -> dict[int, S]:
    """What ``pick`` took apart, by the place it came from."""
    return {
        place: item
        for cut, items in zip(cuts, picked, strict=True)
        for place, item in zip(cut, items, strict=True)
    }


def num_response_tokens(samples: Sequence[TraceSample]) -> int:
    return sum(len(sample.response_token_ids) for sample in samples)
