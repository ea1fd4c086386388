"""Decoding of encoded images: one function, used by every engine alike."""

from __future__ import annotations

import io

from PIL import Image


def decode_image(encoded: bytes) -> Image.Image:
    """The image in RGB. Raises ``ValueError`` if the bytes are no readable image."""
    try:
        image = Image.open(io.BytesIO(encoded))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable image: {error}") from error
    return image.convert("RGB")
