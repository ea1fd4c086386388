"""What a picture is: one decoder for training, evaluation, annotation, decontamination and pages.

- Its orientation tag is applied (EXIF, or XMP where EXIF has none), so it stands as a viewer shows it.
- Transparency lies on white: an alpha channel, or one colour or the palette's entries made transparent.
- Grey of 16 bits keeps its high 8 bits. Grey of 32 bits (whole numbers or floats) has no agreed white:
  its darkest value becomes black, its brightest white.
- Of an animation or of several pages it is the first. Colour profiles are not applied.

``data_url`` is the same picture for a server: the file itself where every client decodes it to the same
pixels, else a PNG of ours. docs/data.md says so to users.
"""

import base64
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from r1reward.errors import DataError

# Still pictures that Pillow decodes by itself and that a signature tells apart. Not read: what runs or
# calls another program (EPS, WMF, HDF5), documents (PDF), and TGA, which any bytes may pass for.
FORMATS = (
    "AVIF",
    "BMP",
    "GIF",
    "ICO",
    "JPEG",
    "JPEG2000",
    "PCX",
    "PNG",
    "PPM",
    "QOI",
    "SGI",
    "TIFF",
    "WEBP",
)
# What people have in an image's place and nobody here decodes, by the bytes it begins with after so many.
CONVERT = "which is not decoded here; convert it to PNG or JPEG"
UNREAD_KINDS = (
    (f"it is HEIC, {CONVERT}", 4, (b"ftyphei", b"ftyphev", b"ftypmif1", b"ftypmsf1")),
    (f"it is AVIF, {CONVERT}", 4, (b"ftypavi",)),
    (f"it is WebP, {CONVERT}", 8, (b"WEBP",)),
    (f"it is JPEG XL, {CONVERT}", 0, (b"\xff\x0a", b"\0\0\0\x0cJXL ")),
    (f"it is SVG or other XML, {CONVERT}", 0, (b"<svg", b"<?xml")),
    (f"it is PDF, {CONVERT}", 0, (b"%PDF",)),
    ("it is a web page; fetch the image itself", 0, (b"<!DOCTYPE", b"<!doctype", b"<html")),
    ("it is a pointer of git-lfs; run git lfs pull", 0, (b"version https://git-lfs",)),
)
# What Pillow's decoders raise on broken files.
READ_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
BROKEN = "image broken"
# Kinds that every OpenAI-compatible server takes, by Pillow's names, and the modes whose pixels no client
# reads in a way of its own.
SERVED_KINDS = ("PNG", "JPEG", "WEBP", "GIF")
SERVED_MODES = ("1", "L", "P", "RGB")
# How a picture with this value of the orientation tag is turned upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)
# Chunks of a PNG that may stand behind its pixels, where reading the header does not see them.
PNG_ORIENTATIONS = (b"eXIf", b"exif", b"XML:com.adobe.xmp")
PNG_TRANSPARENCY = b"tRNS"
# TIFF's tags: bits a sample, whether 0 is white, and whether samples are unsigned.
BITS_PER_SAMPLE, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339


def image_size(encoded: bytes) -> tuple[int, int]:
    """Width and height of the picture by the file's header, as ``decode_image`` turns it.

    Raises ``DataError`` if the bytes are no image.
    """
    with reading(encoded) as image:
        return upright_size(image, encoded)


def decode_image(encoded: bytes) -> Image.Image:
    """Returns the picture in RGB: upright, on white. Raises ``DataError`` if it cannot be read."""
    with reading(encoded) as image:
        size = upright_size(image, encoded)
        image.load()
        shown = in_rgb(image, encoded)
        if (turn := TURNS.get(orientation_of(image))) is not None:
            shown = shown.transpose(turn)
        if shown.size != size:
            raise ValueError(f"its header says {size}, its pixels are {shown.size}")
        return shown


def data_url(encoded: bytes) -> str:
    """Returns the picture as an OpenAI-compatible server gets it: as the pixels of ``decode_image``.

    The file itself where it has a ``servable_kind``, else a PNG. Raises ``DataError`` if it cannot be
    read.
    """
    kind = servable_kind(encoded)
    sent = as_png(encoded) if kind is None else encoded
    return f"data:image/{(kind or 'PNG').lower()};base64,{base64.b64encode(sent).decode()}"


@lru_cache(maxsize=16)
def as_png(encoded: bytes) -> bytes:
    """Returns the picture as a PNG. The last few are kept: samples of one row follow one another."""
    return png_of(decode_image(encoded))


def png_of(picture: Image.Image) -> bytes:
    """Returns the picture as a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def servable_kind(encoded: bytes) -> str | None:
    """Returns PNG, JPEG, WEBP or GIF for a file that every client decodes to our pixels, by its header;
    None for others: another kind, turned, transparent, animated, or of deep grey or four inks.

    Raises ``DataError`` if the bytes are no image.
    """
    with reading(encoded) as image:
        is_alike = (
            image.format in SERVED_KINDS
            and image.mode in SERVED_MODES
            and not image.has_transparency_data
            and not (image.format == "PNG" and PNG_TRANSPARENCY in encoded)
            and orientation_by_header(image, encoded) not in TURNS
            and not getattr(image, "is_animated", False)
        )
        return image.format if is_alike else None


@contextmanager
def reading(encoded: bytes) -> Iterator[Image.Image]:
    """Opens an image by its header. Whatever Pillow raises inside becomes a ``DataError``."""
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as image:
            yield image
    except Image.DecompressionBombError as error:
        raise DataError(f"not a readable image: {error}", "image too large") from error
    except UnidentifiedImageError as error:
        raise DataError(f"not a readable image: {unread_kind(encoded)}", BROKEN) from error
    except READ_ERRORS as error:
        problem = str(error) or type(error).__name__
        raise DataError(f"not a readable image: {problem}", BROKEN) from error


def unread_kind(encoded: bytes) -> str:
    """Returns what bytes are that no decoder here takes for an image, and what to do."""
    for problem, start, beginnings in UNREAD_KINDS:
        if encoded[start:].startswith(beginnings):
            return problem
    if not encoded:
        return "it has no bytes"
    return f"it begins like none of {', '.join(FORMATS)}, or its header is damaged"


def upright_size(image: Image.Image, encoded: bytes) -> tuple[int, int]:
    """Returns width and height of an image that is not decoded yet, as it will be turned."""
    width, height = image.size
    is_sideways = orientation_by_header(image, encoded) in SIDEWAYS
    return (height, width) if is_sideways else (width, height)


def orientation_by_header(image: Image.Image, encoded: bytes) -> int:
    """Returns the orientation tag of an image that is not decoded yet; 1 if its size allows for it.

    A PNG may carry the tag behind its pixels; only one that may is decoded. A TIFF has its tag in the
    header, and Pillow reports its size as turned.
    """
    if image.format == "PNG":
        last = max(encoded.rfind(chunk) for chunk in PNG_ORIENTATIONS)
        if last < 0:
            return 1
        if "exif" not in image.info or last > encoded.find(b"IDAT"):
            image.load()
    if isinstance(image, TiffImageFile) and ExifTags.Base.Orientation in image.tag_v2:
        return 1
    return orientation_of(image)


def orientation_of(image: Image.Image) -> int:
    """Returns the orientation tag of an image; 1 where there is none or it cannot be read.

    A decoded TIFF has none: Pillow has turned it.
    """
    with suppress(*READ_ERRORS):
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        return value if value in TURNS else 1
    return 1


def in_rgb(image: Image.Image, encoded: bytes) -> Image.Image:
    """Returns a decoded image in RGB, transparency on white."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return deep_grey(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.format == "PNG" and "transparency" in image.info:
        image.info["transparency"] = eight_bits(image, encoded)
    coloured = image.convert("RGBA")
    shown = Image.new("RGB", image.size, "white")
    shown.paste(coloured, mask=coloured.getchannel("A"))
    return shown


def eight_bits(image: Image.Image, encoded: bytes) -> object:
    """Returns a PNG's transparent colour in the 8 bits of its pixels: the file has it in its own depth,
    and Pillow passes it on as it is.
    """
    colour, depth = image.info["transparency"], encoded[24]
    if image.mode == "L" and depth < 8:
        return colour * 255 // (2**depth - 1)
    if image.mode == "RGB" and depth == 16:
        return tuple(value >> 8 for value in colour)
    return colour


def deep_grey(image: Image.Image) -> Image.Image:
    """Returns grey of more than 8 bits in 8: the high ones of 16, darkest to brightest of 32.

    Raises ``ValueError`` for floats that are no numbers.
    """
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    values = np.asarray(image)
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):
        (depth, *_) = tags.get(BITS_PER_SAMPLE, (16,))
        grey = (values >> (depth - 8)).astype(np.uint8)
    else:
        if image.mode == "I" and tags and tags.get(SAMPLE_FORMAT, (1,)) == (1,):
            values = values.view(np.uint32)
        if not np.isfinite(values).all():
            raise ValueError("some of its values are infinite or no number")
        above = values - values.min().astype(np.float64)
        grey = (above * (255 / (above.max() or 1))).round().astype(np.uint8)
    if tags.get(PHOTOMETRIC) == 0:
        grey = 255 - grey  # white is zero
    elif "transparency" in image.info:
        grey = np.where(values == image.info["transparency"], np.uint8(255), grey)
    return Image.fromarray(grey)
