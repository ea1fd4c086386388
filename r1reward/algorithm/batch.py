"""Cutting a batch into ranks and micro-batches: pure functions of the sequence lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from r1reward.types import TraceSample

S = TypeVar("S", bound=TraceSample)
T = TypeVar("T")


@dataclass(frozen=True)
class BatchSize:
    """A train batch over all micro-batches and ranks: what a micro-batch's loss is divided by.

    ``num_tokens`` counts response tokens.
    """

    num_sequences: int
    num_tokens: int

    @classmethod
    def of(cls, samples: Sequence[TraceSample]) -> BatchSize:
        return cls(len(samples), sum(len(sample.response_token_ids) for sample in samples))

    def denominator(self, loss_mean: Literal["sequence", "token"]) -> int:
        return self.num_tokens if loss_mean == "token" else self.num_sequences


@dataclass(frozen=True)
class RankBatch(Generic[S]):
    """What one rank runs of a batch: its samples in micro-batches, and the size of the whole batch.

    ``num_rounds`` is the number of micro-batches of the rank that has most of them.
    """

    micro_batches: list[list[S]]
    num_rounds: int
    size: BatchSize

    def rounds(self) -> Iterator[tuple[list[S], bool]]:
        """A micro-batch for every round, and whether it is padding.

        A rank with fewer micro-batches repeats its first one, so that collectives stay in step.
        """
        for index in range(self.num_rounds):
            is_padding = index >= len(self.micro_batches)
            yield self.micro_batches[0 if is_padding else index], is_padding


@dataclass(frozen=True)
class BatchPlan:
    """Which samples of a batch each rank runs together.

    ``by_rank`` holds a list for each rank, in it a list for each micro-batch, and in that the samples'
    indices in the batch. Every sample stands in exactly one micro-batch.
    """

    by_rank: list[list[list[int]]]

    @classmethod
    def cut(
        cls, lengths: Sequence[int], num_ranks: int, token_budget: int, packing: bool
    ) -> BatchPlan:
        """The plan for samples of these lengths in tokens; a micro-batch holds ``token_budget`` tokens.

        Raises ``ValueError`` if a rank would have nothing to run, because it could not join the
        collectives, and for a sample that is longer than the budget.
        """
        if len(lengths) < num_ranks:
            raise ValueError(
                f"{len(lengths)} sample(s) for {num_ranks} learner ranks: give at least one a rank, or "
                "lower learner.num_ranks"
            )
        by_rank = []
        for indices in split_across_ranks(lengths, num_ranks):
            cuts = cut_micro_batches([lengths[i] for i in indices], token_budget, packing)
            by_rank.append([[indices[i] for i in cut] for cut in cuts])
        return cls(by_rank)

    @property
    def num_rounds(self) -> int:
        """Micro-batches of the rank that has most of them: so many collectives every rank joins."""
        return max(len(micro_batches) for micro_batches in self.by_rank)

    def deal(self, samples: Sequence[S]) -> list[RankBatch[S]]:
        """What every rank runs of these samples."""
        size = BatchSize.of(samples)
        return [
            RankBatch([[samples[i] for i in cut] for cut in cuts], self.num_rounds, size)
            for cuts in self.by_rank
        ]

    def put_back(self, results: Sequence[Sequence[Sequence[T]]]) -> list[T]:
        """A result for each sample, by rank and micro-batch, put into the order of the batch."""
        by_index = {
            index: result
            for cuts, results_of_rank in zip(self.by_rank, results, strict=True)
            for cut, results_of_cut in zip(cuts, results_of_rank, strict=True)
            for index, result in zip(cut, results_of_cut, strict=True)
        }
        return [by_index[index] for index in range(len(by_index))]


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
