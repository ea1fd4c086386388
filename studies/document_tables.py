"""Tables in documents that the program fills in: between two comments, everything else stays."""

from __future__ import annotations

from pathlib import Path

from r1reward.errors import InputError

END = "<!-- end of table -->"


def begin_of(name: str) -> str:
    return f"<!-- table {name} -->" if name else "<!-- table -->"


def check_marks(path: Path, *names: str) -> None:
    """Raises ``InputError`` where a table has no place, before hours are spent on it."""
    for name in names:
        parts(path, name)


def fill(path: Path, text: str, name: str = "") -> None:
    head, tail = parts(path, name)
    path.write_text(f"{head}{begin_of(name)}\n{text.rstrip()}\n{END}{tail}", encoding="utf-8")


def parts(path: Path, name: str) -> tuple[str, str]:
    """What stands before and after the table."""
    found = path.read_text(encoding="utf-8") if path.is_file() else ""
    head, begin, rest = found.partition(begin_of(name) + "\n")
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise InputError(f"{path} has no {begin_of(name)} ... {END} to fill")
    return head, tail
