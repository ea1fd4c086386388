"""Votes: the answers about one row, counted by order and by the stored response they are for.

A vote is for a response, not for the slot it was shown in. Every score of a row is a closed formula of
these counts, so more samples a row only make it more exact.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.items import Item
from r1reward.types import Order, Slot


@dataclass(frozen=True)
class Ballots:
    """How the samples of one row in one order voted, by stored response."""

    for_1: int
    for_2: int
    unreadable: int

    @property
    def num_samples(self) -> int:
        return self.for_1 + self.for_2 + self.unreadable

    def votes_for(self, response: Slot) -> int:
        """Returns the number of votes for a stored response."""
        return self.for_1 if response == 1 else self.for_2


@dataclass(frozen=True)
class RowVotes:
    """All samples of one row, and the stored response that people preferred.

    ``first_stored`` and ``first_swapped`` say whether sample 0 of an order was right (None: not
    asked), for tests that need one yes or no a row. ``extra_chars`` is by how many characters the
    preferred response is longer than the other one.
    """

    key: str
    label: Slot
    group: str
    extra_chars: int
    stored: Ballots
    swapped: Ballots
    first_stored: bool | None
    first_swapped: bool | None

    @property
    def accuracy(self) -> float:
        """Mean over the sampled orders of the share of samples that are right; unreadable is wrong."""
        shares = [
            ballots.votes_for(self.label) / ballots.num_samples
            for ballots in (self.stored, self.swapped)
            if ballots.num_samples
        ]
        return sum(shares) / len(shares)

    @property
    def both_right(self) -> float:
        """Probability that a sample of either order is right in both. Needs both orders."""
        stored = self.stored.votes_for(self.label) / self.stored.num_samples
        return stored * self.swapped.votes_for(self.label) / self.swapped.num_samples

    @property
    def flip(self) -> float:
        """Probability that samples of the two orders name the same slot, hence different responses."""
        same = self.stored.for_1 * self.swapped.for_2 + self.stored.for_2 * self.swapped.for_1
        return same / (self.stored.num_samples * self.swapped.num_samples)

    @property
    def has_both_orders(self) -> bool:
        return self.stored.num_samples > 0 and self.swapped.num_samples > 0

    @property
    def num_samples(self) -> int:
        return self.stored.num_samples + self.swapped.num_samples

    @property
    def votes_right(self) -> int:
        return self.stored.votes_for(self.label) + self.swapped.votes_for(self.label)

    @property
    def votes_wrong(self) -> int:
        return self.num_samples - self.unreadable - self.votes_right

    @property
    def unreadable(self) -> int:
        return self.stored.unreadable + self.swapped.unreadable


def pool_orders(row: RowVotes) -> RowVotes:
    """Returns the same votes as if all were of one order.

    For voting@K by protocols that draw the order of every sample by a coin: their K samples are any K,
    not half of each order. Scores of single orders mean nothing on such a row.
    """
    pooled = Ballots(
        row.stored.for_1 + row.swapped.for_1, row.stored.for_2 + row.swapped.for_2, row.unreadable
    )
    return replace(row, stored=pooled, swapped=Ballots(0, 0, 0))


def count_votes(items: Sequence[Item], answers: Sequence[Answer]) -> list[RowVotes]:
    """Returns the votes about every item that was asked, in the order of the items."""
    assert len({answer.sample_key for answer in answers}) == len(answers), "no sample counts twice"
    return [row_votes(item, given) for item, given in answers_by_item(items, answers)]


def vote_splits(num_votes: int, has_stored: bool, has_swapped: bool) -> list[tuple[int, int]]:
    """Returns from how many samples of the stored and of the swapped order K votes may come.

    With both orders an odd K gives its extra vote to either; a vote's score is the mean over the splits.
    """
    if not has_swapped:
        return [(num_votes, 0)]
    if not has_stored:
        return [(0, num_votes)]
    fewer, more = num_votes // 2, (num_votes + 1) // 2
    return [(more, fewer), (fewer, more)]


def answers_by_item(
    items: Sequence[Item], answers: Sequence[Answer]
) -> Iterator[tuple[Item, list[Answer]]]:
    """Yields every item that was asked with its answers, in the order of the items."""
    by_item: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_item[answer.item].append(answer)
    return ((item, by_item[item.key]) for item in items if item.key in by_item)


def row_votes(item: Item, answers: Sequence[Answer]) -> RowVotes:
    """Returns the votes about one item."""
    pair = item.pair
    longer_1 = len(pair.response_1) - len(pair.response_2)
    return RowVotes(
        key=item.key,
        label=pair.preferred,
        group=pair.group or item.key,
        extra_chars=longer_1 if pair.preferred == 1 else -longer_1,
        stored=ballots(answers, "stored"),
        swapped=ballots(answers, "swapped"),
        first_stored=first_right(answers, "stored", pair.preferred),
        first_swapped=first_right(answers, "swapped", pair.preferred),
    )


def ballots(answers: Sequence[Answer], order: Order) -> Ballots:
    """Returns the votes in one order."""
    responses = [answer.response for answer in answers if answer.order == order]
    return Ballots(responses.count(1), responses.count(2), responses.count(None))


def first_right(answers: Sequence[Answer], order: Order, label: Slot) -> bool | None:
    """Returns whether sample 0 of an order is right; None if it was not asked for."""
    first = (answer for answer in answers if answer.order == order and answer.sample_index == 0)
    return next((answer.response == label for answer in first), None)
