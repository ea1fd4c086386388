"""An image as people store it, in a row or a message: to its bytes, or to the path of its file.

Bytes; a path; a data URL; base64; the hub's struct of bytes and path, whose bytes win; an object with a
url, as in the messages of OpenAI's API; lists of these, and nothing. Nothing is fetched. No error repeats
an image's content.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

from r1reward.data.texts import described
from r1reward.errors import DataError

# Where an object may hold its image; the first that is filled in counts.
HOLDERS = ("bytes", "base64", "b64_json", "data", "path", "url", "image_url", "image", "source")
DATA_URL = re.compile(r"data:([^,]{0,200}?)(;base64)?,", re.IGNORECASE)
SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
# Longer text is no path.
MAX_PATH_CHARS = 1024
# What the bytes of an image begin with, by the number of bytes before it. Short: base64 that decodes to
# one of these is no path by chance.
SIGNATURES = (
    (
        0,
        (
            b"\x89PNG",
            b"\xff\xd8\xff",
            b"GIF8",
            b"II*\0",
            b"MM\0*",
            b"\0\0\1\0",
            b"qoif",
            b"\xff\x0a",
        ),
    ),
    (4, (b"ftyp", b"jP  ", b"JXL ")),
    (8, (b"WEBP",)),
)
SHORTEST_IMAGE = 32


def image_items(value: object, what: str) -> tuple[str | bytes, ...]:
    """Returns the images in ``value`` in their order: bytes, paths, and short base64 as it is
    (``bytes_unless_file`` tells it from a path).

    Raises ``DataError``, which begins with ``what``, for what is no image and for what is elsewhere.
    """
    return tuple(iter_items(value, what))


def iter_items(value: object, what: str) -> Iterator[str | bytes]:
    if value is None or value == "":
        return
    if isinstance(value, bytes | bytearray):
        yield bytes(value)
    elif isinstance(value, str):
        yield text_item(value.strip(), what)
    elif isinstance(value, Mapping):
        yield from held_items(value, what)
    elif isinstance(value, Sequence):
        if len(value) >= SHORTEST_IMAGE and all(type(item) is int for item in value):
            yield bytes_of_numbers(value, what)
            return
        if "" in value:
            raise DataError(
                f"{what} has an empty entry; fill it in or remove the row", "image missing"
            )
        for item in value:
            yield from iter_items(item, what)
    else:
        raise DataError(
            f"{what} is {described(value)}; an image is bytes, a path, a data URL or base64"
        )


def held_items(value: Mapping[object, object], what: str) -> Iterator[str | bytes]:
    """Yields the images of an object; none if all that it holds is null, as the hub stores no image."""
    if all(held is None for held in value.values()):
        return
    holder = next((name for name in HOLDERS if value.get(name)), None)
    if holder is None:
        names = ", ".join(str(name) for name in value)
        raise DataError(f"{what} is an object of {names[:100]}; it needs bytes, path or url")
    held = value[holder]
    if holder in ("bytes", "base64", "b64_json", "data") and isinstance(held, str):
        yield held_text(held, what)
    else:
        yield from iter_items(held, what)


def held_text(text: str, what: str) -> bytes:
    """Returns the bytes of text that stands where bytes are due."""
    item = text_item(text.strip(), what)
    return item if isinstance(item, bytes) else decoded(item, what)


def bytes_of_numbers(numbers: Sequence[int], what: str) -> bytes:
    """Returns bytes that JSON holds as a list of numbers."""
    try:
        return bytes(numbers)
    except ValueError as error:
        raise DataError(f"{what} is a list of numbers that are no bytes: {error}") from error


def text_item(text: str, what: str) -> str | bytes:
    """Returns bytes for a data URL and for base64 too long to be a path; else the text."""
    if (url := DATA_URL.match(text)) is not None:
        body = text[url.end() :]
        return decoded(body, what) if url[2] else unquote_to_bytes(body)
    scheme = SCHEME.match(text)
    if scheme is not None and scheme[1].lower() == "file":
        return unquote(text[scheme.end() :].removeprefix("localhost"))
    if scheme is not None:
        raise DataError(
            f"{what} is at {shortened(text)}; nothing is fetched here: download it and name the file",
            "image elsewhere",
        )
    return decoded(text, what) if len(text) > MAX_PATH_CHARS else text


def bytes_unless_file(item: str | bytes, root: Path) -> str | bytes:
    """Returns the bytes of short base64, if it is that of an image and no file has this name."""
    if not isinstance(item, str):
        return item
    with suppress(DataError):
        encoded = decoded(item, "image")
        if has_signature(encoded) and not is_file(root / item):
            return encoded
    return item


def has_signature(encoded: bytes) -> bool:
    """Returns whether bytes begin like an image."""
    return len(encoded) >= SHORTEST_IMAGE and any(
        encoded[start:].startswith(beginnings) for start, beginnings in SIGNATURES
    )


def is_file(path: Path) -> bool:
    """Returns whether a file is there; no file has a name that the system refuses."""
    with suppress(OSError, ValueError):
        return path.is_file()
    return False


def decoded(text: str, what: str) -> bytes:
    """Returns the bytes of base64: in lines, without its last signs, or in the alphabet of URLs."""
    packed = "".join(text.split()).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(
            f"{what} is neither a path nor base64: {error} ({len(text):,} characters)"
        ) from error


def shortened(text: str, max_chars: int = 120) -> str:
    """Returns the beginning and the end of a path or address that may be long."""
    half = max_chars // 2
    return text if len(text) <= max_chars else f"{text[:half]}...{text[-half:]}"
