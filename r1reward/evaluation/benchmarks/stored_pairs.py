"""Pairs of our own as a benchmark: any store or file of pairs, and the miniature's held-out splits."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from r1reward.data.stores.store import (
    DataError,
    media_root,
    numbered_rows,
    pair_files,
    pair_from_row,
    read_header,
)
from r1reward.evaluation.benchmarks.rows import (
    MEDIA_MISSING,
    MediaOptions,
    is_absent,
    refuse_missing,
)
from r1reward.evaluation.items import Benchmark, make_items
from r1reward.types import PreferencePair

MAPPINGS = {"category": "the category that is stored with each pair"}
NO_CATEGORY = "all"


def load_stored_pairs(path: Path, media: MediaOptions, num_rows: int | None) -> Benchmark:
    """The first ``num_rows`` of a store, a Parquet or a JSONL file. Raises ``DataError``."""
    files = {file: read_header(file) for file in pair_files(path)}
    found = (
        (origin, row, media_root(file, header, media.root), header.frames)
        for file, header in files.items()
        for origin, row in numbered_rows(file)
    )
    rows = list(islice(found, num_rows))
    if not rows:
        raise DataError(f"{path}: holds no pairs")
    absent = [first_absent(row, root) for _, row, root, _ in rows]
    num_missing = refuse_missing(path, absent, rows[0][2], media.missing)
    pairs = [
        pair_from_row(row, origin, root, frames)
        for (origin, row, root, frames), file in zip(rows, absent, strict=True)
        if file is None
    ]
    dropped = {MEDIA_MISSING: num_missing} if num_missing else {}
    return pairs_benchmark("pairs", pairs, dropped)


def load_shapes(
    name: str, split: Literal["heldout", "hard_heldout"], num_rows: int | None
) -> Benchmark:
    """Pairs the miniature never trained on; 200 unless told otherwise."""
    from r1reward.shapes.pairs import make_pairs

    return pairs_benchmark(name, make_pairs(split, num_rows or 200, seed=0), {})


def first_absent(row: Mapping[str, Any], root: Path) -> str | None:
    """The first medium of a row that is not there. Whatever else is wrong is found on reading."""
    lists = [row.get("images"), row.get("image_paths")]
    items = [item for found in lists if isinstance(found, list) for item in found]
    paths = (item for item in items if isinstance(item, str))
    absent = next((path for path in paths if is_absent(path, False, root)), None)
    video = row.get("video")
    if absent is None and isinstance(video, str) and video and is_absent(video, True, root):
        return video
    return absent


def pairs_benchmark(
    name: str, pairs: list[PreferencePair], num_dropped: Mapping[str, int]
) -> Benchmark:
    items = make_items(
        (pair, f"row {number}", {"category": pair.category or NO_CATEGORY})
        for number, pair in enumerate(pairs, start=1)
    )
    grouped = any(pair.group for pair in pairs)
    return Benchmark(name, items, MAPPINGS, num_dropped, scores_groups=grouped)
