"""The miniature's trace: what an analysis looks like, and how it is written.

    northwest: red circle. 1 red circle ok. 2 blue circle wrong.
    southeast: blue square. 1 blue square ok. 2 blue square ok.
    Response 1 is better.

One line an object: what the image shows, then what each response says and whether that agrees.
The conclusion is the last line, for the consistency judge reads the end of the analysis.
"""

from dataclasses import dataclass

from r1reward.data.prompt import Tags
from r1reward.data.verdict import compose_trace
from r1reward.shapes.scene import Look
from r1reward.types import Slot

TAGS = Tags()


@dataclass(frozen=True)
class Finding:
    """One line of the analysis: looks seen and claimed, and the flag given to each claim."""

    quadrant: str
    seen: Look
    claims: tuple[Look, Look]
    flags_ok: tuple[bool, bool]


def find(quadrant: str, seen: Look, claims: tuple[Look, Look]) -> Finding:
    """Returns the line that compares what is seen in a quadrant with both claims, flagged rightly."""
    return Finding(quadrant, seen, claims, (claims[0] == seen, claims[1] == seen))


def write_analysis(findings: tuple[Finding, ...], conclusion: Slot) -> str:
    """Returns an analysis: a line for each finding, then the conclusion."""
    return "\n".join([*(write_line(f) for f in findings), f"Response {conclusion} is better."])


def write_line(finding: Finding) -> str:
    """Returns the line of a finding."""
    words = ["ok" if ok else "wrong" for ok in finding.flags_ok]
    first, second = finding.claims
    return f"{finding.quadrant}: {finding.seen}. 1 {first} {words[0]}. 2 {second} {words[1]}."


def write_trace(findings: tuple[Finding, ...], conclusion: Slot, choice: Slot) -> str:
    """Returns a well-formed trace with this conclusion and this answer."""
    return compose_trace(write_analysis(findings, conclusion), choice, TAGS)
