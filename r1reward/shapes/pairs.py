"""Preference pairs over scenes: two descriptions, of which the one with fewer wrong objects wins.

A response names every object of the scene, keyed by its quadrant; a wrong object has its colour,
its shape or both changed. Some responses carry a filler sentence; verbosity is independent of the
label (``plan``), exactly so for multiples of 40 pairs.
"""

import random
import re
from dataclasses import dataclass

from r1reward.recipe.choices import SceneSplit, ShapesSplit
from r1reward.shapes.hard import make_cases_and_pairs
from r1reward.shapes.plan import (
    FILLERS,
    VERBOSITY_PLAN,
    Verbosity,
    difficulty,
    sample_error_counts,
    with_filler,
)
from r1reward.shapes.scene import (
    COLOURS,
    QUADRANTS,
    SHAPES,
    Look,
    Scene,
    alter,
    encode_png,
    render,
    sample_scene,
    seeded,
)
from r1reward.types import PreferencePair, Slot

QUESTIONS = (
    "What does the picture show?",
    "Describe the picture.",
    "Which objects are in the picture?",
    "What is in each part of the picture?",
)
NUMBER_WORDS = {2: "two objects", 3: "three objects", 4: "four objects"}
CLAIM = re.compile(rf"({'|'.join(QUADRANTS)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})(?=[,.])")


@dataclass(frozen=True)
class Response:
    """Claimed looks in the order of the scene's objects, and the sentence around them."""

    looks: tuple[Look, ...]
    filler: str | None
    filler_first: bool

    def text(self, scene: Scene) -> str:
        """Returns the response's text."""
        claims = zip(scene.objects, self.looks, strict=True)
        listing = ", ".join(f"{quadrant} {look}" for (quadrant, _), look in claims) + "."
        return with_filler(listing, self.filler, self.filler_first)


def make_pairs(split: ShapesSplit, num_pairs: int, seed: int) -> list[PreferencePair]:
    """Returns distinct pairs of a split; labels are balanced exactly for an even ``num_pairs``.

    For a multiple of ten in the hard splits.
    """
    if split == "hard_train" or split == "hard_heldout":
        return [pair for _, pair in make_cases_and_pairs(split, num_pairs, seed)]
    return [pair for _, pair in make_scenes_and_pairs(split, num_pairs, seed)]


def make_scenes_and_pairs(
    split: SceneSplit, num_pairs: int, seed: int
) -> list[tuple[Scene, PreferencePair]]:
    """Returns the pairs with what their pictures really show, for measuring what a trace got right."""
    plan = [
        (1 + row % 2, VERBOSITY_PLAN[row // 2 % len(VERBOSITY_PLAN)]) for row in range(num_pairs)
    ]
    seeded("plan", split, seed).shuffle(plan)
    seen: set[tuple[str, ...]] = set()
    made: list[tuple[Scene, PreferencePair]] = []
    for row, (slot, verbosity) in enumerate(plan):
        preferred: Slot = 1 if slot == 1 else 2
        rng = seeded("pair", split, seed, row)
        scene, pair = make_pair(split, row, preferred, verbosity, rng)
        while (key := content_key(pair)) in seen:
            scene, pair = make_pair(split, row, preferred, verbosity, rng)
        seen.add(key)
        made.append((scene, pair))
    return made


def content_key(pair: PreferencePair) -> tuple[str, ...]:
    """Returns a key that is equal for pairs that differ only in jitter, wording of the question or
    order.
    """
    return tuple(sorted((pair.response_1, pair.response_2)))


def make_pair(
    split: SceneSplit, row: int, preferred: Slot, verbosity: Verbosity, rng: random.Random
) -> tuple[Scene, PreferencePair]:
    """Returns a pair as planned, with its scene."""
    scene = sample_scene(split, rng)
    num_wrong = sample_error_counts(len(scene.objects), rng)
    better, worse = (
        make_response(wrong_looks(scene, count, rng), verbosity in (name, "both"), rng)
        for count, name in zip(num_wrong, ("preferred", "other"), strict=True)
    )
    first, second = (better, worse) if preferred == 1 else (worse, better)
    pair = PreferencePair(
        question=rng.choice(QUESTIONS),
        images=(encode_png(render(scene, rng)),),
        response_1=first.text(scene),
        response_2=second.text(scene),
        preferred=preferred,
        source="shapes",
        category=NUMBER_WORDS[len(scene.objects)],
        difficulty=difficulty(*num_wrong),
        origin=f"shapes:{split} row {row}",
    )
    return scene, pair


def wrong_looks(scene: Scene, num_wrong: int, rng: random.Random) -> tuple[Look, ...]:
    """Returns the looks of the scene, ``num_wrong`` of them altered."""
    wrong = set(rng.sample(range(len(scene.objects)), num_wrong))
    return tuple(
        alter(look, rng) if i in wrong else look for i, (_, look) in enumerate(scene.objects)
    )


def make_response(looks: tuple[Look, ...], verbose: bool, rng: random.Random) -> Response:
    """Returns a response that claims these looks, with a filler sentence if it is verbose."""
    filler = rng.choice(FILLERS) if verbose else None
    return Response(looks, filler, filler_first=rng.random() < 0.5)


def read_claims(response: str) -> dict[str, Look]:
    """Returns the quadrant and the look of every claim in a response's text."""
    return {quadrant: Look(colour, shape) for quadrant, colour, shape in CLAIM.findall(response)}
