"""The parser: the only place that knows how a trace is written.

A trace is well formed when it is one think block directly followed by one answer block holding 1
or 2, each tag exactly once, with nothing else but surrounding whitespace (the paper's format
reward). The choice is read independently of that, so a right answer in a sloppy trace still counts.

``strict`` allows no character between the two blocks and reads a choice only from a single answer
block. ``tolerant`` allows whitespace between the blocks and reads several answer blocks that agree.
"""

from __future__ import annotations

import re

from r1reward.data.prompt import Tags
from r1reward.recipe.choices import FormatMode
from r1reward.types import Slot, Verdict


def parse_verdict(text: str, tags: Tags, mode: FormatMode) -> Verdict:
    """Returns analysis, choice and form of a trace; what cannot be read is None. Never raises."""
    opened, closed = f"<{tags.answer}>", f"</{tags.answer}>"
    answers = re.findall(rf"{re.escape(opened)}(.*?){re.escape(closed)}", text, re.DOTALL)
    choices = {read_choice(answer) for answer in answers}
    readable = len(answers) == 1 if mode == "strict" else len(choices) == 1
    choice = choices.pop() if readable else None
    head = text.split(opened)[0]
    analysis = head.replace(f"<{tags.think}>", "").replace(f"</{tags.think}>", "").strip()
    well_formed = choice is not None and is_well_formed(text, tags, mode)
    return Verdict(analysis or None, choice, well_formed)


def is_well_formed(text: str, tags: Tags, mode: FormatMode) -> bool:
    """Returns whether a trace is one think block directly followed by one answer block."""
    between = "" if mode == "strict" else r"\s*"
    think, answer = re.escape(tags.think), re.escape(tags.answer)
    pattern = rf"\s*<{think}>.*</{think}>{between}<{answer}>.*</{answer}>\s*"
    all_tags = [f"<{slash}{tag}>" for tag in (tags.think, tags.answer) for slash in ("", "/")]
    once_each = all(text.count(tag) == 1 for tag in all_tags)
    return once_each and re.fullmatch(pattern, text, re.DOTALL) is not None


def read_choice(answer: str) -> Slot | None:
    """Returns the slot that an answer names; None if it is not exactly 1 or 2."""
    match answer.strip():
        case "1":
            return 1
        case "2":
            return 2
    return None


def compose_trace(analysis: str, choice: Slot, tags: Tags) -> str:
    """Returns the well-formed trace that ``parse_verdict`` reads back, in both modes."""
    return f"<{tags.think}>{analysis}</{tags.think}><{tags.answer}>{choice}</{tags.answer}>"
