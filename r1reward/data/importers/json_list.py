"""A JSON list read element by element: memory holds one element, not the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from r1reward.errors import DataError, as_input_error

CHUNK = 1 << 16  # characters
MAX_ELEMENT = 1 << 28  # an element this long is taken for a broken file
SPACE = " \t\r\n"


def json_elements(path: Path) -> Iterator[object]:
    """Yields the elements of a JSON list. Raises ``DataError`` for a file that is none, where that
    shows.
    """
    with (
        path.open(encoding="utf-8-sig") as file,
        as_input_error(f"{path}", ValueError, kind=DataError),
    ):
        yield from elements_of(file)


def elements_of(file: TextIO) -> Iterator[object]:
    """Yields the elements of the list in an open file. Raises ``ValueError``."""
    text = next_text(file, "")
    if text[:1] != "[":
        raise ValueError("not a list of rows")
    text = next_text(file, text[1:])
    while text[:1] != "]":
        element, text = next_element(file, text)
        yield element
        text = next_text(file, text)
        if text[:1] == ",":
            text = next_text(file, text[1:])
            if text[:1] == "]":
                raise ValueError("not JSON: a comma before the end of the list")
        elif text[:1] != "]":
            raise ValueError("not JSON: the list does not end, or a comma is missing")
    if next_text(file, text[1:]):
        raise ValueError("not JSON: there is text after the list")


def next_text(file: TextIO, text: str) -> str:
    """Returns what comes next, without leading space; empty at the end of the file."""
    while not (text := text.lstrip(SPACE)):
        if not (text := file.read(CHUNK)):
            return ""
    return text


def next_element(file: TextIO, text: str) -> tuple[object, str]:
    """Returns the element that ``text`` begins with, and the text after it.

    What is read at once doubles, so that a long element is not parsed once for each chunk of it.
    """
    decoder = json.JSONDecoder()
    while True:
        problem = None
        try:
            element, end = decoder.raw_decode(text)
        except json.JSONDecodeError as error:
            problem = error
        except RecursionError as error:
            raise ValueError(f"not JSON: {error}") from error
        else:
            if end < len(text):
                return element, text[end:]
        # Not all of it was read; a number may go on even where it could end.
        more = file.read(max(CHUNK, len(text)))
        if not more and problem is None:
            return element, ""
        if not more or len(text) > MAX_ELEMENT:
            raise ValueError(f"not JSON: {problem.msg if problem else 'an endless number'}")
        text += more
