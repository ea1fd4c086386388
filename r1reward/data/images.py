"""Decoding of encoded images: one function, used by every engine alike."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

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
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            return image.size
    except READ_ERRORS as error:
        raise ValueError(f"not a readable image: {error}") from error


def decode_image(encoded: bytes) -> Image.Image:
    """Returns the image in RGB. Raises ``ValueError`` if the bytes are no readable image."""
    try:
        image: Image.Image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        image.load()
    except READ_ERRORS as error:
        raise ValueError(f"not a readable image: {error}") from error
    if image.mode.startswith("I;16"):
        # Pillow clips 16-bit grey at 255 instead of scaling it.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")
