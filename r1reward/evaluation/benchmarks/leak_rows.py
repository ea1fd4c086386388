"""The rows of a benchmark as pairs that training data is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from r1reward.data.importers.formats import open_source
from r1reward.evaluation.benchmarks.load import load_benchmark
from r1reward.evaluation.benchmarks.rows import MediaOptions, unbroken
from r1reward.types import PreferencePair


def comparable_rows(
    name: str, file: Path, images: Path | None, text_only: bool
) -> Iterator[PreferencePair]:
    """Yields every row of the benchmark ``name``, with the benchmark as its source.

    ``images`` is the folder that its paths are relative to, by default the file's own. With
    ``text_only`` the images of a published benchmark need not be there and are not read. Raises
    ``InputError`` for a benchmark that is not known or a row that cannot be read.
    """
    if text_only and name != "pairs":
        rows = unbroken(open_source(name, file, None))
        pairs = (replace(row, preferred=row.preferred or 1).pair(()) for row in rows)
    else:
        loaded = load_benchmark(name, file, MediaOptions(root=images))
        pairs = (item.pair for item in loaded.items)
    for pair in pairs:
        yield replace(pair, source=pair.source or name)
