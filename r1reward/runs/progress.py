"""Bars: how many of how many, a word beside it, time gone and time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress
from rich.console import Console


def new_progress(console: Console) -> progress.Progress:
    """A display of bars that is not started yet. Every task of it has a field ``word``."""
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[word]}"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        console=console,
    )


@contextmanager
def counting_bar(label: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar on standard error. Yields what moves it: number done, number planned, the word."""
    with new_progress(Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None, word="")
        yield lambda done, planned, word: bar.update(task, completed=done, total=planned, word=word)
