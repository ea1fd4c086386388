"""Bars: how many of how many, a word beside it, time gone and time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def new_progress(console: Console) -> Progress:
    """A display of bars that is not started yet. Every task of it has a field ``word``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[word]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


@contextmanager
def counting_bar(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on standard error. Yields what moves it: number done, number planned, the word."""
    with new_progress(Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None, word="")
        yield lambda done, planned, word: bar.update(task, completed=done, total=planned, word=word)
