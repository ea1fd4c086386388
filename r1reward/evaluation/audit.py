"""What a score may owe to length rather than to quality."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LengthAudit:
    """Accuracy by which response is longer, and what picking by length alone would score.

    Lengths are in characters. An accuracy over no pair is None. Responses of equal length earn a
    picker half: 57.4 % for "pick the shorter" on VL-RewardBench counts its 11 equal pairs as right
    and is 56.9 % here; MM-RLHF-RewardBench's 71.8 % for "pick the longer" counts 2 as wrong: 72.4 %.
    """

    num_preferred_longer: int
    num_preferred_shorter: int
    num_equal: int
    accuracy_preferred_longer: float | None
    accuracy_preferred_shorter: float | None
    pick_longer: float
    pick_shorter: float


def length_audit(extra_chars: Sequence[int], accuracies: Sequence[float]) -> LengthAudit:
    """``extra_chars`` says by how much each preferred response is longer than the other one."""
    longer = [a for extra, a in zip(extra_chars, accuracies, strict=True) if extra > 0]
    shorter = [a for extra, a in zip(extra_chars, accuracies, strict=True) if extra < 0]
    num_equal = len(extra_chars) - len(longer) - len(shorter)
    return LengthAudit(
        num_preferred_longer=len(longer),
        num_preferred_shorter=len(shorter),
        num_equal=num_equal,
        accuracy_preferred_longer=sum(longer) / len(longer) if longer else None,
        accuracy_preferred_shorter=sum(shorter) / len(shorter) if shorter else None,
        pick_longer=(len(longer) + num_equal / 2) / len(extra_chars),
        pick_shorter=(len(shorter) + num_equal / 2) / len(extra_chars),
    )
