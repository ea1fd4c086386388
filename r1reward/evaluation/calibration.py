"""Does a model know when it is right? Its confidence, and its votes' agreement, against accuracy.

Bins hold about equally many samples, and equal values share a bin: a model's confidences crowd just
below 1, where bins of equal width would be a single one, and vote shares take few values.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.items import Item
from r1reward.evaluation.voting.votes import count_votes

NUM_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Samples with a confidence from ``low`` to ``high``: how sure they were, how often right."""

    low: float
    high: float
    num_samples: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Reliability:
    """``expected_error`` (ECE): mean of |accuracy - confidence| of the bins, weighted by samples.

    Noise alone makes it positive, about 0.4 / sqrt(samples a bin) for a model that is calibrated.
    """

    num_samples: int
    expected_error: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True)
class Calibration:
    """``confidence`` is that of readable answers that have one, None where none has.

    ``vote_share`` is the share of a row's votes that its majority has, against the majority being
    right; a tie is half right, a row without a vote is left out.
    """

    confidence: Reliability | None
    vote_share: Reliability


def calibration(answers: Sequence[Answer], items: Sequence[Item]) -> Calibration | None:
    """Returns the calibration of confidences and vote shares; None if no answer can be read."""
    labels = {item.key: item.pair.preferred for item in items}
    sure = [
        (answer.confidence, float(answer.response == labels[answer.item]))
        for answer in answers
        if answer.choice is not None and answer.confidence is not None
    ]
    shares = []
    for row in count_votes(items, answers):
        if num_votes := row.votes_right + row.votes_wrong:
            majority = max(row.votes_right, row.votes_wrong)
            right = 0.5 if row.votes_right == row.votes_wrong else majority == row.votes_right
            shares.append((majority / num_votes, float(right)))
    if not shares:
        return None
    return Calibration(reliability(sure) if sure else None, reliability(shares))


def reliability(samples: Sequence[tuple[float, float]]) -> Reliability:
    """Returns the bins and their error. ``samples`` are (confidence, right), right being 0, 1, or
    between for a share.
    """
    confidence, right = np.array(sorted(samples)).T
    # Every tenth of the samples ends at one of their values; equal ones stay on the same side.
    cuts = np.quantile(confidence, np.arange(1, NUM_BINS) / NUM_BINS, method="inverted_cdf")
    ends = np.unique(np.searchsorted(confidence, cuts, side="right"))
    ends = ends[ends < len(confidence)]
    bins = [
        Bin(float(sure[0]), float(sure[-1]), len(sure), float(sure.mean()), float(share.mean()))
        for sure, share in zip(np.split(confidence, ends), np.split(right, ends), strict=True)
    ]
    gap = sum(b.num_samples * abs(b.accuracy - b.confidence) for b in bins)
    return Reliability(len(samples), gap / len(samples), tuple(bins))
