"""Decoding of encoded images: one function, used by every engine alike."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from r1reward.errors import as_input_error

# What pictures on the web are. Pillow knows dozens more, one of which runs Ghostscript on its input.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM")
# What Pillow's decoders raise on broken files, beside its own error.
READ_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
)


def image_size(encoded: bytes) -> tuple[int, int]:
    """Width and height by the header alone. Raises ``ValueError`` if the bytes are no image."""
    with (
        as_input_error("not a readable image", *READ_ERRORS),
        Image.open(io.BytesIO(encoded), formats=FORMATS) as image,
    ):
        return image.size


def decode_image(encoded: bytes) -> Image.Image:
    """Returns the image in RGB. Raises ``ValueError`` if the bytes are no readable image."""
    with as_input_error("not a readable image", *READ_ERRORS):
        image: Image.Image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        image.load()
    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit grey at 255 instead of scaling it.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")
