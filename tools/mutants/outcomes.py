"""What became of each fault, and the tables of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools.mutants.faults import Fault

HEAD = "| fault | killed by | seconds |\n|---|---|---|"


@dataclass(frozen=True)
class Outcome:
    """``killed_by`` is the first test that failed, or None."""

    fault: Fault
    killed_by: str | None
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether a fault was killed, and an edit that is called equivalent was not."""
        return (self.killed_by is None) == (self.fault.equivalent is not None)

    @property
    def row(self) -> str:
        """The row of a table."""
        if self.killed_by is not None:
            by = f"`{self.killed_by.removeprefix('tests/')}`"
            by += " although it is called equivalent" if self.fault.equivalent else ""
        else:
            by = f"equivalent: {self.fault.equivalent}" if self.fault.equivalent else "**nothing**"
        return f"{first_cell(self.fault)} | {escaped(by)} | {self.seconds:.0f} |"


def escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def first_cell(fault: Fault) -> str:
    """Returns how the row of a fault begins."""
    return f"| {escaped(fault.name)}"


def rows_by_fault(page: str) -> dict[str, str]:
    """Returns the rows of a page's tables by their first cells."""
    return {line.split(" | ")[0]: line for line in page.splitlines() if line.startswith("| ")}


def table(faults: Sequence[Fault], rows: Mapping[str, str]) -> str:
    """Returns a table of these faults, in their order, of those that have a row."""
    cells = map(first_cell, faults)
    return "\n".join([HEAD, *(rows[cell] for cell in cells if cell in rows)])


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """Returns how many were killed, in one sentence."""
    killed = sum(outcome.killed_by is not None for outcome in outcomes)
    equivalent = sum(outcome.fault.equivalent is not None for outcome in outcomes)
    survived = sum(not outcome.killed_by and not outcome.fault.equivalent for outcome in outcomes)
    return (
        f"{len(outcomes)} edits: {killed} killed, {equivalent} equivalent, {survived} survived; "
        f"{seconds / 60:.1f} minutes."
    )
