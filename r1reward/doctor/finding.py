"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """``note``: worth knowing, nothing is wrong. ``fix`` is one line: what to do about a problem."""

    name: str
    state: Literal["ok", "note", "problem"]
    what: str
    fix: str = ""
