"""Items, answers and counted rows for tests of the evaluation."""

from __future__ import annotations

from collections.abc import Sequence

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.items import Item
from r1reward.evaluation.voting.votes import Ballots, RowVotes
from r1reward.types import Order, PreferencePair, Slot

NONE = (0, 0, 0)


def make_item(
    key: str, label: Slot = 1, response_1: str = "left", response_2: str = "right", group: str = ""
) -> Item:
    pair = PreferencePair(key, (), response_1, response_2, preferred=label, group=group)
    return Item(key, pair, row_id=key, categories={})


def make_answer(
    item: str,
    order: Order,
    index: int,
    choice: Slot | None,
    confidence: float | None = None,
    *,
    truncated: bool = False,
) -> Answer:
    return Answer(item, order, index, 0, choice, confidence=confidence, truncated=truncated)


def make_answers(
    item: str, stored: Sequence[Slot | None], swapped: Sequence[Slot | None]
) -> list[Answer]:
    """Answers by the slot that each names, as shown."""
    return [
        *(make_answer(item, "stored", index, choice) for index, choice in enumerate(stored)),
        *(make_answer(item, "swapped", index, choice) for index, choice in enumerate(swapped)),
    ]


def make_row(
    stored: tuple[int, int, int],
    swapped: tuple[int, int, int],
    label: Slot = 1,
    key: str = "x",
    group: str = "",
    extra_chars: int = 0,
    first: tuple[bool | None, bool | None] = (None, None),
) -> RowVotes:
    """Ballots are (for response 1, for response 2, unreadable)."""
    return RowVotes(
        key, label, group or key, extra_chars, Ballots(*stored), Ballots(*swapped), *first
    )
