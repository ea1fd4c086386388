"""Every row of a store or a file read as training would read it; what is wrong is listed, not raised."""

from collections.abc import Callable
from pathlib import Path

from r1reward.data.import_report import ImportReport
from r1reward.data.media import STRICTEST_SIDES, SideLimits, refuse_sides
from r1reward.data.stores.remarks import Remarks
from r1reward.data.stores.row_files import Row
from r1reward.data.stores.store import PairFile, pair_files, pair_keys
from r1reward.errors import DataError


def validate(
    path: Path,
    image_root: Path | None = None,
    on_rows: Callable[[int], None] = lambda num_rows: None,
    sides: SideLimits = STRICTEST_SIDES,
    links: tuple[Path, ...] = (),
) -> ImportReport:
    """Returns a report whose ``dropped`` counts the rows that cannot be used, by reason.

    ``on_rows`` is called with the number of rows read so far. ``sides`` are those that the model's
    processor takes, or the strictest known. Links may lead into ``links``. Raises ``DataError`` if
    nothing can be read.
    """
    report, remarks = ImportReport(), Remarks()
    for file in pair_files(path, image_root, links):
        for origin, row in file.rows_or_errors():
            report.num_read += 1
            on_rows(report.num_read)
            try:
                if isinstance(row, DataError):
                    raise DataError(f"{origin}: {row}", row.reason)
                keys = check_pair(file, row, origin, sides)
            except DataError as error:
                report.drop(error.reason, str(error), error.missing)
            else:
                report.keep(row["preferred"])
                for remark in remarks.of(row, *keys):
                    report.note(remark, origin)
    if not report.num_read:
        raise DataError(f"{path}: holds no pairs")
    return report


def check_pair(file: PairFile, row: Row, origin: str, sides: SideLimits) -> tuple[str, str]:
    """Returns the keys of a row's preference and of the opposite one.

    Raises ``DataError`` for a row that cannot be used, or that is not what its key was made of.
    """
    pair = file.pair(row, origin)
    key, opposite = pair_keys(pair)
    if file.has_keys and row.get("key") != key:
        raise DataError(
            f"{origin}: its key is not that of its content; its media changed, or the row did",
            "changed",
        )
    for number, image in enumerate(pair.images, start=1):
        refuse_sides(image, sides, f"{origin}: image {number}")
    return key, opposite
