"""The result of one check of the doctor."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

Error = TypeVar("Error", bound=Exception)


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


def failure(probe: Callable[[], object], *kinds: type[Error]) -> Error | None:
    """Calls the probe, and returns the error of one of these kinds that it raises, None without one."""
    try:
        probe()
    except kinds as error:
        return error
    return None


def problem(check: str, message: str, fix: str) -> Finding:
    return Finding(check, "problem", message, fix)
