"""``r1reward data validate``: every pair read as training would read it."""

from dataclasses import dataclass
from pathlib import Path

from r1reward.cli.data.action import (
    LINKS,
    MAX_DROPPED,
    data_verb,
    print_line,
    print_table,
    progress,
    refuse_lost,
)
from r1reward.cli.verb import argument, option
from r1reward.errors import InputError

SHOWN_BAD_ROWS = 5


@dataclass(frozen=True)
class ValidateArguments:
    """Stores to read."""

    stores: list[Path] = argument(nargs="+", metavar="DIR")
    images: Path | None = option(help="folder that paths are relative to")
    links: list[Path] = option(**LINKS)
    max_dropped: float = option(**MAX_DROPPED)


def run(arguments: ValidateArguments) -> int | None:
    """Returns 1 if too large a share of a store cannot be used.

    Raises ``InputError`` if any pair cannot.
    """
    from r1reward.data.stores.validate import validate

    num_bad, status = 0, None
    for store in arguments.stores:
        with progress("validate") as on_rows:
            report = validate(store, arguments.images, on_rows, links=tuple(arguments.links))
        num_bad += report.dropped.total()
        print_line(f"{store}: {report.num_read:,} pairs, {report.dropped.total():,} cannot be used")
        for reason in report.dropped:
            for sentence in report.examples[reason][:SHOWN_BAD_ROWS]:
                print_line(f"  {sentence}")
        print_table(report, "can be used")
        status = refuse_lost(report, arguments.max_dropped, str(store)) or status
    if num_bad and status is None:
        raise InputError(f"{num_bad:,} pairs cannot be used; mend or remove them")
    return status


VERB = data_verb("validate", "read every pair as training would; list what is wrong", run)
