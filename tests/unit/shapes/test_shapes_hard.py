"""The hard splits: labels recomputed from the words alone, balance, disjointness, pictures."""

import io
import re
from collections import Counter
from itertools import pairwise

import pytest
from PIL import Image

from r1reward.models.processor import PolicyProcessor
from r1reward.pipeline.sources import load_pairs
from r1reward.recipe.choices import HardSplit
from r1reward.recipe.sections import ModelSection, PromptSection, ShapesSource
from r1reward.shapes.hard import (
    CASES,
    MAX_ERRORS,
    OTHER_FILLERS,
    Kind,
    make_cases_and_pairs,
)
from r1reward.shapes.hard_claims import Case, choose
from r1reward.shapes.hard_scenes import FAMILIES, GRID, GRID_LAYOUT, Sort
from r1reward.shapes.pairs import make_pairs, make_scenes_and_pairs
from r1reward.shapes.plan import FILLERS
from r1reward.shapes.scene import (
    COLOURS,
    IMAGE_SIZE,
    NEAR_COLOURS,
    QUADRANT_LAYOUT,
    QUADRANTS,
    SHAPES,
    Layout,
    seeded,
    split_of,
)
from r1reward.types import PreferencePair

pytestmark = pytest.mark.slow  # thousands of cases are made and drawn

NUM_PAIRS = 400
SPLITS: tuple[HardSplit, ...] = ("hard_train", "hard_heldout")
ALL_FILLERS = (*FILLERS, *(filler for fillers in OTHER_FILLERS.values() for filler in fillers))
NUM_IMAGES = {"crowded": 1, "near_colours": 1, "counting": 1, "two_images": 2, "text_only": 0}
Made = list[tuple[Case, PreferencePair]]


@pytest.fixture(scope="module")
def made() -> dict[HardSplit, Made]:
    return {split: make_cases_and_pairs(split, NUM_PAIRS, seed=3) for split in SPLITS}


# The checker reads facts, question and responses as a person would; it shares no code with the
# generator, and a claim that it cannot read is an error.


def without_filler(response: str) -> str:
    for filler in ALL_FILLERS:
        response = response.replace(filler, "")
    return response.strip()


def matching(fact: str, noun: str) -> int:
    """How many objects of "west red star, south blue cross" are a "red star", "crosses", ..."""
    *colour, shape = noun.split()
    shape = re.sub(r"(?<=s)es$|(?<=[^s])s$", "", shape)
    assert shape in (*SHAPES, "object")
    objects = [words.split(" ") for words in fact.split(", ")]
    return sum(
        (not colour or colour == [seen_colour]) and shape in (seen_shape, "object")
        for _, seen_colour, seen_shape in objects
    )


def holds_between(first: str, second: str, claim: str) -> bool:
    if number := re.fullmatch(
        r"\S+ (?:first )?\S+ has (more|fewer|as many) (.+) (?:than|as) .+", claim
    ):
        a, b = (matching(fact, number[2]) for fact in (first, second))
        return {"more": a > b, "fewer": a < b, "as many": a == b}[number[1]]
    presence = re.fullmatch(r"(.+) (?:shows?|names?) a (.+)", claim)
    assert presence, claim
    shown = tuple(matching(fact, presence[2]) > 0 for fact in (first, second))
    return (
        shown
        == {
            "Only the first picture": (True, False),
            "Only list A": (True, False),
            "Only the second picture": (False, True),
            "Only list B": (False, True),
            "Both pictures": (True, True),
            "Both lists": (True, True),
            "Neither picture": (False, False),
            "Neither list": (False, False),
        }[presence[1]]
    )


def contents_of_box(story: str) -> str:
    """What is in the box in the end, as a listing of single objects."""
    box: Counter[str] = Counter()
    for number, colour, shape, change in re.findall(
        r"(\d) (\S+) (circle|square|triangle|star|cross)e?s( are taken| are put)?", story
    ):
        box[f"{colour} {shape}"] += -int(number) if "taken" in change else int(number)
    return ", ".join(f"box {look}" for look, number in box.items() for _ in range(number))


def num_wrong(category: str, case: Case, question: str, response: str) -> int:
    said = without_filler(response)
    assert said.endswith(".")
    facts = case.facts
    if category in ("crowded", "near_colours"):
        claims = said[:-1].split(", ")
        assert [c.split()[0] for c in claims] == [o.split()[0] for o in facts[0].split(", ")]
        return len(set(claims) - set(facts[0].split(", ")))
    if category == "two_images" or question.startswith("List A"):
        claims = said[:-1].split(". ")
        if lists := re.match(r"List A: (.+?)\. List B: (.+?)\. ", question):
            assert facts == (lists[1], lists[2])
        return sum(not holds_between(facts[0], facts[1], claim) for claim in claims)
    if category == "text_only":
        assert question.startswith(facts[0])
        facts = (contents_of_box(question),)
    numbers = [claim.split(" ", 1) for claim in said[:-1].split(", ")]
    return sum(matching(facts[0], noun) != int(number) for number, noun in numbers)


@pytest.mark.parametrize("split", SPLITS)
def test_label_is_the_response_with_fewer_wrong_claims(
    made: dict[HardSplit, Made], split: HardSplit
) -> None:
    for case, pair in made[split]:
        wrong_1, wrong_2 = (
            num_wrong(pair.category, case, pair.question, response)
            for response in (pair.response_1, pair.response_2)
        )
        better, worse = sorted((wrong_1, wrong_2))
        assert (wrong_1 < wrong_2) == (pair.preferred == 1), pair
        gap = 3 if worse - better >= 2 else 2 if better == 0 else 1
        assert better < worse <= MAX_ERRORS and pair.difficulty == gap


@pytest.mark.parametrize(
    ("first", "second", "claim", "holds"),
    [
        ("north red star, south red cross", "west red star", "List A has more objects than list B", True),
        ("north red star", "west red star", "The first picture has as many stars as the second", True),
        ("north red star", "west red star", "The first picture has fewer stars than the second", False),
        ("north red star", "west red cross", "Only the second picture shows a cross", True),
        ("north red star", "west red cross", "Both lists name a red object", True),
        ("north red star", "west red cross", "Neither list names a star", False),
    ],
)  # fmt: skip
def test_the_checker_reads_comparisons(first: str, second: str, claim: str, holds: bool) -> None:
    assert holds_between(first, second, claim) is holds


def test_the_checker_does_the_sum() -> None:
    story = (
        "A box holds 3 red crosses, 2 blue stars and 4 red circles. "
        "Then 2 red crosses are taken out and 5 blue stars are put in."
    )
    counts = [matching(contents_of_box(story), noun) for noun in ("red cross", "stars", "objects")]
    assert counts == [1, 7, 12]


@pytest.mark.parametrize("split", SPLITS)
def test_kinds_labels_and_verbosity_are_balanced(
    made: dict[HardSplit, Made], split: HardSplit
) -> None:
    rows: Counter[tuple[str, int, bool, bool]] = Counter()
    for _, pair in made[split]:
        better, worse = pair.response_1, pair.response_2
        if pair.preferred == 2:
            better, worse = worse, better
        verbose = (without_filler(better) != better, without_filler(worse) != worse)
        if verbose[0] != verbose[1]:
            assert (len(better) > len(worse)) == verbose[0]
        rows[(pair.category, pair.preferred, *verbose)] += 1
    for kind in CASES:
        for slot in (1, 2):
            counts = [rows[(kind, slot, *v)] for v in ((True, False), (False, True))]
            assert counts == [0.35 * NUM_PAIRS / 10] * 2
            assert sum(rows[(kind, slot, v, v)] for v in (True, False)) == 0.3 * NUM_PAIRS / 10


def test_a_short_plan_is_balanced_too() -> None:
    labels = Counter((pair.category, pair.preferred) for pair in make_pairs("hard_train", 30, 0))
    assert labels == {(kind, slot): 3 for kind in CASES for slot in (1, 2)}


@pytest.mark.parametrize("kind", CASES)
def test_every_difficulty_occurs_in_every_kind(made: dict[HardSplit, Made], kind: Kind) -> None:
    counts = Counter(p.difficulty for split in SPLITS for _, p in made[split] if p.category == kind)
    assert set(counts) == {1, 2, 3}
    assert min(counts.values()) > 0.1 * counts.total()


@pytest.mark.slow
def test_splits_share_no_scene_and_hold_no_duplicates(made: dict[HardSplit, Made]) -> None:
    facts = {split: {fact for case, _ in made[split] for fact in case.facts} for split in SPLITS}
    assert {split_of(fact) for fact in facts["hard_train"]} == {"train"}
    assert {split_of(fact) for fact in facts["hard_heldout"]} == {"heldout"}
    trained_on = {scene.description for scene, _ in make_scenes_and_pairs("train", 2000, 1)}
    assert not facts["hard_heldout"] & (facts["hard_train"] | trained_on)
    for split in SPLITS:
        ids = {pair.pair_id for _, pair in made[split]}
        words = {(c.facts, frozenset((p.response_1, p.response_2))) for c, p in made[split]}
        assert len(ids) == len(words) == NUM_PAIRS
        assert [pair.origin for _, pair in made[split]] == [
            f"shapes:{split} row {row}" for row in range(NUM_PAIRS)
        ]


def test_pairs_repeat_from_the_same_seed_only() -> None:
    assert make_pairs("hard_train", 20, seed=5) == make_pairs("hard_train", 20, seed=5)
    assert make_pairs("hard_train", 20, seed=5) != make_pairs("hard_train", 20, seed=6)


def test_a_recipe_can_ask_for_a_hard_split() -> None:
    source = ShapesSource(type="shapes", split="hard_heldout", num_pairs=10, seed=4)
    assert load_pairs(source) == make_pairs("hard_heldout", 10, 4)


def test_pictures_show_the_colour_of_every_fact_where_it_says(
    made: dict[HardSplit, Made],
) -> None:
    """And nothing elsewhere: the middles of all other places are background."""
    for case, pair in made["hard_heldout"]:
        assert len(pair.images) == NUM_IMAGES[pair.category]
        places = GRID if pair.category in ("crowded", "counting") else QUADRANTS
        for fact, encoded in zip(case.facts, pair.images, strict=bool(pair.images)):
            image = Image.open(io.BytesIO(encoded))
            assert (image.format, image.size, image.mode) == ("PNG", (112, 112), "RGB")
            claimed = {place: colour for place, colour, _ in map(str.split, fact.split(", "))}
            for place, (x, y) in places.items():
                pixel = image.getpixel((int(x * IMAGE_SIZE), int(y * IMAGE_SIZE)))
                assert isinstance(pixel, tuple)
                if place in claimed:
                    assert pixel == (COLOURS | NEAR_COLOURS)[claimed[place]], (fact, place)
                else:
                    assert min(pixel) >= 232


@pytest.mark.parametrize("layout", [GRID_LAYOUT, QUADRANT_LAYOUT])
def test_objects_cannot_touch_or_leave_the_picture(layout: Layout) -> None:
    reach = layout.jitter + layout.radius[1]
    xs = sorted({x * IMAGE_SIZE for x, _ in layout.places.values()})
    assert xs == sorted({y * IMAGE_SIZE for _, y in layout.places.values()})
    assert xs[0] - reach > 0 and xs[-1] + reach < IMAGE_SIZE
    assert all(right - left > 2 * reach for left, right in pairwise(xs))


def test_cells_are_named_in_reading_order() -> None:
    assert list(GRID) == [
        *("northwest", "north", "northeast"),
        *("west", "centre", "east"),
        *("southwest", "south", "southeast"),
    ]
    assert GRID["east"] == pytest.approx((5 / 6, 1 / 2))


def test_sizes_of_scenes_and_families_of_colours(made: dict[HardSplit, Made]) -> None:
    sizes: dict[str, set[int]] = {kind: set() for kind in CASES}
    for case, pair in made["hard_train"]:
        objects = [words.split() for words in case.facts[0].split(", ")]
        sizes[pair.category].add(len(objects))
        if pair.category == "near_colours":
            said = re.findall("|".join(COLOURS | NEAR_COLOURS), pair.response_1 + pair.response_2)
            seen = {colour for _, colour, _ in objects}
            assert len(seen) > 1
            assert sum(seen | set(said) <= set(family) for family in FAMILIES) == 1
    assert sizes["crowded"] == {5, 6, 7, 8, 9}
    assert sizes["near_colours"] == {4}
    assert sizes["counting"] == {4, 5, 6, 7, 8, 9}


def test_a_claim_alone_does_not_tell_whether_it_is_right() -> None:
    """Three sorts number 3 and one numbers 4: yet 3 is true, and 4 wrong, in half of the claims."""
    rng = seeded("choose")
    answers = {Sort(shape=shape): n for shape, n in zip(SHAPES, (3, 3, 3, 4, 6), strict=True)}
    drawn = [choose(answers, lambda a, b: abs(a - b) == 1, rng) for _ in range(1000)]
    said = Counter(choice[1:] for choice in drawn if choice is not None)
    assert set(said) == {(3, 4), (4, 3)}
    assert said[3, 4] == pytest.approx(500, abs=60)
    assert choose({Sort("red"): 1, Sort(shape="star"): 2}, lambda a, b: True, rng) is None


def test_sorts_are_named_in_singular_and_plural() -> None:
    assert [Sort("red", "cross").name(n) for n in (0, 1, 2)] == [
        "red crosses",
        "red cross",
        "red crosses",
    ]
    assert (Sort().name(2), Sort(shape="star").name(1)) == ("objects", "star")


def test_prompts_of_all_kinds_encode(made: dict[HardSplit, Made]) -> None:
    processor = PolicyProcessor(ModelSection(path="shapes"))
    settings = PromptSection(template="short")
    longest: Counter[str] = Counter()
    for _, pair in made["hard_heldout"]:
        prompt = processor.encode(pair, "stored", settings)
        num_pads = prompt.token_ids.count(processor.image_token_id)
        assert num_pads == NUM_IMAGES[pair.category]
        assert prompt.num_tokens == len(prompt.token_ids) + 15 * num_pads
        longest[pair.category] = max(longest[pair.category], prompt.num_tokens)
    assert set(longest) == set(CASES)
    assert max(longest.values()) <= 1024
