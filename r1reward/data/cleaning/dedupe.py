"""One row of each preference, whatever the order it is stored in; the first one stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from r1reward.data.import_report import ImportReport
from r1reward.data.stores.key_set import KeySet
from r1reward.data.stores.pair_writer import PairWriter
from r1reward.data.stores.row_copy import common_header, common_origins, copied_rows


def dedupe(
    paths: Sequence[Path], out: Path, on_rows: Callable[[int], None] = lambda num_rows: None
) -> ImportReport:
    """The distinct pairs of all ``paths`` in a new store. Raises ``InputError``."""
    kept = common_origins(paths)
    writer = PairWriter(
        out, common_header(kept), {"dedupe": [str(path.resolve()) for path in paths]}
    )
    writer.claim(resume=False)
    report = ImportReport()
    seen = KeySet()
    for path in paths:
        for origin, row in copied_rows(path, kept):
            report.num_read += 1
            if seen.add(row["key"]):
                report.num_written += 1
                report.preferred[str(row["preferred"])] += 1
                writer.add(row)
            else:
                report.drop("duplicate", f"{origin}: the same pair came before")
            on_rows(report.num_read)
    writer.finish(report.to_json())
    return report
