"""Scores to pairs: which pairs, in which order, and ties."""

import pytest

from r1reward.data.importers.fields import group_of, number
from r1reward.data.importers.rankings import Candidate, pairs_of
from r1reward.data.importers.raw_pair import RawPair
from r1reward.errors import DataError
from r1reward.recipe.choices import Pairing

ASKED = RawPair(
    "a.jsonl row 4",
    "Why?",
    response_1="",
    response_2="",
    preferred=None,
    images=("a.png",),
    group="g",
    source="s",
    meta={"id": "7"},
)


def pairs(*scores: float, pairing: Pairing = "all") -> list[RawPair]:
    candidates = [
        Candidate(number, f"response {number}", score)
        for number, score in enumerate(scores, start=1)
    ]
    return list(pairs_of(ASKED, candidates, pairing))


@pytest.mark.parametrize(
    ("pairing", "expected"),
    [
        (
            "all",
            [([1, 2], 2), ([1, 3], 2), ([1, 4], None), ([2, 3], 1), ([2, 4], 1), ([3, 4], 1)],
        ),
        # From the best on: 2, 3, then 1 and 4, which are equal.
        ("adjacent", [([2, 3], 1), ([1, 3], 2), ([1, 4], None)]),
        ("extremes", [([2, 4], 1)]),
    ],
)
def test_pairings(pairing: Pairing, expected: list[tuple[list[int], int | None]]) -> None:
    found = pairs(1, 4, 2.5, 1, pairing=pairing)
    assert [(pair.meta["responses"], pair.preferred) for pair in found] == expected


def test_a_pair_carries_what_its_question_has() -> None:
    (pair,) = pairs(2, 3)
    assert (pair.response_1, pair.response_2, pair.preferred) == ("response 1", "response 2", 2)
    assert pair.origin == "a.jsonl row 4 responses 1 and 2"
    assert (pair.question, pair.images, pair.group, pair.source) == ("Why?", ("a.png",), "g", "s")
    assert pair.meta == {"id": "7", "responses": [1, 2], "scores": [2, 3]}


@pytest.mark.parametrize("pairing", ["all", "adjacent", "extremes"])
def test_equal_scores_are_ties(pairing: Pairing) -> None:
    found = pairs(3, 3, 3, pairing=pairing)
    assert {pair.preferred for pair in found} == {None}
    assert len(found) == {"all": 3, "adjacent": 2, "extremes": 1}[pairing]


def test_one_response_is_no_pair() -> None:
    with pytest.raises(DataError, match="1 responses with a score: a pair needs two"):
        pairs(1)


@pytest.mark.parametrize("value", ["nan", float("inf"), None, "N/A", [1]])
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(DataError, match=r"Rating is .*; it must be a number"):
        number(value, "Rating")
    assert number("3.5", "Rating") == 3.5


def test_a_group_is_a_question_and_its_media() -> None:
    names = [
        group_of("Why?", "a.png"),
        group_of("Why?", "b.png"),
        group_of("How?", "a.png"),
        group_of("Why?a.png"),
        group_of("Why?", b"a"),
        group_of("Why?", "a.png", "b.png"),
    ]
    assert len(set(names)) == 6
    assert group_of("Why?", "a.png", None) == names[0]
