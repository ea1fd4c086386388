"""Texts that no tokenizer takes."""

from __future__ import annotations

import re

from r1reward.errors import DataError

# JSON can write one half of a UTF-16 surrogate pair alone; texts that were cut end in it.
HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def refuse_half_characters(text: str, what: str) -> None:
    """Raises ``DataError`` for text that holds half a surrogate pair."""
    if (half := HALF_CHARACTER.search(text)) is not None:
        raise DataError(
            f"{what} holds half a character ({half[0]!r} after {half.start()} others); "
            "`r1reward data import` cleans text, or remove the row",
            "half a character",
        )
