"""What a store holds, counted in one pass without decoding an image."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from r1reward.data.import_report import ImportReport
from r1reward.data.order import derive_seed
from r1reward.data.stores.key_set import KeySet
from r1reward.data.stores.remarks import Remarks
from r1reward.data.stores.row_files import Row
from r1reward.data.stores.store import PairFile, check_row, pair_files, pair_keys, row_images
from r1reward.errors import DataError
from r1reward.types import PreferencePair

QUANTILES = (0, 50, 90, 99, 100)
# The scalars that are kept of every row: 4 bytes each.
MEASURES = ("question characters", "response characters", "images", "image bytes")


@dataclass
class PairStats:
    """Counts over the rows of stores; ``measured`` holds every measure of every row."""

    report: ImportReport = field(default_factory=ImportReport)
    sources: Counter[str] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)
    num_videos: int = 0
    longer_preferred: int = 0
    groups: KeySet = field(default_factory=KeySet)
    measured: dict[str, array[int]] = field(
        default_factory=lambda: {name: array("I") for name in MEASURES}
    )

    @property
    def num_rows(self) -> int:
        return self.report.num_written

    @property
    def preferred(self) -> Counter[str]:
        return self.report.preferred

    def quantiles(self, name: str) -> list[int]:
        """Returns the ``QUANTILES`` of a measure."""
        values = np.asarray(self.measured[name])
        return [int(value) for value in np.percentile(values, QUANTILES, method="nearest")]


def count_pairs(
    paths: Sequence[Path], on_rows: Callable[[int], None] = lambda num_rows: None
) -> PairStats:
    """Returns the counts over all rows of stores; ``report`` has those that are no pairs. Media are not
    read. Raises ``DataError`` for a file that cannot be read.
    """
    stats, remarks = PairStats(), Remarks()
    for file in (file for path in paths for file in pair_files(path)):
        for origin, row in file.rows_or_errors():
            stats.report.num_read += 1
            on_rows(stats.report.num_read)
            try:
                if isinstance(row, DataError):
                    raise DataError(f"{origin}: {row}", row.reason)
                check_row(row, origin)
                images = row_images(row, origin)
            except DataError as error:
                stats.report.drop(error.reason, str(error))
                continue
            stats.report.keep(row["preferred"])
            for remark in remarks.of(row, *told_keys(file, row, images)):
                stats.report.note(remark, origin)
            count_row(stats, row, images)
    return stats


def told_keys(file: PairFile, row: Row, images: Sequence[str | bytes]) -> tuple[str, str]:
    """Returns the keys of a row's preference and of the opposite one: those that are stored, else made
    with the paths of media in the place of their content.
    """
    if file.has_keys and row.get("opposite"):
        return row["key"], row["opposite"]
    paths = [image for image in (*images, row.get("video") or "") if isinstance(image, str)]
    inside = [image for image in images if isinstance(image, bytes)]
    shown = (*inside, *(path.encode("utf-8", "surrogatepass") for path in paths))
    texts = (row["response_1"], row["response_2"], row["preferred"])
    return pair_keys(PreferencePair(row["question"], shown, *texts))


def count_row(stats: PairStats, row: Row, images: Sequence[str | bytes]) -> None:
    """Adds a row to the counts."""
    stats.sources[row.get("source") or ""] += 1
    stats.categories[row.get("category") or ""] += 1
    stats.num_videos += bool(row.get("video"))
    if row.get("group"):
        stats.groups.add(f"{derive_seed(row.get('source'), row['group']):x}")
    lengths = [len(row[name]) for name in ("response_1", "response_2")]
    longer = 0 if lengths[0] == lengths[1] else 1 + (lengths[1] > lengths[0])
    stats.longer_preferred += longer == row["preferred"]
    stats.measured["question characters"].append(len(row["question"]))
    stats.measured["response characters"].extend(lengths)
    stats.measured["images"].append(len(images))
    num_bytes = sum(len(image) for image in images if isinstance(image, bytes))
    stats.measured["image bytes"].append(num_bytes)
