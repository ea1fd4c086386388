"""The words that carry an invariant of their own."""

from dataclasses import replace

import numpy as np

from r1reward.types import PreferencePair, TrainingSample, WeightBucket, WeightsHandle

PAIR = PreferencePair("How many cats?", (b"png",), "Two.", "Three.", preferred=2)


def test_swapping_moves_the_responses_and_the_label_and_nothing_else() -> None:
    swapped = PAIR.swapped()
    assert (swapped.response_1, swapped.response_2, swapped.preferred) == ("Three.", "Two.", 1)
    assert (swapped.question, swapped.images) == (PAIR.question, PAIR.images)
    assert swapped.swapped() == PAIR


def test_pair_id_is_of_the_content_wherever_it_is_stored() -> None:
    elsewhere = replace(PAIR, origin="b.jsonl row 7", source="b", category="count", difficulty=3)
    assert elsewhere.pair_id == PAIR.pair_id
    assert len(PAIR.pair_id) == 16


def test_pair_id_changes_with_every_part_of_the_content() -> None:
    others = [
        replace(PAIR, question="How many dogs?"),
        replace(PAIR, images=(b"gif",)),
        replace(PAIR, images=()),
        replace(PAIR, images=(b"png", b"png")),
        replace(PAIR, response_1="Too."),
        replace(PAIR, response_2="Tree."),
        replace(PAIR, preferred=1),
        PAIR.swapped(),
    ]
    assert len({PAIR.pair_id, *(other.pair_id for other in others)}) == 9


def test_pair_id_does_not_run_neighbouring_fields_together() -> None:
    assert replace(PAIR, response_1="ab", response_2="c").pair_id != (
        replace(PAIR, response_1="a", response_2="bc").pair_id
    )


def test_pair_id_accepts_a_lone_surrogate() -> None:
    assert len(replace(PAIR, question="\ud800").pair_id) == 16


def test_sample_counts_prompt_and_response_tokens() -> None:
    nothing = np.zeros(3)
    sample = TrainingSample((1, 2), (3, 4, 5), (), nothing, None, nothing, None)
    assert sample.num_tokens == 5


def test_handle_counts_the_bytes_of_every_bucket() -> None:
    buckets = tuple(WeightBucket(("w",), ((n,),), ("uint8",), "", n) for n in (3, 4))
    assert WeightsHandle(1, buckets, (None, None)).num_bytes == 7
