"""Files that are there whole or not at all.

Readers, a kill, and the mirror of a run folder (``runs/mirror.py``) see the old file or the new one.
Names that begin with a dot and end with ``.partial`` are nobody's files: what a kill left of one may go.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def partial_path(path: Path) -> Path:
    """Where a file or folder is written before it gets its own name."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """The path to write a file to; it is renamed to ``path`` when the block ends without an error."""
    partial = partial_path(path)
    yield partial
    partial.replace(path)


def write_whole(path: Path, text: str) -> None:
    """Write a text file of which nobody sees a part."""
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
