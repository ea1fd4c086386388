"""Stores without the pairs that leak a benchmark."""

from collections.abc import Callable, Sequence
from pathlib import Path

from r1reward.data.cleaning.decontaminate import BenchmarkIndex, LeakReport
from r1reward.data.import_report import ImportReport
from r1reward.data.stores.row_copy import DerivedStore, common_media, copied_pair, copied_rows


def remove_leaks(
    paths: Sequence[Path],
    out: Path,
    index: BenchmarkIndex,
    made_by: dict[str, object],
    on_rows: Callable[[int], None] = lambda num_rows: None,
) -> tuple[ImportReport, LeakReport]:
    """Writes the pairs of all ``paths`` that leak nothing into a new store; its report lists the others.

    Raises ``InputError``.
    """
    media = common_media(paths)
    store, leaking = DerivedStore(out, media, made_by), LeakReport()
    for path in paths:
        for origin, row in copied_rows(path, media):
            pair = copied_pair(row, origin, media)
            leaks = index.leaks(pair)
            leaking.add(pair, leaks)
            if leaks:
                sentence = f"{origin}: {leaks[0].kind}, {leaks[0].origin}"
                store.drop(f"leaks {leaks[0].benchmark}", sentence)
            else:
                store.add(row, origin)
            on_rows(store.report.num_read)
    return store.finish(leaks=leaking.to_json()), leaking
