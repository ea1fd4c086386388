"""Media of a pair: an image proven readable within bounds, from bytes or from below a media root."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image

from r1reward.data.images import FORMATS, READ_ERRORS, decode_image
from r1reward.errors import DataError, as_input_error

BROKEN = partial(DataError, reason="image broken")


@dataclass(frozen=True)
class ImageLimits:
    """What an image may measure. Some models' processors refuse images thinner than ``max_aspect``."""

    max_pixels: int = 50_000_000
    max_bytes: int = 20_000_000
    max_aspect: int = 200


def load_image(
    item: object, origin: str, image_root: Path, limits: ImageLimits | None = None
) -> bytes:
    """Returns the bytes of an image, proven readable. A path must stay inside the image folder."""
    if isinstance(item, str):
        path = inside(item, origin, image_root, "image")
        if not path.is_file():
            raise DataError(f"{origin}: image {path} is missing", "image missing", str(path))
        lost = partial(DataError, reason="image missing", missing=str(path))
        with as_input_error(f"{origin}: image {path}", OSError, kind=lost):
            if limits is not None:
                refuse_bytes(path.stat().st_size, limits, origin)
            encoded, name = path.read_bytes(), str(path)
    elif isinstance(item, bytes):
        encoded, name = item, "in the row"
    else:
        raise DataError(f"{origin}: an image is neither a path nor bytes")
    if limits is not None:
        refuse_bytes(len(encoded), limits, origin)
        refuse_shape(encoded, limits, f"{origin}: image {name}")
    with as_input_error(f"{origin}: image {name} is corrupt", ValueError, kind=BROKEN):
        decode_image(encoded)
    return encoded


def inside(item: str, origin: str, root: Path, what: str) -> Path:
    """Returns the path of a medium, resolved. Raises ``DataError`` if it leads out of ``root``."""
    problems = (ValueError, OSError, RuntimeError)
    with as_input_error(f"{origin}: {what} {item[:200]!r} is no path", *problems, kind=DataError):
        path = (root / item).resolve()
        path.is_file()  # too long a name is an error of the system's here
    if not path.is_relative_to(root.resolve()):
        raise DataError(f"{origin}: {what} {item} lies outside {root}", "outside the media root")
    return path


def refuse_bytes(num_bytes: int, limits: ImageLimits, origin: str) -> None:
    """Raises ``DataError`` for an image of too many bytes."""
    if num_bytes > limits.max_bytes:
        raise DataError(
            f"{origin}: an image has {num_bytes:,} bytes; at most {limits.max_bytes:,} are read",
            "image too large",
        )


def refuse_shape(encoded: bytes, limits: ImageLimits, what: str) -> None:
    """Raises ``DataError`` for an image of too many pixels or too thin. It reads the header alone, so
    that nothing of a decompression bomb is unpacked.
    """
    bomb, too_large = Image.DecompressionBombError, partial(DataError, reason="image too large")
    with (
        as_input_error(f"{what} is too large", bomb, kind=too_large),
        as_input_error(f"{what} is corrupt", *set(READ_ERRORS) - {bomb}, kind=BROKEN),
        Image.open(io.BytesIO(encoded), formats=FORMATS) as image,
    ):
        width, height = image.size
    if width * height > limits.max_pixels:
        raise DataError(
            f"{what} is {width} x {height}; at most {limits.max_pixels:,} pixels are decoded",
            "image too large",
        )
    if max(width, height) > limits.max_aspect * max(1, min(width, height)):
        raise DataError(
            f"{what} is {width} x {height}; one side may be {limits.max_aspect} times the other",
            "image too thin",
        )


def is_animated(encoded: bytes) -> bool:
    """Returns whether a readable image has further frames, which no engine shows."""
    with suppress(*READ_ERRORS), Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
        return bool(getattr(image, "is_animated", False))
    return False  # it breaks off behind its first frame
