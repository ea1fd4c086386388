"""What a score may owe to the slot, to length or to how answers were read, rather than to quality."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.voting.votes import RowVotes


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


@dataclass(frozen=True)
class Audit:
    """Shares over answers, and over the rows that were asked in both orders.

    ``slot_1_rate`` is over readable answers. ``flip_rate`` is how often samples of the two orders name
    the same slot, hence different responses; ``both_right_share`` how often both are right, 25 % by
    chance. None: there was nothing to count.
    """

    num_rows: int
    num_rows_both_orders: int
    num_answers: int
    num_unparsed: int
    num_truncated: int
    slot_1_rate: float | None
    flip_rate: float | None
    both_right_share: float | None
    unparsed_share: float
    truncated_share: float
    by_length: LengthAudit


def audit(rows: Sequence[RowVotes], answers: Sequence[Answer]) -> Audit:
    """Returns the audit of all answers. Raises ``ValueError`` if there is none."""
    if not rows or not answers:
        raise ValueError("there are no answers to audit")
    both = [row for row in rows if row.has_both_orders]
    choices = [answer.choice for answer in answers]
    num_unparsed = choices.count(None)
    num_truncated = sum(answer.truncated for answer in answers)
    return Audit(
        num_rows=len(rows),
        num_rows_both_orders=len(both),
        num_answers=len(answers),
        num_unparsed=num_unparsed,
        num_truncated=num_truncated,
        slot_1_rate=mean(choice == 1 for choice in choices if choice is not None),
        flip_rate=mean(row.flip for row in both),
        both_right_share=mean(row.both_right for row in both),
        unparsed_share=num_unparsed / len(answers),
        truncated_share=num_truncated / len(answers),
        by_length=length_audit([row.extra_chars for row in rows], [row.accuracy for row in rows]),
    )


def length_audit(extra_chars: Sequence[int], accuracies: Sequence[float]) -> LengthAudit:
    """Returns the audit by length. ``extra_chars`` says by how much each preferred response is longer
    than the other one.
    """
    longer = [a for extra, a in zip(extra_chars, accuracies, strict=True) if extra > 0]
    shorter = [a for extra, a in zip(extra_chars, accuracies, strict=True) if extra < 0]
    num_equal = len(extra_chars) - len(longer) - len(shorter)
    return LengthAudit(
        num_preferred_longer=len(longer),
        num_preferred_shorter=len(shorter),
        num_equal=num_equal,
        accuracy_preferred_longer=mean(longer),
        accuracy_preferred_shorter=mean(shorter),
        pick_longer=(len(longer) + num_equal / 2) / len(extra_chars),
        pick_shorter=(len(shorter) + num_equal / 2) / len(extra_chars),
    )


def mean(values: Iterable[float]) -> float | None:
    """Returns the mean; None of nothing."""
    listed = list(values)
    return sum(listed) / len(listed) if listed else None
