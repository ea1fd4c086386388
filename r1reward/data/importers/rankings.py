"""Scores of several responses to one question become pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Literal

from r1reward.data.importers.fields import FieldError
from r1reward.data.importers.raw_pair import RawPair
from r1reward.types import Slot

Pairing = Literal["all", "adjacent", "extremes"]


@dataclass(frozen=True)
class Candidate:
    """A response and its score, higher is better; ``number`` counts the row's responses from 1."""

    number: int
    response: str
    score: float
    model: str = ""


@dataclass(frozen=True)
class Ranking:
    """A question with several responses. Its pairs share ``group``."""

    origin: str
    question: str
    candidates: Sequence[Candidate]
    group: str
    source: str
    images: tuple[bytes | str, ...] = ()
    video: str | None = None
    category: str = ""
    meta: Mapping[str, object] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def pairs_of(ranking: Ranking, pairing: Pairing = "all") -> Iterator[RawPair]:
    """Yields pairs in the responses' own order; equal scores make a tie (``preferred`` None).

    all: every two responses, which weights a question by their number squared. adjacent: neighbours
    in the ranking, the hardest pairs. extremes: the best and the worst, one pair a question.
    Raises ``FieldError`` for fewer than two responses.
    """
    if len(ranking.candidates) < 2:
        raise FieldError(f"{len(ranking.candidates)} responses with a score: a pair needs two")
    scores = [candidate.score for candidate in ranking.candidates]
    for indices in index_pairs(scores, pairing):
        first, second = (ranking.candidates[index] for index in indices)
        models = {"models": [first.model, second.model]} if first.model or second.model else {}
        yield RawPair(
            origin=f"{ranking.origin} responses {first.number} and {second.number}",
            question=ranking.question,
            response_1=first.response,
            response_2=second.response,
            preferred=better_of(first.score, second.score),
            images=ranking.images,
            video=ranking.video,
            source=ranking.source,
            category=ranking.category,
            group=ranking.group,
            meta={
                **ranking.meta,
                "responses": [first.number, second.number],
                "scores": [first.score, second.score],
                **models,
            },
            elsewhere=ranking.elsewhere,
            notes=ranking.notes,
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
