"""Files of one JSON object a line that are appended to as work is done, and survive a kill."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def append_json_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Appends lines and flushes them; a torn last line of an earlier run is ended first."""
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")
        for row in rows:
            line = json.dumps(row, ensure_ascii=False)
            # A server's JSON may hold half a surrogate pair; json.loads takes it back.
            file.write(line.encode("utf-8", "surrogatepass") + b"\n")


def read_json_lines(path: Path) -> list[Any]:
    """Returns every whole line. A line that a kill cut short is skipped."""
    return [row for _, row in numbered_json_lines(path)]


def numbered_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yields whole lines with their numbers in the file, from 1; none where there is no file."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        with suppress(ValueError):
            yield number, json.loads(line)
