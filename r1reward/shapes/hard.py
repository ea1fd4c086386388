"""The hard splits: five kinds of pairs in equal shares, with the kind as the pair's category.

    crowded       five to nine objects on a grid of named cells
    near_colours  colours a small step apart
    counting      how many objects of a sort there are
    two_images    which of two pictures shows what, and more of what
    text_only     no picture: two lists to compare, or a sum to work out

As in the plain splits the response with fewer wrong claims is preferred and verbosity is
independent of the label, here within every kind. The shipped weights were trained on none of
this, and a prompt is longer: words outside their vocabulary are spelled in bytes.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from r1reward.recipe.choices import HardSplit, SceneSplit
from r1reward.shapes.hard_cases import counting, crowded, near_colours, text_only, two_images
from r1reward.shapes.hard_claims import Case
from r1reward.shapes.plan import (
    FILLERS,
    VERBOSITY_PLAN,
    Verbosity,
    difficulty,
    sample_error_counts,
    with_filler,
)
from r1reward.shapes.scene import encode_png, seeded
from r1reward.types import PreferencePair, Slot

Kind = Literal["crowded", "near_colours", "counting", "two_images", "text_only"]

SCENE_SPLITS: dict[HardSplit, SceneSplit] = {"hard_train": "train", "hard_heldout": "heldout"}
CASES: dict[Kind, Callable[[SceneSplit, random.Random], Case]] = {
    "crowded": crowded,
    "near_colours": near_colours,
    "counting": counting,
    "two_images": two_images,
    "text_only": text_only,
}
OTHER_FILLERS: dict[Kind, tuple[str, ...]] = {
    "two_images": (
        "Both pictures are bright, calm and very easy to read.",
        "Everything is drawn with care on plain backgrounds.",
        "In both of them each object stands clearly apart from the others.",
    ),
    "text_only": (
        "The text is short, clear and very easy to read.",
        "Everything that is needed is said in a few words.",
        "With a little care all of it can be worked out step by step.",
    ),
}
# No response has more errors than this, however many objects a scene has.
MAX_ERRORS = 4


@dataclass(frozen=True)
class Row:
    """What is planned of a pair before anything is drawn."""

    kind: Kind
    preferred: Slot
    verbosity: Verbosity


def make_cases_and_pairs(
    split: HardSplit, num_pairs: int, seed: int
) -> list[tuple[Case, PreferencePair]]:
    """Returns distinct pairs with what they are about; exactly balanced for multiples of 10.

    Labels are as balanced as the number allows within every kind; verbosity is exactly
    independent of them for multiples of 200.
    """
    plan = [plan_row(row) for row in range(num_pairs)]
    seeded("plan", split, seed).shuffle(plan)
    seen: set[tuple[str, ...]] = set()
    made: list[tuple[Case, PreferencePair]] = []
    for number, row in enumerate(plan):
        rng = seeded("pair", split, seed, number)
        case, pair = make_pair(split, number, row, rng)
        while (key := content_key(case, pair)) in seen:
            case, pair = make_pair(split, number, row, rng)
        seen.add(key)
        made.append((case, pair))
    return made


def plan_row(number: int) -> Row:
    """Returns the plan of a pair: kinds take turns, labels alternate within a kind, verbosity changes
    with every two labels.
    """
    kinds = list(CASES)
    turn = number // len(kinds)
    # A stride of 7 through the twenty entries mixes them, so that short plans are balanced too.
    verbosity = VERBOSITY_PLAN[turn // 2 * 7 % len(VERBOSITY_PLAN)]
    return Row(kinds[number % len(kinds)], 1 if turn % 2 == 0 else 2, verbosity)


def make_pair(
    split: HardSplit, number: int, row: Row, rng: random.Random
) -> tuple[Case, PreferencePair]:
    """Returns a pair as planned, with what it is about."""
    case = CASES[row.kind](SCENE_SPLITS[split], rng)
    num_wrong = sample_error_counts(min(MAX_ERRORS, len(case.claims)), rng)
    fillers = OTHER_FILLERS.get(row.kind, FILLERS)
    better, worse = (
        respond(case, count, rng.choice(fillers) if row.verbosity in (name, "both") else None, rng)
        for count, name in zip(num_wrong, ("preferred", "other"), strict=True)
    )
    pair = PreferencePair(
        question=case.question,
        images=tuple(encode_png(image) for image in case.images),
        response_1=better if row.preferred == 1 else worse,
        response_2=worse if row.preferred == 1 else better,
        preferred=row.preferred,
        source="shapes",
        category=row.kind,
        difficulty=difficulty(*num_wrong),
        origin=f"shapes:{split} row {number}",
    )
    return case, pair


def respond(case: Case, num_wrong: int, filler: str | None, rng: random.Random) -> str:
    """Returns all claims of the case, ``num_wrong`` of them wrong."""
    wrong = set(rng.sample(range(len(case.claims)), num_wrong))
    said = [
        rng.choice(claim.wrong) if i in wrong else claim.right
        for i, claim in enumerate(case.claims)
    ]
    return with_filler(f"{case.separator.join(said)}.", filler, rng.random() < 0.5)


def content_key(case: Case, pair: PreferencePair) -> tuple[str, ...]:
    """Returns a key that is equal for pairs that differ only in jitter, wording of the question or
    order.
    """
    return (*case.facts, *sorted((pair.response_1, pair.response_2)))
