"""Every row of a store or a file read as training would read it; what is wrong is listed, not raised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from r1reward.data.import_report import ImportReport
from r1reward.data.stores.store import (
    DataError,
    media_root,
    numbered_rows,
    pair_files,
    pair_from_row,
    pair_key,
    read_header,
)


def validate(
    path: Path,
    image_root: Path | None = None,
    on_rows: Callable[[int], None] = lambda num_rows: None,
) -> ImportReport:
    """``dropped`` counts the rows that cannot be used. Raises ``DataError`` if nothing can be read."""
    report = ImportReport()
    for file in pair_files(path):
        header = read_header(file)
        root = media_root(file, header, image_root)
        for origin, row in numbered_rows(file):
            report.num_read += 1
            on_rows(report.num_read)
            try:
                pair = pair_from_row(row, origin, root, header.frames)
            except DataError as error:
                report.drop(error.reason, str(error), error.missing)
                continue
            if header.made_by is not None and row.get("key") != pair_key(pair):
                report.drop(
                    "changed",
                    f"{origin}: its key is not that of its content; its media changed, or the row did",
                )
                continue
            report.preferred[str(pair.preferred)] += 1
    if not report.num_read:
        raise DataError(f"{path}: holds no pairs")
    return report
