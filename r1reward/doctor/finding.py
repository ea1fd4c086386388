"""The result of one check of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What a check found. ``note`` is worth knowing, though nothing is wrong.

    ``fix`` is one line that says what to do; it is empty where nothing is to be done.
    """

    check: str
    state: Literal["ok", "note", "problem"]
    message: str
    fix: str = ""


def ok(check: str, message: str) -> Finding:
    return Finding(check, "ok", message)


def note(check: str, message: str, fix: str = "") -> Finding:
    return Finding(check, "note", message, fix)


def problem(check: str, message: str, fix: str) -> Finding:
    return Finding(check, "problem", message, fix)
