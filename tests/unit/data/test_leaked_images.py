"""Images that the decoder makes equal are one image to decontamination, whatever their files say."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from r1reward.data.cleaning.decontaminate import BenchmarkIndex, LeakSettings
from r1reward.data.images import TURNS, decode_image
from r1reward.shapes.pairs import make_pairs
from r1reward.types import PreferencePair
from tests.image_files import encoded, orientation

PHOTO = decode_image(make_pairs("heldout", 1, seed=1)[0].images[0])
GREY = PHOTO.convert("L")
BLACK: dict[str, int | tuple[int, ...]] = {
    "RGBA": (0, 0, 0, 255),
    "LA": (0, 255),
    "RGB": (0, 0, 0),
    "L": 0,
    "P": 1,
}


def drawing(ground: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A black drawing on this ground."""
    ImageDraw.Draw(ground).line([(3, 5), (40, 60), (70, 9)], fill=BLACK[ground.mode], width=3)
    return encoded(ground, kind, **options)


def pair(question: str, image: bytes) -> PreferencePair:
    return PreferencePair(question, (image,), f"{question} yes", f"{question} no", 1)


ON_WHITE = drawing(Image.new("L", (80, 70), 255))
COPIES = {
    "transparent": (drawing(Image.new("RGBA", (80, 70), (0, 0, 0, 0))), ON_WHITE),
    "transparent grey": (drawing(Image.new("LA", (80, 70), (0, 0))), ON_WHITE),
    "transparent palette": (drawing(Image.new("P", (80, 70)), transparency=0), ON_WHITE),
    "transparent gif": (drawing(Image.new("P", (80, 70)), "GIF", transparency=0), ON_WHITE),
    "transparent colour": (
        drawing(Image.new("RGB", (80, 70), (9, 9, 9)), transparency=(9, 9, 9)),
        ON_WHITE,
    ),
    **{
        f"orientation {tag}": (
            encoded(PHOTO, exif=orientation(tag)),
            encoded(PHOTO.transpose(turn), "WEBP", lossless=True),
        )
        for tag, turn in TURNS.items()
    },
    "tiff": (encoded(PHOTO, "TIFF", exif=orientation(6)), encoded(PHOTO.transpose(TURNS[6]))),
    "jpeg 2000": (encoded(PHOTO, "JPEG2000"), encoded(PHOTO)),
    "16 bits": (
        encoded(Image.fromarray(np.asarray(GREY).astype(np.uint16) << 8)),
        encoded(GREY),
    ),
}


@pytest.mark.parametrize("name", COPIES)
def test_what_the_decoder_makes_equal_is_an_exact_leak(name: str) -> None:
    published, copied = COPIES[name]
    index = BenchmarkIndex.build([pair("bench", published)], LeakSettings(text="off"))
    assert [leak.kind for leak in index.leaks(pair("train", copied))] == ["exact-image"]
