"""Adaptive voting: most rows need few of their K samples, because their first ones agree.

A row asks for samples in the sequence of its schedule until its vote over all K is settled
(``stopping``). With an error of 0 every verdict is that of all K samples.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.conditions import Conditions
from r1reward.evaluation.items import Item
from r1reward.evaluation.voting.schedule import sample_schedule
from r1reward.evaluation.voting.stopping import (
    expected_samples,
    next_samples,
    samples_needed,
    shares_at_stop,
    tally,
)
from r1reward.recipe.choices import OrderMode
from r1reward.types import Order, Slot

Responses = dict[tuple[str, Order, int], Slot | None]


@dataclass(frozen=True)
class AdaptiveSummary:
    """What adaptive voting saves. Shares are means over rows, of each row's K samples.

    ``replayed``: every row has all K, and the rule was run over them afterwards; else the rows really
    stopped early. ``majority_share`` is what the response with more votes has of all K (an unreadable
    sample is no vote for it). ``predicted_share`` is the share of samples that these majorities lead
    one to expect if a row's samples came in random sequence. A model that clings to a slot uses more
    than that, its votes changing sides with every sample. Where rows stopped early both rest on
    estimates of their shares, unbiased if ``error`` is 0 (else the winner may be the wrong one, and its
    share is too high). ``num_changed`` counts verdicts that are not those of all K,
    None where only the rule knows.
    """

    num_rows: int
    num_samples: int
    error: float
    replayed: bool
    used_share: float
    predicted_share: float
    majority_share: float
    num_changed: int | None


def adaptive_summary(
    items: Sequence[Item], answers: Iterable[Answer], conditions: Conditions
) -> AdaptiveSummary:
    """Returns what adaptive voting saved, from the answers of a run that stopped early; or what its exact
    rule would have saved, from those of a full plan (replayed).

    Rows without any answer are left out. Raises ``ValueError`` if a row's answers are not the first
    ones of its schedule, or end before its vote is settled.
    """
    num_samples, error = conditions.num_samples, conditions.adaptive or 0.0
    responses: Responses = {answer.sample_key: answer.response for answer in answers}
    asked = {key for key, _, _ in responses}
    rows = [
        scheduled_votes(item, responses, num_samples, conditions.orders, conditions.seed)
        for item in items
        if item.key in asked
    ]
    return summary_of_rows(rows, num_samples, error)


def summary_of_rows(
    rows: Sequence[Sequence[Slot | None]], num_samples: int, error: float
) -> AdaptiveSummary:
    """Returns the summary of rows [N] of votes, each in the sequence of its schedule: all K of every
    row, or those up to where the vote was settled.
    """
    num_changed: int | None = None
    counts: Sequence[tuple[float, float, float]]
    if replayed := all(len(votes) == num_samples for votes in rows):
        used = [samples_needed(votes, error) for votes in rows]
        counts = [tally(votes) for votes in rows]
        majority_share = sum(max(count[:2]) for count in counts) / len(rows) / num_samples
        num_changed = sum(
            verdict(votes[:num]) != verdict(votes) for votes, num in zip(rows, used, strict=True)
        )
    else:
        check_settled(rows, num_samples, error)
        used = [len(votes) for votes in rows]
        shares = [shares_at_stop(tally(votes), num_samples, error) for votes in rows]
        counts = [
            (one * num_samples, two * num_samples, none * num_samples) for one, two, none in shares
        ]
        for_winner = [
            share[0] if votes.count(1) >= votes.count(2) else share[1]
            for votes, share in zip(rows, shares, strict=True)
        ]
        majority_share = sum(for_winner) / len(rows)
    return AdaptiveSummary(
        num_rows=len(rows),
        num_samples=num_samples,
        error=error,
        replayed=replayed,
        used_share=sum(used) / len(rows) / num_samples,
        predicted_share=sum(expected_samples(c, error) for c in counts) / len(rows) / num_samples,
        majority_share=majority_share,
        num_changed=num_changed,
    )


def check_settled(rows: Sequence[Sequence[Slot | None]], num_samples: int, error: float) -> None:
    """Raises ``ValueError`` if the votes of a row end before they are settled."""
    if unfinished := sum(next_samples(votes, num_samples, error) > 0 for votes in rows):
        raise ValueError(
            f"{unfinished} of {len(rows)} rows have too few samples for K = {num_samples} at an error "
            f"of {error}: go on with the evaluation, or ask for a smaller K"
        )


def verdict(votes: Sequence[Slot | None]) -> Slot | None:
    """Returns the response with more votes; None for a tie, with or without votes."""
    one, two, _ = tally(votes)
    if one == two:
        return None
    return 1 if one > two else 2


def scheduled_votes(
    item: Item, responses: Responses, num_samples: int, orders: OrderMode, seed: int
) -> list[Slot | None]:
    """Returns a row's votes in the sequence of its schedule, up to the first that was not asked for.

    Raises ``ValueError`` if a later one was.
    """
    samples = [(item.key, *sample) for sample in sample_schedule(item, num_samples, orders, seed)]
    asked = [sample in responses for sample in samples]
    num_asked = sum(asked)
    if not all(asked[:num_asked]) or not num_asked:
        raise ValueError(
            f"the answers about row {item.key} are not the first ones of its schedule: orders, seed "
            "or rows are not those of the evaluation that asked for them"
        )
    return [responses[sample] for sample in samples[:num_asked]]


def always_asked(
    items: Sequence[Item], answers: Iterable[Answer], conditions: Conditions
) -> list[Answer]:
    """Returns the answers that adaptive voting asks for whatever they say: the first of every row.

    Where rows stopped early, means over all answers lean towards the winners of rows; means over
    these do not.
    """
    num_first = next_samples([], conditions.num_samples, conditions.adaptive or 0.0)
    first = {
        (item.key, *sample)
        for item in items
        for sample in sample_schedule(item, num_first, conditions.orders, conditions.seed)
    }
    return [answer for answer in answers if answer.sample_key in first]
