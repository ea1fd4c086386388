"""Reads the miniature's traces back, to measure what they see, copy, flag and conclude."""

from __future__ import annotations

import re
from dataclasses import dataclass

from r1reward.data.verdict import parse_verdict
from r1reward.shapes.plan import FILLERS
from r1reward.shapes.scene import COLOURS, QUADRANTS, SHAPES, Look
from r1reward.shapes.trace import TAGS, Finding, find
from r1reward.types import Slot

LOOK = rf"({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
LINE = re.compile(rf"({'|'.join(QUADRANTS)}): {LOOK}\. 1 {LOOK} (ok|wrong)\. 2 {LOOK} (ok|wrong)\.")
CONCLUSION = re.compile(r"Response ([12]) is better\.")


@dataclass(frozen=True)
class Trace:
    """A trace read back. ``conclusion`` and ``choice`` are None when they cannot be read."""

    findings: tuple[Finding, ...]
    conclusion: Slot | None
    choice: Slot | None
    well_formed: bool

    @property
    def better_by_flags(self) -> Slot | None:
        """The response with fewer claims flagged wrong; None on a tie."""
        num_wrong = [sum(not f.flags_ok[i] for f in self.findings) for i in (0, 1)]
        if num_wrong[0] == num_wrong[1]:
            return None
        return 1 if num_wrong[0] < num_wrong[1] else 2


def read_trace(text: str) -> Trace:
    """Read a generated trace. Lines that are not findings are skipped; nothing is raised."""
    verdict = parse_verdict(text, TAGS, mode="strict")
    lines = (verdict.analysis or "").splitlines()
    matches = [LINE.fullmatch(line.strip()) for line in lines]
    findings = tuple(read_finding(match) for match in matches if match is not None)
    last = CONCLUSION.fullmatch(lines[-1].strip()) if lines else None
    conclusion: Slot | None = None if last is None else (1 if last[1] == "1" else 2)
    return Trace(findings, conclusion, verdict.choice, verdict.well_formed)


def read_finding(match: re.Match[str]) -> Finding:
    quadrant, *looks_and_flags = match.groups()
    colour, shape, colour_1, shape_1, flag_1, colour_2, shape_2, flag_2 = looks_and_flags
    claims = (Look(colour_1, shape_1), Look(colour_2, shape_2))
    return Finding(quadrant, Look(colour, shape), claims, (flag_1 == "ok", flag_2 == "ok"))


def is_verbose(response: str) -> bool:
    """Returns whether a response carries a filler sentence."""
    return any(filler in response for filler in FILLERS)


def flags_agree(finding: Finding) -> bool:
    """Returns whether both flags of a line are right, given what the line itself says."""
    return finding == find(finding.quadrant, finding.seen, finding.claims)
