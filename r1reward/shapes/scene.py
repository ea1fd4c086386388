"""Scenes: two to four coloured shapes, each in a quadrant of its own, and their pictures.

A scene is fully named by its description ("northwest red circle, southeast blue square"). The
hash of the description decides the split, so train and held-out cannot share a scene, whatever
the seeds. Positions, sizes and the background are jitter: they change the picture, not the name.
"""

import hashlib
import io
import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

from r1reward.recipe.choices import SceneSplit

IMAGE_SIZE = 112
SUPERSAMPLING = 2
HELDOUT_SHARE = 0.2
NUM_OBJECTS_WEIGHTS = {2: 7, 3: 9, 4: 4}

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 30, 36),
    "green": (24, 150, 60),
    "blue": (32, 70, 214),
    "yellow": (240, 200, 16),
    "purple": (142, 36, 170),
    "black": (24, 24, 28),
}
# A small step away from a colour above. Only the hard splits use them: the shipped weights and the
# vocabulary do not know these words.
NEAR_COLOURS: dict[str, tuple[int, int, int]] = {
    "crimson": (178, 8, 62),
    "orange": (238, 104, 20),
    "navy": (18, 30, 132),
    "teal": (0, 116, 158),
    "lime": (112, 192, 40),
    "olive": (98, 124, 20),
    "magenta": (196, 40, 160),
    "indigo": (82, 36, 158),
}
SHAPES = ("circle", "square", "triangle", "star", "cross")
Places = dict[str, tuple[float, float]]
# Reading order; the centre of each quadrant as a fraction of the image, (x, y).
QUADRANTS: Places = {
    "northwest": (0.25, 0.25),
    "northeast": (0.75, 0.25),
    "southwest": (0.25, 0.75),
    "southeast": (0.75, 0.75),
}


@dataclass(frozen=True)
class Layout:
    """Where objects stand and how large they are drawn; jitter and radius in pixels."""

    places: Places
    jitter: float
    radius: tuple[float, float]


QUADRANT_LAYOUT = Layout(QUADRANTS, jitter=4, radius=(17, 21))


@dataclass(frozen=True)
class Look:
    """What an object looks like, or is said to look like."""

    colour: str
    shape: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """Place and look of every object, in reading order."""

    objects: tuple[tuple[str, Look], ...]

    @property
    def description(self) -> str:
        return ", ".join(f"{place} {look}" for place, look in self.objects)

    @property
    def split(self) -> SceneSplit:
        return split_of(self.description)


def split_of(description: str) -> SceneSplit:
    """Returns the split of a description, by its hash."""
    digest = hashlib.sha256(description.encode()).digest()
    share = int.from_bytes(digest[:4], "big") / 2**32
    return "heldout" if share < HELDOUT_SHARE else "train"


def seeded(*parts: str | int) -> random.Random:
    """Returns a generator of its own for every purpose, so that adding a draw disturbs nothing else."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def sample_scene(split: SceneSplit, rng: random.Random) -> Scene:
    """Returns a scene of the split: scenes are drawn until one falls into it."""
    while True:
        (num_objects,) = rng.choices(
            list(NUM_OBJECTS_WEIGHTS), weights=list(NUM_OBJECTS_WEIGHTS.values())
        )
        taken = set(rng.sample(list(QUADRANTS), num_objects))
        scene = Scene(tuple((name, sample_look(rng)) for name in QUADRANTS if name in taken))
        if scene.split == split:
            return scene


def sample_look(rng: random.Random) -> Look:
    """Returns a random colour and shape."""
    return Look(rng.choice(list(COLOURS)), rng.choice(SHAPES))


def alter(look: Look, rng: random.Random) -> Look:
    """Returns the look with its colour, its shape or both changed."""
    kind = rng.choice(("colour", "colour", "shape", "shape", "both"))
    while True:
        other = sample_look(rng)
        if kind == "colour":
            other = Look(other.colour, look.shape)
        if kind == "shape":
            other = Look(look.colour, other.shape)
        changed_both = other.colour != look.colour and other.shape != look.shape
        if other != look and (kind != "both" or changed_both):
            return other


def render(scene: Scene, rng: random.Random, layout: Layout = QUADRANT_LAYOUT) -> Image.Image:
    """Returns a picture of the scene, 112 x 112 RGB, with slight jitter of place, size and background."""
    pixels = IMAGE_SIZE * SUPERSAMPLING
    background = tuple(rng.randint(232, 255) for _ in range(3))
    canvas = Image.new("RGB", (pixels, pixels), background)
    draw = ImageDraw.Draw(canvas)
    for place, look in scene.objects:
        centre_x, centre_y = layout.places[place]
        x = centre_x * pixels + rng.uniform(-layout.jitter, layout.jitter) * SUPERSAMPLING
        y = centre_y * pixels + rng.uniform(-layout.jitter, layout.jitter) * SUPERSAMPLING
        radius = rng.uniform(*layout.radius) * SUPERSAMPLING
        draw_look(draw, look, x, y, radius)
    return canvas.reduce(SUPERSAMPLING)


def draw_look(draw: ImageDraw.ImageDraw, look: Look, x: float, y: float, radius: float) -> None:
    """Draw one shape that fits a circle of ``radius`` around (x, y)."""
    fill = (COLOURS | NEAR_COLOURS)[look.colour]
    match look.shape:
        case "circle":
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
        case "square":
            half = radius * 0.82
            draw.rectangle((x - half, y - half, x + half, y + half), fill=fill)
        case "triangle":
            draw.polygon(corners(x, y, (radius, radius, radius)), fill=fill)
        case "star":
            draw.polygon(corners(x, y, (radius, radius * 0.42) * 5), fill=fill)
        case "cross":
            arm = radius * 0.32
            draw.rectangle((x - radius, y - arm, x + radius, y + arm), fill=fill)
            draw.rectangle((x - arm, y - radius, x + arm, y + radius), fill=fill)
        case _:
            raise ValueError(f"unknown shape {look.shape!r}; known are {', '.join(SHAPES)}")


def corners(x: float, y: float, radii: tuple[float, ...]) -> list[tuple[float, float]]:
    """Returns the corners at equal angles, the first one straight up."""
    step = 2 * math.pi / len(radii)
    return [
        (x + radius * math.sin(i * step), y - radius * math.cos(i * step))
        for i, radius in enumerate(radii)
    ]


def encode_png(image: Image.Image) -> bytes:
    """Returns the image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
