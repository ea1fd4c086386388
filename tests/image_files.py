"""Image files of every kind and mode that the decoder reads, for tests."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

# Kind, mode, and what else the writer is told. Noise in all of them.
KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *(("PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("PNG", mode, {"transparency": 0}) for mode in ("1", "L", "P", "I;16")),
    ("PNG", "P", {"transparency": bytes(range(256))}),
    ("PNG", "RGB", {"transparency": (255, 0, 0)}),
    *(("JPEG", mode, {}) for mode in ("L", "RGB", "CMYK")),
    ("MPO", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (3, 2))]}),
    *(("WEBP", mode, {"lossless": True}) for mode in ("RGB", "RGBA")),
    ("WEBP", "RGBA", {"quality": 50}),
    *(("GIF", mode, {}) for mode in ("1", "L", "P")),
    ("GIF", "P", {"transparency": 0}),
    *(
        ("TIFF", mode, {"compression": compression})
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "I", "F", "LAB")
        for compression in ("raw", "tiff_lzw")
    ),
    ("TIFF", "YCbCr", {"compression": "raw"}),
    *(("BMP", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")),
    *(("AVIF", mode, {}) for mode in ("L", "RGB", "RGBA")),
    *(("JPEG2000", mode, {}) for mode in ("L", "LA", "RGB", "RGBA", "I;16")),
    *(("PPM", mode, {}) for mode in ("1", "L", "RGB", "I;16", "I", "F")),
    ("ICO", "RGBA", {}),
    *(("PCX", mode, {}) for mode in ("1", "L", "P", "RGB")),
    *(("SGI", mode, {}) for mode in ("L", "RGB", "RGBA")),
    *(("QOI", mode, {}) for mode in ("RGB", "RGBA")),
)
# Kinds whose writer takes an orientation tag.
TURNED_KINDS = ("PNG", "JPEG", "MPO", "WEBP", "TIFF", "AVIF")


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The image as a file."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def noise(mode: str, width: int, height: int, seed: int = 0) -> Image.Image:
    """An image of random values in all of its bands."""
    rng = np.random.default_rng(seed)
    if mode.startswith("I;16"):
        dtype = np.dtype(">u2" if mode.endswith("B") else "<u2")
        values = rng.integers(0, 2**16, (height, width)).astype(dtype)
        return Image.frombytes(mode, (width, height), values.tobytes())
    if mode in ("I", "F"):
        whole = rng.integers(0, 2**16, (height, width))
        return Image.fromarray(whole.astype(np.int32 if mode == "I" else np.float32))
    if mode == "P":
        # The first pixel has the first colour, which may be the transparent one.
        image = Image.frombytes("P", (width, height), b"\0" + rng.bytes(width * height - 1))
        image.putpalette(rng.bytes(768))
        return image
    if mode == "1":
        return noise("L", width, height, seed).convert("1")
    num_bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (width, height), rng.bytes(width * height * num_bands))


def orientation(value: int) -> Image.Exif:
    """An orientation tag, to be written."""
    exif = Image.Exif()
    exif[274] = value
    return exif


def xmp(value: int) -> bytes:
    """An orientation tag in XMP."""
    return f'<x:xmpmeta><rdf:Description tiff:Orientation="{value}"/></x:xmpmeta>'.encode()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *before: bytes) -> bytes:
    """A PNG of any depth; ``rows`` begin with their filter's byte, ``before`` are chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = (chunk(b"IHDR", header), *before, chunk(b"IDAT", zlib.compress(rows)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def with_late_chunk(file: bytes, kind: bytes, data: bytes) -> bytes:
    """A PNG with one more chunk behind its pixels."""
    return file[:-12] + chunk(kind, data) + file[-12:]
