"""Scores of several responses to one question become pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

from r1reward.data.importers.raw_pair import RawPair
from r1reward.errors import DataError
from r1reward.recipe.choices import Pairing
from r1reward.types import Slot


@dataclass(frozen=True)
class Candidate:
    """A response and its score, higher is better; ``number`` counts the row's responses from 1."""

    number: int
    response: str
    score: float
    model: str = ""


def pairs_of(
    asked: RawPair, candidates: Sequence[Candidate], pairing: Pairing = "all"
) -> Iterator[RawPair]:
    """Yields pairs in the responses' own order; equal scores make a tie (``preferred`` None).

    ``asked`` holds all that the pairs share; its responses are left open. all: every two responses,
    which weights a question by their number squared. adjacent: neighbours in the ranking, the hardest
    pairs. extremes: the best and the worst, one pair a question. Raises ``DataError`` for fewer than
    two responses.
    """
    if len(candidates) < 2:
        raise DataError(f"{len(candidates)} responses with a score: a pair needs two")
    for indices in index_pairs([candidate.score for candidate in candidates], pairing):
        first, second = (candidates[index] for index in indices)
        numbers, scores = [first.number, second.number], [first.score, second.score]
        models = {"models": [first.model, second.model]} if first.model or second.model else {}
        yield replace(
            asked,
            origin=f"{asked.origin} responses {first.number} and {second.number}",
            response_1=first.response,
            response_2=second.response,
            preferred=better_of(first.score, second.score),
            meta={**asked.meta, "responses": numbers, "scores": scores, **models},
        )


def index_pairs(scores: Sequence[float], pairing: Pairing) -> list[tuple[int, int]]:
    """Returns which responses stand against each other, the earlier one first."""
    by_score = sorted(range(len(scores)), key=lambda index: -scores[index])
    match pairing:
        case "all":
            return list(combinations(range(len(scores)), 2))
        case "adjacent":
            return [(min(pair), max(pair)) for pair in pairwise(by_score)]
        case "extremes":
            ends = by_score[0], by_score[-1]
            return [(min(ends), max(ends))]


def better_of(first: float, second: float) -> Slot | None:
    """Returns the slot with the higher score; None for a tie."""
    if first == second:
        return None
    return 1 if first > second else 2
