"""Fields of a published row; each function raises ``DataError`` for what it cannot use.

The message is the end of a sentence: ``read_source`` puts file and row before it.
"""

import hashlib
import math
from contextlib import suppress

from r1reward.data.image_values import image_items
from r1reward.data.stores.row_files import Row
from r1reward.data.texts import refuse_other_than_text
from r1reward.errors import DataError


def text(row: Row, name: str) -> str:
    """Returns a field that must hold text."""
    value = row.get(name)
    refuse_other_than_text(value, name)
    return str(value)


def texts(row: Row, question: str, first: str, second: str) -> tuple[str, str, str]:
    """Returns the question and the two responses from the fields of these names."""
    return text(row, question), text(row, first), text(row, second)


def text_or_empty(row: Row, name: str) -> str:
    """Returns a field that a row may lack as text; an id may be a number."""
    value = row.get(name)
    return "" if value is None else str(value)


def number(value: object, name: str) -> float:
    """Returns a finite number, given as one or as text."""
    parsed = math.nan
    with suppress(TypeError, ValueError):
        parsed = float(value)  # type: ignore[arg-type]
    if not math.isfinite(parsed):
        raise DataError(f"{name} is {value!r}; it must be a number")
    return parsed


def image(row: Row, name: str = "image") -> str | bytes:
    """Returns the one image of a row, as bytes or as its path."""
    images = image_items(row.get(name), name)
    if not images:
        raise DataError(f"{name} is missing; fill it in or remove the row")
    if len(images) > 1:
        raise DataError(f"{name} holds {len(images)} images; it must be one")
    return images[0]


def media_paths(row: Row) -> tuple[tuple[str, ...], str | None]:
    """Returns the ``image`` of a row as one path, or the folder that is its ``video``; a row has one of
    them.
    """
    if row.get("image"):
        return (text(row, "image"),), None
    if row.get("video"):
        return (), text(row, "video")
    raise DataError("neither image nor video is there; fill one in or remove the row")


def kept(row: Row, *names: str) -> dict[str, object]:
    """Returns those of the named fields that the row has: what is worth keeping beside the pair."""
    return {name: row[name] for name in names if row.get(name) is not None}


def group_of(question: str, *media: str | bytes | None) -> str:
    """Returns one name for all pairs about the same question and media, where a source gives none."""
    digest = hashlib.sha256()
    for part in (question, *(part for part in media if part is not None)):
        encoded = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(hashlib.sha256(encoded).digest())
    return digest.hexdigest()[:16]
