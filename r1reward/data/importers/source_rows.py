"""From a file or a folder to numbered rows; what a row means is each importer's own affair."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from r1reward.data.importers.raw_pair import RawPairs
from r1reward.data.stores.row_files import NAMES, Row, kind_of, numbered_rows
from r1reward.errors import DataError

RowReader = Callable[[Row, str], RawPairs]


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
        if kind_of(src) not in suffixes:
            raise DataError(f"{src}: unknown file type {src.suffix!r}; use {' or '.join(suffixes)}")
        return [src]
    files = sorted(
        path
        for path in src.rglob("*.*")
        if kind_of(path) in suffixes
        and path.name not in skipped
        and not is_hidden(path, src)
        and path.is_file()
    )
    for suffix in suffixes:
        if first := [file for file in files if kind_of(file) == suffix]:
            return first
    raise DataError(
        f"{src}: the folder holds no {' or '.join(NAMES[suffix] for suffix in suffixes)} file"
    )


def is_hidden(path: Path, root: Path) -> bool:
    """Returns whether the file or one of its folders below ``root`` is hidden."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)
