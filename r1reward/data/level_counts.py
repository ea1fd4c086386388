"""What a selection had to choose from and what it chose: ``counts.json`` beside the chosen pairs."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from r1reward.data.validated import validated


@dataclass(frozen=True)
class LevelCount:
    """How many pairs one level of difficulty and one source have, and how many were selected."""

    level: str
    source: str
    pairs: int
    selected: int


def read_level_counts(path: Path) -> list[LevelCount]:
    """Returns the counts in the order they were written. Raises ``InputError`` for another file."""
    with validated(f"{path}: not the counts of a selection"):
        counts: list[LevelCount] = TypeAdapter(list[LevelCount]).validate_json(path.read_bytes())
    return counts
