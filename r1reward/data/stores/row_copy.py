"""Rows from stores and files into a new store, as they are: nothing is decoded on the way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from r1reward.data.media import FrameRules
from r1reward.data.stores.store import (
    DataError,
    Header,
    Row,
    check_row,
    media_root,
    numbered_rows,
    pair_files,
    pair_from_row,
    pair_key,
    read_header,
)

Origins = tuple[Path, FrameRules]


def origins(file: Path) -> Origins:
    """Where a file's paths begin and how its videos are shown."""
    header = read_header(file)
    return media_root(file, header, None).resolve(), header.frames


def common_origins(paths: Sequence[Path]) -> Origins | None:
    """Those of all files, if they agree: then paths may stay paths."""
    found = {origins(file) for path in paths for file in pair_files(path)}
    return found.pop() if len(found) == 1 else None


def common_header(kept: Origins | None) -> Header:
    return Header(str(kept[0]), kept[1]) if kept else Header()


def copied_rows(path: Path, kept: Origins | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every row with its origin and its key; media that a path no longer leads to come inside.

    Raises ``DataError`` for a row that cannot be used.
    """
    for file in pair_files(path):
        root, frames = origins(file)
        has_keys = read_header(file).made_by is not None
        for origin, row in numbered_rows(file):
            check_row(row, origin)
            refuse_half_characters(row, origin)
            moved = movable(row, origin, root, frames, kept == (root, frames))
            if not has_keys:
                moved["key"] = pair_key(pair_from_row(row, origin, root, frames))
            yield origin, moved


def refuse_half_characters(row: Row, origin: str) -> None:
    """JSON allows half a surrogate pair; Parquet does not."""
    for name in ("question", "response_1", "response_2", "source", "category", "group", "meta"):
        try:
            (row.get(name) or "").encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{origin}: {name} holds half a character ({error.reason}); "
                "`r1reward data import` cleans text"
            ) from error


def movable(row: Row, origin: str, root: Path, frames: FrameRules, keep: bool) -> dict[str, Any]:
    images = list(row.get("images") or ())
    moved = {**row, "images": images, "image_paths": list(row.get("image_paths") or ())}
    has_paths = bool(moved["image_paths"] or row.get("video"))
    names = [image for image in images if isinstance(image, str)]
    if names and keep and len(names) == len(images):
        moved |= {"images": [], "image_paths": names + moved["image_paths"]}
    elif names or (has_paths and not keep):
        pair = pair_from_row(row, origin, root, frames)
        moved |= {"images": list(pair.images), "image_paths": [], "video": None}
    return moved


def keys_and_categories(path: Path) -> Iterator[tuple[str, str]]:
    """Of every row in order; of a store they are read alone, without texts and images."""
    for file in pair_files(path):
        if file.suffix == ".parquet" and read_header(file).made_by is not None:
            with pq.ParquetFile(file) as parquet:
                for batch in parquet.iter_batches(columns=["key", "category"]):
                    yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
        else:
            for _, row in copied_rows(file, None):
                yield row["key"], row.get("category") or ""
