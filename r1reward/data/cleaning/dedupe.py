"""One row of each preference, whatever the order it is stored in; the first one stays."""

from collections.abc import Callable, Sequence
from pathlib import Path

from r1reward.data.import_report import ImportReport
from r1reward.data.stores.key_set import KeySet
from r1reward.data.stores.row_copy import DerivedStore, common_media, copied_rows


def dedupe(
    paths: Sequence[Path], out: Path, on_rows: Callable[[int], None] = lambda num_rows: None
) -> ImportReport:
    """Writes the distinct pairs of all ``paths`` into a new store. Raises ``InputError``."""
    media = common_media(paths)
    store = DerivedStore(out, media, {"dedupe": [str(path.resolve()) for path in paths]})
    seen = KeySet()
    for path in paths:
        for origin, row in copied_rows(path, media):
            if seen.add(row["key"]):
                store.add(row, origin)
            else:
                store.drop("duplicate", f"{origin}: the same pair came before")
            on_rows(store.report.num_read)
    return store.finish()
