"""What the actions of ``r1reward data`` share: their errors, their progress and their reports."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from r1reward.cli.verb import GOES_ON, Verb
from r1reward.errors import InputError

if TYPE_CHECKING:
    from r1reward.data.import_report import ImportReport

ROWS_A_TICK = 100

Arguments = TypeVar("Arguments")


def data_verb(
    name: str,
    text: str,
    arguments: type[Arguments],
    run: Callable[[Arguments], None],
    *,
    can_resume: bool = False,
) -> Verb[Arguments]:
    """Makes the verb of an action. ``can_resume``: stopped, the same command goes on where it was.

    A file that cannot be read or written, or a full disk, is answered with a sentence: a traceback
    would say no more.
    """

    def run_checked(parsed: Arguments) -> None:
        check_counts(parsed)
        try:
            run(parsed)
        except OSError as error:
            again = "; then the same command goes on" if can_resume else ""
            raise InputError(f"data {name}: {error}: mend that{again}") from error

    after_ctrl_c = GOES_ON if can_resume else "begins anew"
    return Verb(name, text, arguments, run_checked, after_ctrl_c=after_ctrl_c)


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
    from rich.console import Console
    from rich.table import Table

    from r1reward.data.import_report import MAX_MISSING_FILES

    table = Table("", "rows", box=None, pad_edge=False)
    table.columns[1].justify = "right"
    table.add_row("read", f"{report.num_read:,}")
    for reason, count in sorted(report.dropped.items(), key=lambda item: -item[1]):
        table.add_row(f"  dropped: {reason}", f"{count:,}")
    table.add_row("written", f"{report.num_written:,}")
    for note, count in sorted(report.notes.items()):
        table.add_row(f"  {note}", f"{count:,}")
    for slot, count in sorted(report.preferred.items()):
        table.add_row(f"  response {slot} preferred", f"{count:,}")
    Console().print(table)
    if report.missing_files:
        least = "at least " if len(report.missing_files) == MAX_MISSING_FILES else ""
        print_line(f"missing  {least}{len(report.missing_files):,} files, listed in the report")
    print_line(f"store    {out}\nreport   {out}/report.json")
