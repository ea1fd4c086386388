"""Pairs of our own as a benchmark: any store or file of pairs, and the miniature's held-out splits."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from r1reward.data.image_values import bytes_unless_file
from r1reward.data.stores.row_files import Row
from r1reward.data.stores.store import PairFile, pair_files, row_images
from r1reward.errors import DataError
from r1reward.evaluation.benchmarks.rows import (
    MediaOptions,
    UnusableRows,
    count_missing,
    first_absent,
    with_whole_groups,
)
from r1reward.evaluation.items import Benchmark, make_items
from r1reward.recipe.choices import ShapesSplit
from r1reward.types import PreferencePair

MAPPINGS = {"category": "the category that is stored with each pair"}
NO_CATEGORY = "all"


def load_stored_pairs(path: Path, media: MediaOptions, num_rows: int | None) -> Benchmark:
    """Returns the first ``num_rows`` of a store, a Parquet or a JSONL file; a row that cannot be used is
    left out. Raises ``DataError`` if none can be.
    """
    stored = (
        (file, origin, row)
        for file in pair_files(path, media.root, media.links)
        for origin, row in file.rows_or_errors()
    )
    rows: list[tuple[PairFile, str, Row]] = []
    absent: list[str | None] = []
    unusable = UnusableRows()
    for file, origin, row in islice(stored, num_rows):
        with unusable.setting_aside():
            if isinstance(row, DataError):
                raise DataError(f"{origin}: {row}", row.reason)
            absent.append(absent_medium(file, row, origin))
            rows.append((file, origin, row))
    unusable.refuse_all(path, rows)
    num_dropped = count_missing(path, absent, rows[0][0].media.root, media.missing)
    pairs: list[PreferencePair] = []
    for (file, origin, row), missing in zip(rows, absent, strict=True):
        if missing is None:
            with unusable.setting_aside():
                pairs.append(file.pair(row, origin))
    unusable.refuse_all(path, pairs)
    benchmark = replace(
        pairs_benchmark("pairs", pairs, num_dropped | unusable.counts), unusable=unusable.sentences
    )
    return with_whole_groups(benchmark, [str(row.get("group") or "") for _, _, row in rows], path)


def absent_medium(file: PairFile, row: Row, origin: str) -> str | None:
    """Returns the first image or the video of a row that is not there. Raises ``DataError``."""
    images = (bytes_unless_file(image, file.media.root) for image in row_images(row, origin))
    return first_absent(images, row.get("video"), file.media.roots)


def load_shapes(name: str, split: ShapesSplit, num_rows: int | None) -> Benchmark:
    """Returns pairs that the miniature never trained on: 200, or ``num_rows``."""
    from r1reward.shapes.pairs import make_pairs

    return pairs_benchmark(name, make_pairs(split, num_rows or 200, seed=0), {})


def pairs_benchmark(
    name: str, pairs: list[PreferencePair], num_dropped: Mapping[str, int]
) -> Benchmark:
    """Returns pairs as a benchmark, by the category that is stored with each."""
    items = make_items(
        (pair, f"row {number}", {"category": pair.category or NO_CATEGORY})
        for number, pair in enumerate(pairs, start=1)
    )
    grouped = any(pair.group for pair in pairs)
    return Benchmark(name, items, MAPPINGS, num_dropped, scores_groups=grouped)
