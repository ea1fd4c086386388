"""From a file or a folder to numbered rows; what a row means is each importer's own affair."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import ijson

from r1reward.data.importers.fields import Row
from r1reward.data.importers.raw_pair import RawPairs
from r1reward.data.stores.store import json_row, parquet_rows
from r1reward.errors import DataError

RowReader = Callable[[Row, str], RawPairs]
NAMES = {".parquet": "Parquet", ".jsonl": "JSONL", ".json": "JSON", ".csv": "CSV"}
MAX_CSV_FIELD = 1 << 24
MAX_JSON_DEPTH = 500


def read_source(
    src: Path, suffixes: Sequence[str], read_row: RowReader, skipped: Collection[str] = ()
) -> RawPairs:
    """Yields every row of every file through ``read_row``; the ``DataError`` of a row is yielded.

    Raises ``DataError`` for a file or folder that cannot be read at all.
    """
    for file in source_files(src, suffixes, skipped):
        for number, row in numbered_rows(file):
            origin = f"{file} row {number}"
            try:
                if isinstance(row, DataError):
                    raise row
                pairs = list(read_row(row, origin))
            except DataError as error:
                pairs = [DataError(f"{origin}: {error}", error.reason)]
            yield from pairs


def source_files(src: Path, suffixes: Sequence[str], skipped: Collection[str] = ()) -> list[Path]:
    """Returns the file, or of a folder the files of the first of these kinds that it holds, without
    those ``skipped``.
    """
    if not src.is_dir():
        if not src.is_file():
            raise DataError(f"{src}: no such file")
        if src.suffix not in suffixes:
            raise DataError(f"{src}: unknown file type {src.suffix!r}; use {' or '.join(suffixes)}")
        return [src]
    for suffix in suffixes:
        files = sorted(
            path
            for path in src.rglob(f"*{suffix}")
            if not is_hidden(path, src) and path.name not in skipped
        )
        if files:
            return files
    raise DataError(
        f"{src}: the folder holds no {' or '.join(NAMES[suffix] for suffix in suffixes)} file"
    )


def is_hidden(path: Path, root: Path) -> bool:
    """Returns whether the file or one of its folders below ``root`` is hidden."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def numbered_rows(path: Path) -> Iterator[tuple[int, Row | DataError]]:
    """Yields every row with its number from 1 (of JSONL, its line), or why it is none."""
    match path.suffix:
        case ".parquet":
            yield from enumerate(parquet_rows(path), start=1)
        case ".jsonl":
            yield from jsonl_rows(path)
        case ".json":
            yield from json_rows(path)
        case ".csv":
            yield from enumerate(csv_rows(path), start=1)
        case suffix:
            raise AssertionError(f"source_files let {suffix} pass")


def jsonl_rows(path: Path) -> Iterator[tuple[int, Row | DataError]]:
    """Yields every line that is not blank, with its number from 1."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, json_row(line)


def json_rows(path: Path) -> Iterator[tuple[int, Row | DataError]]:
    """Yields every element of a JSON list with its number from 1; memory holds one, not the file.

    Raises ``DataError`` for a file that is no list, where that shows.
    """
    number = 0
    with path.open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        try:
            for number, element in enumerate(list_elements(file), start=1):
                not_row = DataError("not a JSON object")
                yield number, element if isinstance(element, dict) else not_row
        except ValueError as error:
            raise DataError(f"{path}: {error}") from error
        except ijson.JSONError as error:
            # The first line of ijson's says what is wrong; those after it draw where. It may be bytes.
            reason = re.split(r"\n|\\n", str(error).removeprefix("b'"))[0]
            raise DataError(f"{path} row {number + 1}: not JSON: {reason}") from error


def list_elements(file: BinaryIO) -> Iterator[object]:
    """Yields the elements of a JSON list. Raises ``ijson.JSONError``, and ``ValueError`` for no list.

    By events: ``ijson.items`` names the path to each of them, whose length grows with the depth, so that
    a list nested 100,000 deep fills the memory.
    """
    events = ijson.basic_parse(file, use_float=True)
    if next(events)[0] != "start_array":
        raise ValueError("not a list of rows")
    depth = 0
    builder = ijson.ObjectBuilder()
    for event, value in events:
        depth += event.startswith("start_") - event.startswith("end_")
        if depth > MAX_JSON_DEPTH:
            raise ijson.JSONError(f"nested more than {MAX_JSON_DEPTH} deep")
        if depth < 0:
            continue  # the list ends, and the parser looks at what is behind it
        builder.event(event, value)
        if depth == 0:
            yield builder.value
            builder = ijson.ObjectBuilder()


def csv_rows(path: Path) -> Iterator[Row | DataError]:
    """Yields the rows under the header line; every value is text."""
    csv.field_size_limit(MAX_CSV_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = next(reader, [])
            for values in reader:
                if len(values) == len(header):
                    yield dict(zip(header, values, strict=True))
                elif values:
                    yield DataError(f"{len(values)} values where the header names {len(header)}")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 ({error.reason}): convert it") from error
        except csv.Error as error:
            raise DataError(f"{path} line {reader.line_num}: not CSV: {error}") from error
