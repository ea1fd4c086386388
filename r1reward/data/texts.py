"""Values that are no usable text: what they are, in words, and what no tokenizer takes."""

import re
from collections.abc import Mapping

from r1reward.errors import DataError

# JSON can write one half of a UTF-16 surrogate pair alone; texts that were cut end in it.
HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def described(value: object) -> str:
    """Returns what a value is, in words and without its content if that may be long."""
    match value:
        case None:
            return "missing"
        case bool():
            return str(value).lower()
        case int() | float():
            return f"a number ({value})"
        case str():
            return "text" if value.strip() else "empty"
        case bytes():
            return "bytes"
        case Mapping():
            return f"an object of {', '.join(map(str, value))[:100] or 'nothing'}"
        case list() | tuple():
            return f"a list of {len(value)}"
        case _:
            return f"of type {type(value).__name__}"


def refuse_other_than_text(value: object, name: str) -> None:
    """Raises ``DataError``, which begins with ``name``, for all but text that says something."""
    if value is None or (isinstance(value, str) and not value.strip()):
        raise DataError(f"{name} is missing or empty; fill it in or remove the row", "empty")
    if isinstance(value, list | tuple | Mapping):
        raise DataError(
            f"{name} is {described(value)} where text is due; `r1reward data import jsonl` (or "
            "parquet) reads messages as they are"
        )
    if not isinstance(value, str):
        raise DataError(f"{name} is {described(value)} where text is due; write it as text")


def refuse_half_characters(text: str, what: str) -> None:
    """Raises ``DataError`` for text that holds half a surrogate pair."""
    if (half := HALF_CHARACTER.search(text)) is not None:
        raise DataError(
            f"{what} holds half a character ({half[0]!r} after {half.start()} others); "
            "`r1reward data import` cleans text, or remove the row",
            "half a character",
        )
