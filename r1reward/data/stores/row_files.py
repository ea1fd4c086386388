"""The rows of a file, one by one: Parquet, JSONL, a JSON list or CSV; text also compressed.

``a.jsonl.gz``, ``.zst`` and ``.bz2`` are read as they are unpacked. Text is UTF-8, with or without a byte
order mark. Blank lines are no rows.
"""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import ijson
import pyarrow as pa
import pyarrow.parquet as pq

from r1reward.errors import DataError, as_input_error

Row = Mapping[str, Any]
NAMES = {".parquet": "Parquet", ".jsonl": "JSONL", ".json": "JSON", ".csv": "CSV"}
PACKED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
OTHER_NAMES = {".ndjson": ".jsonl"}
WIDE_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
PARQUET_ERRORS = (pa.ArrowException, OSError)
BATCH_ROWS = 32  # of a Parquet file whose row groups may be large: images are inside
MAX_CSV_FIELD = 1 << 24
MAX_JSON_DEPTH = 500
# Of one row; a small packed file can unpack to a line without an end.
MAX_LINE_BYTES = 1 << 28


def kind_of(path: Path) -> str:
    """Returns what the file holds by its name, as a suffix: ``.jsonl`` for ``a.jsonl.gz``."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    return OTHER_NAMES.get(last, last)


def numbered_rows(path: Path) -> Iterator[tuple[int, Row | DataError]]:
    """Yields every row with its number from 1 (of JSONL, its line), or why it is none.

    Raises ``DataError`` for a file that cannot be read to its end.
    """
    match kind_of(path):
        case ".parquet":
            yield from enumerate(parquet_rows(path), start=1)
        case ".jsonl":
            yield from jsonl_rows(path)
        case ".json":
            yield from json_rows(path)
        case ".csv":
            yield from enumerate(csv_rows(path), start=1)
        case _:
            kinds = ", ".join(NAMES)
            raise DataError(f"{path}: unknown file type {path.suffix!r}; use one of {kinds}")


def open_parquet(path: Path) -> pq.ParquetFile:
    """Returns the open file. Raises ``DataError`` if it is no Parquet file."""
    with as_input_error(f"{path}: not a Parquet file", *PARQUET_ERRORS, kind=DataError):
        return pq.ParquetFile(path)


def parquet_rows(path: Path) -> Iterator[Row]:
    """Yields the rows of a Parquet file. Raises ``DataError`` for one that cannot be read."""
    damage = (*PARQUET_ERRORS, UnicodeDecodeError)
    with open_parquet(path) as file, as_input_error(f"{path}: damaged", *damage, kind=DataError):
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            yield from batch.to_pylist()


@contextmanager
def unpacked(path: Path) -> Iterator[io.BufferedReader]:
    """Opens a file, unpacked if its name says that it is packed, behind its byte order mark."""
    packing = PACKED.get(path.suffix.lower())
    damaged = as_input_error(f"{path}: damaged", *PARQUET_ERRORS, kind=DataError)
    with damaged, path.open("rb") as plain:
        file = (
            plain
            if packing is None
            else io.BufferedReader(pa.CompressedInputStream(plain, packing))
        )
        start = file.peek(4)
        if start.startswith(WIDE_MARKS):
            raise DataError(f"{path}: not UTF-8 but UTF-16: convert it")
        if start.startswith(codecs.BOM_UTF8):
            file.read(len(codecs.BOM_UTF8))
        yield file


def jsonl_rows(path: Path) -> Iterator[tuple[int, Row | DataError]]:
    """Yields every line that is not blank, with its number from 1."""
    with unpacked(path) as file:
        yield from rows_of_lines(file, path)


def rows_of_lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, Row | DataError]]:
    lines = iter(lambda: file.readline(MAX_LINE_BYTES + 1), b"")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE_BYTES:
            raise DataError(f"{path} row {number}: has more than {MAX_LINE_BYTES:,} bytes")
        if line.strip():
            yield number, json_row(line)


def json_row(line: bytes) -> Row | DataError:
    """Returns the object of a line of JSONL, or why it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        return DataError(f"not JSON: {error}")
    return row if isinstance(row, dict) else DataError("not a JSON object")


def json_rows(path: Path) -> Iterator[tuple[int, Row | DataError]]:
    """Yields every element of a JSON list with its number from 1; memory holds one, not the file. JSONL
    under this name is read as such: its first line is an object, and others follow.

    Raises ``DataError`` for a file that is no list, where that shows.
    """
    with unpacked(path) as file:
        if file.peek(1)[:1] != b"{":
            yield from rows_of_list(file, path)
            return
        rows = rows_of_lines(file, path)
        first_two = list(islice(rows, 2))
        if len(first_two) < 2 or isinstance(first_two[0][1], DataError):
            raise DataError(f"{path}: not a list of rows")
        yield from chain(first_two, rows)


def rows_of_list(file: BinaryIO, path: Path) -> Iterator[tuple[int, Row | DataError]]:
    number = 0
    try:
        for number, element in enumerate(list_elements(file), start=1):
            not_row = DataError("not a JSON object")
            yield number, element if isinstance(element, dict) else not_row
    except DataError:
        raise
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
    with unpacked(path) as file:
        reader = csv.reader(io.TextIOWrapper(file, encoding="utf-8", newline=""), strict=True)
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
