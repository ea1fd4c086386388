"""``r1reward data show``: pairs to read, in the terminal or as a page."""

from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from r1reward.cli.data.action import data_verb, print_line
from r1reward.cli.verb import argument, option
from r1reward.errors import InputError


@dataclass(frozen=True)
class ShowArguments:
    """Rows of a store."""

    store: Path = argument(metavar="DIR")
    rows: int = option(default=5)
    start: int = option(default=1, help="the first row shown")
    images: Path | None = option(help="folder that paths are relative to")
    html: Path | None = option(help="write a page with the images instead")


def run(arguments: ShowArguments) -> None:
    from rich.console import Console

    from r1reward.data.stores.store import iter_pairs
    from r1reward.report.pairs_page import print_pairs, write_page

    first = arguments.start - 1
    chosen = islice(iter_pairs(arguments.store, arguments.images), first, first + arguments.rows)
    if (pair := next(chosen, None)) is None:
        raise InputError(f"{arguments.store}: holds no row {arguments.start}")
    pairs = chain([pair], chosen)
    if arguments.html is None:
        print_pairs(pairs, Console())
        return
    num_shown = write_page(pairs, arguments.html, str(arguments.store))
    print_line(f"page     {arguments.html} ({num_shown} pairs)")


VERB = data_verb("show", "pairs to read, here or as a page", run)
