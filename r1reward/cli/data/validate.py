"""``r1reward data validate``: every pair read as training would read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from r1reward.cli.data.action import data_verb, print_line, progress
from r1reward.cli.verb import argument, option
from r1reward.errors import InputError

SHOWN_BAD_ROWS = 5


@dataclass(frozen=True)
class ValidateArguments:
    """Stores to read."""

    stores: list[Path] = argument(type=Path, nargs="+", metavar="DIR")
    images: Path | None = option(type=Path, help="folder that paths are relative to")


def run(arguments: ValidateArguments) -> None:
    """Raises ``InputError`` if a pair cannot be used."""
    from r1reward.data.stores.validate import validate

    num_bad = 0
    for store in arguments.stores:
        with progress("validate") as on_rows:
            report = validate(store, arguments.images, on_rows)
        num_bad_here = sum(report.dropped.values())
        num_bad += num_bad_here
        print_line(f"{store}: {report.num_read:,} pairs, {num_bad_here:,} cannot be used")
        for reason, sentences in report.examples.items():
            print_line(f"  {reason}: {report.dropped[reason]:,}")
            for sentence in sentences[:SHOWN_BAD_ROWS]:
                print_line(f"    {sentence}")
    if num_bad:
        raise InputError(f"{num_bad:,} pairs cannot be used; mend or remove them")


VERB = data_verb(
    "validate",
    "read every pair as training would; list what is wrong",
    ValidateArguments,
    run,
)
