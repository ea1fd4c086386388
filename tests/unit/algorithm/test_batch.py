"""Cutting into ranks and micro-batches: nothing lost, nothing doubled, budgets kept."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1reward.algorithm.batch import (
    BatchPlan,
    BatchSize,
    RankBatch,
    cut_micro_batches,
    split_across_ranks,
)
from r1reward.types import TraceSample

LENGTHS = st.lists(st.integers(1, 100), max_size=40)


def flattened(groups: list[list[int]]) -> list[int]:
    return sorted(index for group in groups for index in group)


@given(LENGTHS, st.integers(1, 6))
def test_every_sequence_goes_to_exactly_one_rank(lengths: list[int], num_ranks: int) -> None:
    ranks = split_across_ranks(lengths, num_ranks)
    assert len(ranks) == num_ranks
    assert flattened(ranks) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 6))
def test_no_rank_is_empty_when_there_are_enough_sequences(
    lengths: list[int], num_ranks: int
) -> None:
    filled = sum(bool(rank) for rank in split_across_ranks(lengths, num_ranks))
    assert filled == min(num_ranks, len(lengths))


@given(LENGTHS, st.integers(1, 6))
def test_ranks_differ_by_at_most_one_sequence_of_work(lengths: list[int], num_ranks: int) -> None:
    loads = [sum(lengths[i] for i in rank) for rank in split_across_ranks(lengths, num_ranks)]
    assert max(loads) - min(loads) <= max(lengths, default=0)


def test_the_longest_sequences_are_dealt_first() -> None:
    # 9 to rank 0, 7 to rank 1, 4 to rank 1 (11), 3 to rank 0 (12).
    assert split_across_ranks([3, 9, 7, 4], 2) == [[1, 0], [2, 3]]


def test_equal_lengths_are_dealt_in_their_order() -> None:
    assert split_across_ranks([5, 5, 5, 5], 2) == [[0, 2], [1, 3]]


@given(LENGTHS, st.integers(100, 400))
def test_every_sequence_is_in_exactly_one_micro_batch(lengths: list[int], budget: int) -> None:
    assert flattened(cut_micro_batches(lengths, budget)) == list(range(len(lengths)))


@given(LENGTHS, st.integers(100, 400))
def test_rows_times_longest_row_stay_within_the_budget(lengths: list[int], budget: int) -> None:
    for batch in cut_micro_batches(lengths, budget):
        assert batch, "no micro-batch is empty"
        assert len(batch) * max(lengths[i] for i in batch) <= budget


@given(LENGTHS, st.integers(100, 400))
def test_neighbouring_micro_batches_could_not_have_taken_one_more(
    lengths: list[int], budget: int
) -> None:
    batches = cut_micro_batches(lengths, budget)
    for batch, following in pairwise(batches):
        assert (len(batch) + 1) * lengths[following[0]] > budget


def test_padding_counts_against_the_budget() -> None:
    # 2 + 3 + 4 tokens would fit 9, but three rows of 4 do not.
    assert cut_micro_batches([4, 2, 3], 9) == [[1, 2], [0]]
    assert cut_micro_batches([4, 2, 3], 12) == [[1, 2, 0]]


def test_packed_tokens_just_add_up() -> None:
    assert cut_micro_batches([4, 2, 3], 9, packing=True) == [[1, 2, 0]]
    assert cut_micro_batches([4, 2, 3], 8, packing=True) == [[1, 2], [0]]
    assert cut_micro_batches([4, 2, 3], 4, packing=True) == [[1], [2], [0]]


@given(LENGTHS, st.integers(100, 400))
def test_packed_micro_batches_keep_the_budget_and_every_sequence(
    lengths: list[int], budget: int
) -> None:
    batches = cut_micro_batches(lengths, budget, packing=True)
    assert flattened(batches) == list(range(len(lengths)))
    assert all(0 < sum(lengths[i] for i in batch) <= budget for batch in batches)
    for batch, following in pairwise(batches):
        assert sum(lengths[i] for i in batch) + lengths[following[0]] > budget


def test_a_sequence_over_the_budget_is_an_error_that_says_what_to_raise() -> None:
    with pytest.raises(ValueError, match=r"11 tokens .* of 10: raise learner.micro_batch_tokens"):
        cut_micro_batches([3, 11], 10)
    assert cut_micro_batches([10], 10) == [[0]]


@given(LENGTHS)
def test_cuts_depend_on_the_lengths_alone(lengths: list[int]) -> None:
    assert split_across_ranks(lengths, 3) == split_across_ranks(tuple(lengths), 3)
    assert cut_micro_batches(lengths, 100) == cut_micro_batches(tuple(lengths), 100)


@given(st.lists(st.integers(1, 100), min_size=4, max_size=40), st.integers(1, 4), st.booleans())
def test_results_of_a_plan_come_back_in_the_order_of_the_batch(
    lengths: list[int], num_ranks: int, packing: bool
) -> None:
    plan = BatchPlan.cut(lengths, num_ranks, 200, packing)
    samples = [TraceSample((index,), (0,) * length, ()) for index, length in enumerate(lengths)]
    dealt = plan.deal(samples)
    assert len(dealt) == num_ranks
    assert {batch.size for batch in dealt} == {BatchSize(len(lengths), sum(lengths))}
    assert plan.num_rounds == max(len(batch.micro_batches) for batch in dealt)
    results = [[[s.prompt_token_ids[0] for s in cut] for cut in b.micro_batches] for b in dealt]
    assert plan.put_back(results) == list(range(len(lengths)))


def test_a_rank_with_fewer_micro_batches_repeats_its_first() -> None:
    samples = [TraceSample((), (0,) * length, ()) for length in (2, 3)]
    batch = RankBatch([[sample] for sample in samples], 4, BatchSize.of(samples))
    assert [(cut[0].num_tokens, padding) for cut, padding in batch.rounds()] == [
        (2, False),
        (3, False),
        (2, True),
        (2, True),
    ]


def test_a_plan_cuts_the_share_of_each_rank() -> None:
    # Rank 0 has 9 and 3, rank 1 has 7 and 4.
    assert BatchPlan.cut([3, 9, 7, 4], 2, 9, packing=False).by_rank == [[[0], [1]], [[3], [2]]]
    assert BatchPlan.cut([3, 9, 7, 4], 2, 11, packing=True).by_rank == [[[0], [1]], [[3, 2]]]


@given(LENGTHS.filter(bool))
def test_the_plan_of_one_rank_is_the_cut_of_the_whole_batch(lengths: list[int]) -> None:
    assert BatchPlan.cut(lengths, 1, 150, False).by_rank == [cut_micro_batches(lengths, 150)]


def test_every_rank_needs_a_sample() -> None:
    with pytest.raises(ValueError, match=r"1 sample\(s\) for 2 learner ranks: give at least one"):
        BatchPlan.cut([5], 2, 100, packing=False)


def test_a_loss_is_divided_by_the_sequences_or_the_tokens_of_the_batch() -> None:
    size = BatchSize.of([TraceSample((1, 2), (0,) * length, ()) for length in (2, 3)])
    assert (size.denominator("sequence"), size.denominator("token")) == (2, 5)
