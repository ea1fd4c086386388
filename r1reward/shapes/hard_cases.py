"""The five kinds of hard pairs, one function each: draw a case of the split."""

import random
from collections.abc import Iterable

from r1reward.recipe.choices import SceneSplit
from r1reward.shapes.hard_claims import (
    ABOUT_LISTS,
    ABOUT_PICTURES,
    Case,
    Claim,
    Statements,
    comparisons,
    counts,
)
from r1reward.shapes.hard_scenes import (
    GRID_LAYOUT,
    Sort,
    grid_scene,
    near,
    near_colours_scene,
    sample_palette,
)
from r1reward.shapes.scene import COLOURS, SHAPES, Look, Scene, render, sample_scene, split_of

DESCRIBE = (
    "What is in each part of the picture?",
    "Name the object in every part of the picture.",
)
COMPARE_PICTURES = (
    "How do the two pictures compare?",
    "What is the same in the two pictures, and what is not?",
    "Which of the two pictures shows what?",
)
COMPARE_LISTS = "Which list has more of what, and what is only in one of them?"
COUNT_BOX = "How many of each are in the box now, and how many objects in all?"


def crowded(split: SceneSplit, rng: random.Random) -> Case:
    """Returns a crowded scene of few colours and shapes, so that looks recur; wrong is any other look
    made of them.
    """
    looks = sample_palette(rng)
    scene = grid_scene(looks, rng.randint(5, 9), split, rng)
    claims = tuple(
        Claim(f"{cell} {look}", tuple(f"{cell} {other}" for other in looks if other != look))
        for cell, look in scene.objects
    )
    image = render(scene, rng, GRID_LAYOUT)
    return Case((scene.description,), (image,), rng.choice(DESCRIBE), claims, ", ")


def near_colours(split: SceneSplit, rng: random.Random) -> Case:
    """Returns a scene of similar colours. Wrong is always another colour of the same family."""
    scene = near_colours_scene(split, rng)
    claims = tuple(
        Claim(
            f"{place} {look}",
            tuple(f"{place} {Look(colour, look.shape)}" for colour in near(look.colour)),
        )
        for place, look in scene.objects
    )
    image = render(scene, rng)
    return Case((scene.description,), (image,), rng.choice(DESCRIBE), claims, ", ")


def counting(split: SceneSplit, rng: random.Random) -> Case:
    """Returns a scene to count in. Wrong is one too many or one too few."""
    num_claims = rng.randint(3, 4)
    while True:
        scene = grid_scene(sample_palette(rng), rng.randint(4, 9), split, rng)
        asked = counts(scene, num_claims, rng)
        if len(asked) == num_claims:
            break
    claims = tuple(count_claim(sort, right, (wrong,)) for sort, (right, wrong) in asked.items())
    names = [sort.name(2) for sort in asked]
    question = f"How many {', '.join(names[:-1])} and {names[-1]} are there?"
    return Case((scene.description,), (render(scene, rng, GRID_LAYOUT),), question, claims, ", ")


def count_claim(sort: Sort, right: int, wrong: Iterable[int]) -> Claim:
    """Returns a claim about a number, with the wrong numbers it may have."""
    said, *others = (f"{number} {sort.name(number)}" for number in (right, *wrong))
    return Claim(said, tuple(others))


def two_images(split: SceneSplit, rng: random.Random) -> Case:
    """Returns two pictures to compare."""
    scenes, claims = compared_scenes(split, ABOUT_PICTURES, rng)
    images = tuple(render(scene, rng) for scene in scenes)
    facts = tuple(scene.description for scene in scenes)
    return Case(facts, images, rng.choice(COMPARE_PICTURES), claims, ". ")


def compared_scenes(
    split: SceneSplit, statements: Statements, rng: random.Random
) -> tuple[tuple[Scene, Scene], tuple[Claim, ...]]:
    """Returns two scenes with four claims that compare them."""
    while True:
        first, second = sample_scene(split, rng), sample_scene(split, rng)
        claims = comparisons(first, second, statements, rng)
        if len(claims) == 4:
            return (first, second), claims


def text_only(split: SceneSplit, rng: random.Random) -> Case:
    """Returns a case without a picture: two lists to compare, or a sum to work out."""
    return reading(split, rng) if rng.random() < 0.5 else arithmetic(split, rng)


def reading(split: SceneSplit, rng: random.Random) -> Case:
    """Returns two lists to compare."""
    scenes, claims = compared_scenes(split, ABOUT_LISTS, rng)
    facts = tuple(scene.description for scene in scenes)
    question = f"List A: {facts[0]}. List B: {facts[1]}. {COMPARE_LISTS}"
    return Case(facts, (), question, claims, ". ")


def arithmetic(split: SceneSplit, rng: random.Random) -> Case:
    """Returns a sum to work out. Wrong is one too many, one too few, or the number from before the
    change.
    """
    while True:
        sorts = [Sort(rng.choice(list(COLOURS)), shape) for shape in rng.sample(SHAPES, 3)]
        before = [rng.randint(3, 9) for _ in sorts]
        num_out, num_in = rng.randint(2, before[0] - 1), rng.randint(2, 9)
        held = [f"{n} {sort.name(n)}" for sort, n in zip(sorts, before, strict=True)]
        story = (
            f"A box holds {held[0]}, {held[1]} and {held[2]}. Then {num_out} "
            f"{sorts[0].name(2)} are taken out and {num_in} {sorts[1].name(2)} are put in."
        )
        if split_of(story) == split:
            break
    after = [before[0] - num_out, before[1] + num_in, before[2]]
    sorts.append(Sort())
    claims = tuple(
        count_claim(sort, now, sorted({now - 1, now + 1, was} - {now, 0}))
        for sort, now, was in zip(sorts, (*after, sum(after)), (*before, sum(before)), strict=True)
    )
    return Case((story,), (), f"{story} {COUNT_BOX}", claims, ", ")
