"""What a hard pair is about: a question, its pictures, and claims with ways to get each one wrong."""

import operator
import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

from PIL import Image

from r1reward.shapes.hard_scenes import ALL_SORTS, Sort
from r1reward.shapes.scene import Scene

# Statements that exclude each other: the first three about a number, the other four about presence.
Statements = dict[str, str]
ABOUT_PICTURES: Statements = {
    "more": "The first picture has more {many} than the second",
    "fewer": "The first picture has fewer {many} than the second",
    "equal": "The first picture has as many {many} as the second",
    "first": "Only the first picture shows a {one}",
    "second": "Only the second picture shows a {one}",
    "both": "Both pictures show a {one}",
    "neither": "Neither picture shows a {one}",
}
ABOUT_LISTS: Statements = {
    "more": "List A has more {many} than list B",
    "fewer": "List A has fewer {many} than list B",
    "equal": "List A has as many {many} as list B",
    "first": "Only list A names a {one}",
    "second": "Only list B names a {one}",
    "both": "Both lists name a {one}",
    "neither": "Neither list names a {one}",
}
NUMBERS = ("more", "fewer", "equal")
PRESENCES = ("first", "second", "both", "neither")

Answer = TypeVar("Answer", int, str)


@dataclass(frozen=True)
class Claim:
    """One statement: how it reads when it is right, and some ways to get it wrong."""

    right: str
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """What a pair is about. Every one of ``facts``, scenes or a story in words, is of the split."""

    facts: tuple[str, ...]
    images: tuple[Image.Image, ...]
    question: str
    claims: tuple[Claim, ...]
    separator: str


def choose(
    answers: dict[Sort, Answer], rival: Callable[[Answer, Answer], bool], rng: random.Random
) -> tuple[Sort, Answer, Answer] | None:
    """Returns a sort to ask about, its answer and a wrong one; None if the answers leave no choice.

    Two rivals are drawn first, answers that both hold of sorts of the same form (a colour, a
    shape, a look); then a coin says which of the two is to be true. So the words of a claim alone
    do not tell whether it is right.
    """
    groups: dict[tuple[bool, bool, Answer], list[Sort]] = {}
    for sort, answer in answers.items():
        groups.setdefault((sort.colour is None, sort.shape is None, answer), []).append(sort)
    rivals = [(a, b) for a, b in combinations(groups, 2) if a[:2] == b[:2] and rival(a[2], b[2])]
    if not rivals:
        return None
    right, wrong = rng.sample(rng.choice(rivals), 2)
    return rng.choice(groups[right]), right[2], wrong[2]


def counts(scene: Scene, num_claims: int, rng: random.Random) -> dict[Sort, tuple[int, int]]:
    """Returns sorts with their number in the scene and one that is off by one; fewer if there are no
    more.
    """
    colours = {look.colour for _, look in scene.objects}
    shapes = {look.shape for _, look in scene.objects}
    numbers = {
        sort: sort.num_in(scene)
        for sort in ALL_SORTS
        if sort.colour in (None, *colours) and sort.shape in (None, *shapes)
    }
    chosen: dict[Sort, tuple[int, int]] = {}
    while len(chosen) < num_claims:
        choice = choose(numbers, lambda a, b: abs(a - b) == 1, rng)
        if choice is None:
            break
        sort, right, wrong = choice
        chosen[sort] = (right, wrong)
        del numbers[sort]
    return chosen


def comparisons(
    first: Scene, second: Scene, statements: Statements, rng: random.Random
) -> tuple[Claim, ...]:
    """Returns two claims about numbers and two about presence, each of a sort of its own.

    Fewer where the scenes are too much alike.
    """
    claims: list[Claim] = []
    used: set[Sort] = set()
    for keys in (NUMBERS, NUMBERS, PRESENCES, PRESENCES):
        truths = {
            sort: truth
            for sort in ALL_SORTS
            if sort not in used
            and (truth := compare(sort.num_in(first), sort.num_in(second), keys)) is not None
        }
        choice = choose(truths, operator.ne, rng)
        if choice is None:
            continue
        sort, right, wrong = choice
        used.add(sort)
        said = [
            statements[key].format(one=sort.name(), many=sort.name(2)) for key in (right, wrong)
        ]
        claims.append(Claim(said[0], (said[1],)))
    rng.shuffle(claims)
    return tuple(claims)


def compare(num_first: int, num_second: int, keys: tuple[str, ...]) -> str | None:
    """Returns which of ``keys`` is true; None for a comparison of nothing with nothing."""
    if keys == PRESENCES:
        if num_first and num_second:
            return "both"
        return "first" if num_first else "second" if num_second else "neither"
    if num_first == num_second:
        return "equal" if num_first else None
    return "more" if num_first > num_second else "fewer"
