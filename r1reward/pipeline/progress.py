"""A bar on standard error: how many of how many, a word beside it, time gone and time left."""

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


@contextmanager
def counting_bar(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """Yields what moves it: number done, number planned, the word (a rate, a cost)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[word]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None, word="")
        yield lambda done, planned, word: bar.update(task, completed=done, total=planned, word=word)
