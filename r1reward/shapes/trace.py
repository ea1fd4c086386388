"""The miniature's trace: what an analysis looks like, and how to read one back.

    northwest: red circle. 1 red circle ok. 2 blue circle wrong.
    southeast: blue square. 1 blue square ok. 2 blue square ok.
    Response 1 is better.

One line an object: what the image shows, then what each response says and whether that agrees.
The conclusion is the last line, for the consistency judge reads the end of the analysis.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from r1reward.data.prompt import Tags
from r1reward.data.verdict import compose_trace, parse_verdict
from r1reward.shapes.scene import COLOURS, QUADRANTS, SHAPES, Look
from r1reward.types import Slot

TAGS = Tags()
LOOK = rf"({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
LINE = re.compile(rf"({'|'.join(QUADRANTS)}): {LOOK}\. 1 {LOOK} (ok|wrong)\. 2 {LOOK} (ok|wrong)\.")
CONCLUSION = re.compile(r"Response ([12]) is better\.")


@dataclass(frozen=True)
class Finding:
    """One line of the analysis: looks seen and claimed, and the flag given to each claim."""

    quadrant: str
    seen: Look
    claims: tuple[Look, Look]
    flags_ok: tuple[bool, bool]

    @property
    def flags_agree(self) -> bool:
        """Whether both flags are right, given what the line itself says."""
        return self.flags_ok == (self.claims[0] == self.seen, self.claims[1] == self.seen)


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


def find(quadrant: str, seen: Look, claims: tuple[Look, Look]) -> Finding:
    return Finding(quadrant, seen, claims, (claims[0] == seen, claims[1] == seen))


def write_analysis(findings: tuple[Finding, ...], conclusion: Slot) -> str:
    return "\n".join([*(write_line(f) for f in findings), f"Response {conclusion} is better."])


def write_line(finding: Finding) -> str:
    words = ["ok" if ok else "wrong" for ok in finding.flags_ok]
    first, second = finding.claims
    return f"{finding.quadrant}: {finding.seen}. 1 {first} {words[0]}. 2 {second} {words[1]}."


def write_trace(findings: tuple[Finding, ...], conclusion: Slot, choice: Slot) -> str:
    return compose_trace(write_analysis(findings, conclusion), choice, TAGS)


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
