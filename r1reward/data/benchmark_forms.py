"""Verdicts in the words that a benchmark's own prompt asks for, read as its script reads them."""

import re
from typing import Literal

from r1reward.types import Slot

OPENING = re.compile("overall judgment|therefore", re.IGNORECASE)
SENTENCE = re.compile(
    r"answer\s*(\d+)\s*is\s*(?:the\s*)?(?:slightly\s*)?better",
    re.IGNORECASE,
)
MAX_DIGITS = 9


def judged_answer(text: str) -> Slot | Literal["other"] | None:
    """Returns the answer that a judgment names in the form of VL-RewardBench: "Overall Judgment: Answer
    2 is better."; ``other`` is a number that is no response's, None: there is no such sentence.

    The last sentence counts that follows the first "Overall Judgment" or "Therefore". Line breaks and
    asterisks are taken out before. Takes time in proportion to the length of the text.
    """
    text = text.replace("\n", "").replace("*", "")
    opening = OPENING.search(text)
    if opening is None:
        return None
    numbers = SENTENCE.findall(text, opening.end())
    if not numbers:
        return None
    number = int(numbers[-1]) if len(numbers[-1]) <= MAX_DIGITS else 0
    if number in (1, 2):
        return 1 if number == 1 else 2
    return "other"


def bracketed_assistant(text: str) -> Slot | None:
    """Returns 1 for a text with [[A]] in it and 2 for one with [[B]], the form of Multimodal RewardBench;
    [[A]] wins where both stand.
    """
    if "[[A]]" in text:
        return 1
    return 2 if "[[B]]" in text else None
