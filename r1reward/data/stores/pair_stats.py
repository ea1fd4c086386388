"""What a store holds, counted in one pass without decoding an image."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from r1reward.data.order import derive_seed
from r1reward.data.stores.key_set import KeySet
from r1reward.data.stores.store import all_rows, check_row, row_images

QUANTILES = (0, 50, 90, 99, 100)
# The scalars that are kept of every row: 4 bytes each.
MEASURES = ("question characters", "response characters", "images", "image bytes")


@dataclass
class PairStats:
    """Counts over the rows of stores; ``measured`` holds every measure of every row."""

    num_rows: int = 0
    preferred: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    num_videos: int = 0
    longer_preferred: int = 0
    groups: KeySet = field(default_factory=KeySet)
    measured: dict[str, array[int]] = field(
        default_factory=lambda: {name: array("I") for name in MEASURES}
    )

    def quantiles(self, name: str) -> list[int]:
        """Returns the ``QUANTILES`` of a measure."""
        values = np.asarray(self.measured[name])
        return [int(value) for value in np.percentile(values, QUANTILES, method="nearest")]


def count_pairs(
    paths: Sequence[Path], on_rows: Callable[[int], None] = lambda num_rows: None
) -> PairStats:
    """Returns the counts over all rows of stores. Raises ``DataError`` for a file that cannot be read
    and a row that is no pair; media are not read.
    """
    stats = PairStats()
    for path in paths:
        for origin, row in all_rows(path):
            check_row(row, origin)
            stats.num_rows += 1
            stats.preferred[str(row.get("preferred"))] += 1
            stats.sources[str(row.get("source") or "")] += 1
            stats.categories[str(row.get("category") or "")] += 1
            stats.num_videos += bool(row.get("video"))
            if row.get("group"):
                stats.groups.add(f"{derive_seed(row.get('source'), row['group']):x}")
            lengths = [len(str(row.get(name) or "")) for name in ("response_1", "response_2")]
            stats.longer_preferred += lengths[0] != lengths[1] and 1 + (
                lengths[1] > lengths[0]
            ) == row.get("preferred")
            images = row_images(row, origin)
            stats.measured["question characters"].append(len(str(row.get("question") or "")))
            stats.measured["response characters"].extend(lengths)
            stats.measured["images"].append(len(images))
            num_bytes = sum(len(image) for image in images if isinstance(image, bytes))
            stats.measured["image bytes"].append(num_bytes)
            on_rows(stats.num_rows)
    return stats
