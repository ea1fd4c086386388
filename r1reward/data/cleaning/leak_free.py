"""Stores without the pairs that leak a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from r1reward.data.cleaning.decontaminate import BenchmarkIndex, LeakReport
from r1reward.data.import_report import ImportReport
from r1reward.data.media import FrameRules
from r1reward.data.stores.pair_writer import PairWriter
from r1reward.data.stores.row_copy import common_header, common_origins, copied_rows
from r1reward.data.stores.store import pair_from_row


def remove_leaks(
    paths: Sequence[Path],
    out: Path,
    index: BenchmarkIndex,
    made_by: dict[str, object],
    on_rows: Callable[[int], None] = lambda num_rows: None,
) -> tuple[ImportReport, LeakReport]:
    """The pairs of all ``paths`` that leak nothing, in a new store; its report lists the others.

    Raises ``InputError``.
    """
    kept = common_origins(paths)
    writer = PairWriter(out, common_header(kept), made_by)
    writer.claim(resume=False)
    report, found = ImportReport(), LeakReport()
    root, frames = kept or (Path(), FrameRules())
    for path in paths:
        for origin, row in copied_rows(path, kept):
            report.num_read += 1
            pair = pair_from_row(row, origin, root, frames)
            leaks = index.leaks(pair)
            found.add(pair, leaks)
            if leaks:
                report.drop(
                    f"leaks {leaks[0].benchmark}", f"{origin}: {leaks[0].kind}, {leaks[0].origin}"
                )
            else:
                report.num_written += 1
                report.preferred[str(row["preferred"])] += 1
                writer.add(row)
            on_rows(report.num_read)
    writer.finish({**report.to_json(), "leaks": found.to_json()})
    return report, found
