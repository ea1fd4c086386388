"""What the actions of ``r1reward data`` share: their errors, their progress and their last table."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any

from r1reward.cli.verb import GOES_ON, Verb
from r1reward.data.import_report import MAX_MISSING_FILES, ImportReport
from r1reward.errors import InputError

ROWS_A_TICK = 100


def share(text: str) -> float:
    """Reads a number from 0 to 1. Raises ``ValueError``."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


# Settings of options that several actions have.
LINKS: Mapping[str, Any] = {
    "metavar": "DIR",
    "help": "a further folder that links and absolute paths of media may lead into; several times",
}
MAX_DROPPED: Mapping[str, Any] = {
    "type": share,
    "default": 0.5,
    "metavar": "SHARE",
    "help": "exit with 1 if a larger share of the rows is dropped, duplicates apart; default: 0.5",
}


def data_verb(
    name: str, text: str, run: Callable[[Any], int | None], *, can_resume: bool = False
) -> Verb:
    """Makes the verb of an action. ``can_resume``: stopped, the same command goes on where it was.

    A file that cannot be read or written, or a full disk, is answered with a sentence: a traceback
    would say no more.
    """

    @wraps(run)
    def run_checked(arguments: Any) -> int | None:
        check_counts(arguments)
        try:
            return run(arguments)
        except OSError as error:
            again = "; then the same command goes on" if can_resume else ""
            raise InputError(f"data {name}: {error}: mend that{again}") from error

    after_ctrl_c = GOES_ON if can_resume else "begins anew"
    return Verb(name, text, run_checked, after_ctrl_c=after_ctrl_c)


def check_counts(arguments: Any) -> None:
    """Every whole number but a seed counts something. Raises ``InputError`` for one below 1."""
    for item in fields(arguments):
        value = getattr(arguments, item.name)
        if type(value) is int and item.name != "seed" and value < 1:
            raise InputError(f"--{item.name.replace('_', '-')} is {value}; it must be at least 1")


def positive_number(text: str, label: str) -> float:
    """Reads a number above 0. Raises ``InputError`` that begins with ``label``."""
    with suppress(ValueError):
        if 0 < float(text) < float("inf"):
            return float(text)
    raise InputError(f"{label} is {text!r}; it must be a number above 0")


@contextmanager
def progress(label: str) -> Iterator[Callable[[int], None]]:
    """Yields what shows the number of rows so far and their rate; nothing without a terminal."""
    from rich.console import Console

    started = time.monotonic()
    with Console().status(label) as status:

        def on_rows(num_rows: int) -> None:
            if num_rows % ROWS_A_TICK == 0:
                seconds = time.monotonic() - started
                rate = f"{num_rows / seconds:,.0f} rows/s"
                status.update(f"{label} {num_rows:,} rows {rate} {seconds:.0f} s")

        yield on_rows


def print_line(text: str) -> None:
    """Prints text from files and paths as it is: no markup, no colours, no line breaks added."""
    from rich.console import Console

    Console().print(text, highlight=False, markup=False, soft_wrap=True)


def print_report(report: ImportReport, out: Path) -> None:
    """Prints what became of the rows that a store was made of, and where it is."""
    print_table(report, "written")
    if report.missing_files:
        least = "at least " if len(report.missing_files) == MAX_MISSING_FILES else ""
        print_line(f"missing  {least}{len(report.missing_files):,} files, listed in the report")
    print_line(f"store    {out}\nreport   {out}/report.json")


def print_table(report: ImportReport, kept: str) -> None:
    """Prints what was read, dropped by reason, ``kept`` and noted by kind, with an example of each."""
    from rich.console import Console
    from rich.table import Column, Table

    from r1reward.report.pairs_page import visible

    lines = [("read", report.num_read, "")]
    for reason, count in sorted(report.dropped.items(), key=lambda item: -item[1]):
        lines.append((f"  dropped: {reason}", count, example(report, reason)))
    lines.append((kept, report.num_written, ""))
    for note, count in sorted(report.notes.items()):
        lines.append((f"  {note}", count, example(report, note)))
    for slot, count in sorted(report.preferred.items()):
        lines.append((f"  response {slot} preferred", count, ""))
    console = Console()
    label_chars = max(len(visible(label, 80)) for label, _, _ in lines)
    count_chars = max(len("rows"), len(f"{report.num_read:,}"))
    # Counts are never cut: the example gets what they leave of the line.
    example_chars = max(20, console.width - label_chars - count_chars - len("    "))
    table = Table(
        "",
        Column("rows", justify="right"),
        Column("for example", no_wrap=True, overflow="ellipsis", max_width=example_chars),
        box=None,
        pad_edge=False,
    )
    for label, count, shown in lines:
        table.add_row(printable(label), f"{count:,}", printable(shown))
    console.print(table)


def example(report: ImportReport, reason: str) -> str:
    """Returns the first sentence about a reason, its file without the folder, for a table."""
    sentence = next(iter(report.examples.get(reason, ())), "")
    origin, colon, rest = sentence.partition(": ")
    return f"{origin.rpartition('/')[2]}{colon}{rest}"


def printable(text: str) -> str:
    """Returns a text for a table: without control characters and without markup."""
    from rich.markup import escape

    from r1reward.report.pairs_page import visible

    return escape(visible(text, 80))


def refuse_lost(report: ImportReport, max_dropped: float, what: str) -> int | None:
    """Returns 1 and says so if no row is left or a larger share was lost than may be; duplicates are no
    loss.
    """
    if report.num_written and report.lost_share <= max_dropped:
        return None
    from r1reward.report.pairs_page import visible

    lost, num_duplicates = report.lost, report.dropped["duplicate"]
    ((most, _),) = lost.most_common(1)
    apart = f" ({num_duplicates:,} duplicates apart)" if num_duplicates else ""
    limit = f"more than --max-dropped {max_dropped:g}" if report.num_written else "so none is left"
    print(
        f"{what}: {lost.total():,} of {report.num_read:,} rows were dropped{apart}, {limit}; most are "
        f"like {visible(report.examples[most][0], 300)}",
        file=sys.stderr,
    )
    return 1
