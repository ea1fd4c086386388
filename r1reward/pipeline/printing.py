"""Lines that a stage ends with."""

from rich.console import Console


def print_named(console: Console, **values: object) -> None:
    """A line for each name and its value, mostly the path of what was written."""
    for name, value in values.items():
        console.print(f"{name:8} {value}", highlight=False)
