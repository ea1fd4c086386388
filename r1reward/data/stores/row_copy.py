"""Rows of stores and files on their way into another store."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from r1reward.data.image_values import image_items
from r1reward.data.import_report import ImportReport
from r1reward.data.stores.pair_writer import PairWriter
from r1reward.data.stores.remarks import Remarks
from r1reward.data.stores.row_files import Row
from r1reward.data.stores.store import (
    Header,
    PairFile,
    check_row,
    pair_files,
    pair_from_row,
    pair_keys,
)
from r1reward.data.video import FrameRules, MediaFolder
from r1reward.types import PreferencePair


def resolved_media(file: PairFile) -> MediaFolder:
    """Returns the media folder of a file, by its resolved path."""
    links = tuple(folder.resolve() for folder in file.media.links)
    return replace(file.media, root=file.media.root.resolve(), links=links)


def common_media(paths: Sequence[Path]) -> MediaFolder | None:
    """Returns the media folder of all files if they agree: then paths in their rows may stay paths."""
    folders = {resolved_media(file) for path in paths for file in pair_files(path)}
    return folders.pop() if len(folders) == 1 else None


class DerivedStore:
    """A new store made of copied rows, written from nothing, with its report.

    ``media`` is what ``copied_rows`` was given. Raises ``InputError`` for a folder that holds something
    else.
    """

    def __init__(self, out: Path, media: MediaFolder | None, made_by: Mapping[str, Any]) -> None:
        header = (
            Header(str(media.root), media.frames, tuple(map(str, media.links)))
            if media
            else Header()
        )
        self.writer = PairWriter(out, header, made_by)
        self.writer.claim(resume=False)
        self.report = ImportReport()
        self.remarks = Remarks()

    def add(self, row: Row, origin: str) -> None:
        """Writes and counts a row."""
        self.report.num_read += 1
        self.report.keep(row["preferred"])
        for remark in self.remarks.of(row, row["key"], row["opposite"]):
            self.report.note(remark, origin)
        self.writer.add(row)

    def drop(self, reason: str, sentence: str, num_rows: int = 1) -> None:
        """Counts rows that are left out."""
        if num_rows:
            self.report.num_read += num_rows
            self.report.drop(reason, sentence, num_rows=num_rows)

    def finish(self, **beside: object) -> ImportReport:
        """Writes the last shard and the report; ``beside`` is added to it."""
        self.writer.finish({**self.report.to_json(), **beside})
        return self.report


def copied_rows(path: Path, media: MediaFolder | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields every row with its origin and its key; paths below ``media`` stay paths.

    Media that the new store's paths would no longer lead to come inside.

    Raises ``DataError`` for a row that cannot be used.
    """
    for file in pair_files(path):
        for origin, row in file.rows():
            check_row(row, origin)
            moved = movable(row, origin, file, keep=media == resolved_media(file))
            if not file.has_keys or not row.get("opposite"):
                moved["key"], moved["opposite"] = pair_keys(file.pair(row, origin))
            yield origin, moved


def copied_pair(row: Row, origin: str, media: MediaFolder | None) -> PreferencePair:
    """Returns the pair of a row of ``copied_rows``, its media read. Raises ``DataError``."""
    return pair_from_row(row, origin, media or MediaFolder(Path(), FrameRules()))


def movable(row: Row, origin: str, file: PairFile, *, keep: bool) -> dict[str, Any]:
    """Returns the row for another store: its paths stay paths if ``keep``, else its media come inside."""
    images = list(image_items(row.get("images"), f"{origin}: images"))
    moved = {**row, "images": images, "image_paths": list(row.get("image_paths") or ())}
    has_paths = bool(moved["image_paths"] or row.get("video"))
    names = [image for image in images if isinstance(image, str)]
    if names and keep and len(names) == len(images):
        moved |= {"images": [], "image_paths": names + moved["image_paths"]}
    elif names or (has_paths and not keep):
        moved |= {"images": list(file.pair(row, origin).images), "image_paths": [], "video": None}
    return moved


def keys_and_categories(path: Path) -> Iterator[tuple[str, str]]:
    """Yields key and category of every row in order; a store is read without texts and images."""
    for file in pair_files(path):
        if file.has_keys:
            with pq.ParquetFile(file.path) as parquet:
                for batch in parquet.iter_batches(columns=["key", "category"]):
                    yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
        else:
            for _, row in copied_rows(file.path, None):
                yield row["key"], row.get("category") or ""
