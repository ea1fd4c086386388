"""Reliability of confidences and of vote shares, with bins counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r1reward.evaluation.calibration import Bin, calibration, reliability
from tests.rows import make_answer, make_answers, make_item


def test_bins_and_error_by_hand() -> None:
    # Two values, 4 and 6 samples: (4 * |0.5 - 0.75| + 6 * |1 - 0.5|) / 10 = 0.4.
    samples = [(0.5, 1.0), (0.5, 1.0), (0.5, 1.0), (0.5, 0.0)] + [(1.0, 1.0), (1.0, 0.0)] * 3
    found = reliability(samples)
    assert found.bins == (Bin(0.5, 0.5, 4, 0.5, 0.75), Bin(1.0, 1.0, 6, 1.0, 0.5))
    assert found.num_samples == 10
    assert found.expected_error == pytest.approx(0.4)


def test_distinct_confidences_fill_ten_equal_bins() -> None:
    found = reliability([(i / 200, 1.0) for i in range(1, 201)])
    assert [b.num_samples for b in found.bins] == [20] * 10
    assert (found.bins[0].low, found.bins[0].high) == (1 / 200, 20 / 200)
    assert found.expected_error == pytest.approx(1 - 100.5 / 200)


@given(
    st.lists(
        st.tuples(st.sampled_from([0.2, 0.5, 0.9, 0.99, 1.0]), st.sampled_from([0.0, 1.0])),
        min_size=1,
        max_size=60,
    )
)
def test_equal_values_share_a_bin_and_nothing_is_lost(samples: list[tuple[float, float]]) -> None:
    found = reliability(samples)
    assert sum(b.num_samples for b in found.bins) == len(samples)
    assert all(one.high < two.low for one, two in zip(found.bins, found.bins[1:]))
    assert all(b.low - 1e-12 <= b.confidence <= b.high + 1e-12 for b in found.bins)
    mean = sum(b.num_samples * b.accuracy for b in found.bins) / len(samples)
    assert mean == pytest.approx(sum(right for _, right in samples) / len(samples))
    assert 0 <= found.expected_error <= 1


def test_a_calibrated_model_has_the_error_of_noise_alone() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1.0, 10_000)
    right = generator.random(10_000) < confidence
    found = reliability(list(zip(confidence.tolist(), right.astype(float).tolist(), strict=True)))
    assert 0 < found.expected_error < 0.4 / 1000**0.5 * 1.5


def test_answers_count_as_shown_and_vote_shares_as_majorities() -> None:
    items = [make_item("a", label=1), make_item("b", label=2), make_item("c")]
    answers = [
        make_answer("a", "stored", 0, 1, 0.8),  # right
        make_answer("a", "swapped", 0, 1, 0.8),  # wrong: slot 1 shows response 2
        make_answer("b", "swapped", 0, 1, 0.8),  # right
        make_answer("b", "stored", 0, None, 0.1),  # not readable: no confidence in any response
        *make_answers("c", [None], [None]),
    ]
    found = calibration(answers, items)
    assert found is not None and found.confidence is not None
    (only,) = found.confidence.bins
    assert (only.low, only.high, only.num_samples) == (0.8, 0.8, 3)
    assert only.accuracy == pytest.approx(2 / 3)
    # a is a tie, half right at a share of 1/2; b is right at 1; c has no vote.
    assert found.vote_share.bins == (Bin(0.5, 0.5, 1, 0.5, 0.5), Bin(1.0, 1.0, 1, 1.0, 1.0))
    assert found.vote_share.expected_error == 0.0


def test_without_confidences_or_answers() -> None:
    found = calibration(make_answers("a", [2, 2, 1], []), [make_item("a")])
    assert found is not None and found.confidence is None
    assert found.vote_share.bins == (Bin(2 / 3, 2 / 3, 1, 2 / 3, 0.0),)
    assert calibration(make_answers("a", [None], [None]), [make_item("a")]) is None
