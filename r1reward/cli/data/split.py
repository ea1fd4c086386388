"""``r1reward data split``: parts of a store that share no group, image or pair."""

from dataclasses import dataclass
from pathlib import Path

from r1reward.cli.data.action import data_verb, positive_number, print_report, progress
from r1reward.cli.verb import argument, option
from r1reward.errors import InputError


@dataclass(frozen=True)
class SplitArguments:
    """A store and the shares of its parts."""

    store: Path = argument(metavar="DIR")
    shares: str = option(default="train=0.9,heldout=0.1", help="default: train=0.9,heldout=0.1")
    seed: int = option(default=0)
    out: Path = option(required=True, help="folder of the parts' stores")


def run(arguments: SplitArguments) -> None:
    from r1reward.data.cleaning.split import split

    shares = parse_shares(arguments.shares)
    with progress("split") as on_rows:
        reports = split(arguments.store, arguments.out, shares, arguments.seed, on_rows)
    for name, report in reports.items():
        print_report(report, arguments.out / name)


def parse_shares(text: str) -> dict[str, float]:
    """Reads ``train=0.9,heldout=0.1``; the shares need not add up to 1. Raises ``InputError``."""
    shares: dict[str, float] = {}
    for item in text.split(","):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not name or name in shares or name.startswith(".") or "/" in name:
            raise InputError(f"--shares: {item!r} is not of the form NAME=SHARE, each name once")
        shares[name] = positive_number(value, f"--shares: the share of {name}")
    return shares


VERB = data_verb("split", "parts that share no group, image or pair", run)
