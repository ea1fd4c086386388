"""``r1reward data dedupe``: a new store that holds each preference once."""

from dataclasses import dataclass
from pathlib import Path

from r1reward.cli.data.action import data_verb, print_report, progress
from r1reward.cli.verb import argument, option


@dataclass(frozen=True)
class DedupeArguments:
    """Stores that become one."""

    stores: list[Path] = argument(nargs="+", metavar="DIR")
    out: Path = option(required=True)


def run(arguments: DedupeArguments) -> None:
    from r1reward.data.cleaning.dedupe import dedupe

    with progress("dedupe") as on_rows:
        report = dedupe(arguments.stores, arguments.out, on_rows)
    print_report(report, arguments.out)


VERB = data_verb("dedupe", "one row of each preference, in a new store", run)
