"""Scenes of the hard splits: crowded grids, near colours, and sorts of objects to count.

They are ordinary scenes, so the hash of the description decides their split as everywhere: a scene
of ``hard_heldout`` is in neither ``hard_train`` nor ``train``.
"""

import random
from dataclasses import dataclass

from r1reward.recipe.choices import SceneSplit
from r1reward.shapes.scene import COLOURS, QUADRANTS, SHAPES, Layout, Look, Places, Scene

# Reading order, as for the quadrants; objects are small enough never to touch.
GRID: Places = {
    f"{row}{column}" or "centre": ((x + 0.5) / 3, (y + 0.5) / 3)
    for y, row in enumerate(("north", "", "south"))
    for x, column in enumerate(("west", "", "east"))
}
GRID_LAYOUT = Layout(GRID, jitter=2, radius=(12.5, 15))

# Colours that are easy to mistake for one another.
FAMILIES = (
    ("red", "crimson", "orange"),
    ("blue", "navy", "teal"),
    ("green", "lime", "olive"),
    ("purple", "magenta", "indigo"),
)


@dataclass(frozen=True)
class Sort:
    """A sort of objects that a scene has some number of; None stands for any."""

    colour: str | None = None
    shape: str | None = None

    def num_in(self, scene: Scene) -> int:
        """Returns how many objects of the scene are of this sort."""
        return sum(
            self.colour in (None, look.colour) and self.shape in (None, look.shape)
            for _, look in scene.objects
        )

    def name(self, count: int = 1) -> str:
        """Returns ``red circle``, or in the plural ``crosses``, unless ``count`` is 1."""
        noun = self.shape or "object"
        if count != 1:
            noun += "es" if noun.endswith("s") else "s"
        return noun if self.colour is None else f"{self.colour} {noun}"


ALL_SORTS = tuple(Sort(colour, shape) for colour in (None, *COLOURS) for shape in (None, *SHAPES))


def sample_palette(rng: random.Random) -> tuple[Look, ...]:
    """Returns all looks made of two or three colours and shapes: few, so that they recur in a scene."""
    colours = rng.sample(list(COLOURS), rng.randint(2, 3))
    shapes = rng.sample(SHAPES, rng.randint(2, 3))
    return tuple(Look(colour, shape) for colour in colours for shape in shapes)


def grid_scene(
    looks: tuple[Look, ...], num_objects: int, split: SceneSplit, rng: random.Random
) -> Scene:
    """Returns a scene of objects with the given looks in cells of the grid."""
    while True:
        scene = place_objects(GRID, rng.choices(looks, k=num_objects), rng)
        if scene.split == split:
            return scene


def near_colours_scene(split: SceneSplit, rng: random.Random) -> Scene:
    """Four objects in colours of one family, which are not all the same: there is a contrast."""
    while True:
        family = rng.choice(FAMILIES)
        looks = [Look(rng.choice(family), rng.choice(SHAPES)) for _ in QUADRANTS]
        scene = place_objects(QUADRANTS, looks, rng)
        if len({look.colour for look in looks}) > 1 and scene.split == split:
            return scene


def place_objects(places: Places, looks: list[Look], rng: random.Random) -> Scene:
    """Returns a scene of these looks at random places, in reading order."""
    taken = sorted(rng.sample(range(len(places)), len(looks)))
    return Scene(tuple(zip([list(places)[i] for i in taken], looks, strict=True)))


def near(colour: str) -> tuple[str, ...]:
    """Returns the other colours of the family."""
    (family,) = (family for family in FAMILIES if colour in family)
    return tuple(other for other in family if other != colour)
