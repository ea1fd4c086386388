"""What became of a source's rows: how many were kept, and how many were dropped and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NUM_EXAMPLES = 5
MAX_MISSING_FILES = 10_000
MAX_EXAMPLE_CHARS = 400


@dataclass
class ImportReport:
    """Counts by reason, the first sentences of each, and the files that are not there.

    ``notes`` count what was kept and is worth knowing: an animation whose first frame is used, text
    that lost control characters or names a media token.
    """

    num_read: int = 0
    num_written: int = 0
    preferred: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)
    missing_files: dict[str, None] = field(default_factory=dict)  # a set that keeps its order

    def keep(self, preferred: int) -> None:
        """Counts a pair that was written, by the slot of its preferred response."""
        self.num_written += 1
        self.preferred[str(preferred)] += 1

    def drop(
        self, reason: str, sentence: str, missing: str | None = None, num_rows: int = 1
    ) -> None:
        """Counts rows that were left out; ``missing`` is the file for whose absence it was."""
        self.dropped[reason] += num_rows
        self.show(reason, sentence)
        self.miss(missing)

    def note(self, note: str, sentence: str) -> None:
        """Counts a row that is kept and of which this is worth knowing."""
        self.notes[note] += 1
        self.show(note, sentence)

    def show(self, reason: str, sentence: str) -> None:
        """Keeps the first sentences as examples."""
        shown = self.examples.setdefault(reason, [])
        if len(shown) < NUM_EXAMPLES:
            shown.append(encodable(sentence[:MAX_EXAMPLE_CHARS]))

    @property
    def lost(self) -> Counter[str]:
        """What was left out, by reason, though no other row says the same."""
        return Counter({why: rows for why, rows in self.dropped.items() if why != "duplicate"})

    @property
    def lost_share(self) -> float:
        """Share of the rows that were lost."""
        return self.lost.total() / max(self.num_read, 1)

    def miss(self, file: str | None) -> None:
        """Lists a file that is not there."""
        if file is not None and len(self.missing_files) < MAX_MISSING_FILES:
            self.missing_files[encodable(file)] = None

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {**vars(self), "missing_files": list(self.missing_files)}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> ImportReport:
        """Returns the report that ``to_json`` gave."""
        counters = {name: Counter(saved[name]) for name in ("preferred", "dropped", "notes")}
        missing_files = dict.fromkeys(saved["missing_files"])
        return cls(**{**saved, **counters, "missing_files": missing_files})


def encodable(text: str) -> str:
    """Returns the text with a question mark for half a surrogate pair, which JSON allows and UTF-8 does
    not.
    """
    return text.encode("utf-8", "replace").decode("utf-8")
