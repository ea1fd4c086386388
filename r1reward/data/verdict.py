"""The parser: the only place that knows how a trace is written.

A trace is well formed when it is one think block directly followed by one answer block holding 1
or 2, each tag exactly once, with nothing else but surrounding whitespace (the paper's format
reward), and when there is something to read in the think block. The choice is read independently of
that, so a right answer in a sloppy trace still counts.

``strict`` allows no character between the two blocks and reads a choice only from a single answer
block. ``tolerant`` allows whitespace between the blocks and reads several answer blocks that agree.
``loose`` is tolerant and also reads a digit in markup or in a few words, and a last line without
tags: for models that were trained on other prompts. ``authors`` is strict but for an empty think
block, which the authors' code pays for as for any other. The modes named after a benchmark read the
sentence that its prompt asks for, in what stands behind the think block where there is one; a trace
with such a sentence behind some words is well formed.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from r1reward.data.benchmark_forms import bracketed_assistant, judged_answer
from r1reward.data.markup import has_words, without_decoration
from r1reward.data.prompt import Tags
from r1reward.recipe.choices import FormatMode
from r1reward.types import Slot, Verdict

LOOSE_ANSWER = re.compile(
    r"(?:therefore,? )?(?:(?:the )?(?:(?:final|correct|better|best|preferred|overall) )?"
    r"(?:answer|choice|output|verdict|judge?ment|response|option)(?: is)?:? ?){0,2}"
    r"(?:\\boxed)?[(\[{]{0,2}([12])[)\]}]{0,2}"
    r"(?: is (?:the )?(?:slightly )?(?:better|best|preferred)(?: (?:one|response|answer))?)?[.!]?"
)
MAX_LOOSE_CHARS = 60


def parse_verdict(text: str, tags: Tags, mode: FormatMode) -> Verdict:
    """Returns analysis, choice and form of a trace; what cannot be read is None. Never raises.

    Takes time in proportion to the length of the text, whatever a model repeats in it.
    """
    if mode in FORMS:
        return read_benchmark_form(text, tags, FORMS[mode])
    answers = answer_texts(text, tags)
    if mode == "loose":
        choices = {read_loosely(answer) for answer in answers or [closing_line(text, tags)]}
    else:
        choices = {read_choice(answer) for answer in answers}
    readable = len(choices) == 1 if mode in ("tolerant", "loose") else len(answers) == 1
    choice = choices.pop() if readable else None
    head = text.partition(f"<{tags.answer}>")[0]
    analysis = head.replace(f"<{tags.think}>", "").replace(f"</{tags.think}>", "").strip()
    says_something = has_words(analysis)
    well_formed = choice is not None and is_well_formed(text, tags, mode)
    return Verdict(
        analysis=analysis if says_something else None,
        choice=choice,
        well_formed=well_formed and (says_something or mode == "authors"),
    )


def sentence_choice(text: str) -> Slot | None:
    """Returns the answer of a judgment in words; None without one, or if it is neither 1 nor 2."""
    named = judged_answer(text)
    return None if named == "other" else named


FORMS: Mapping[str, Callable[[str], Slot | None]] = {
    "vl-rewardbench": sentence_choice,
    "multimodal-rewardbench": bracketed_assistant,
}


def read_benchmark_form(text: str, tags: Tags, read: Callable[[str], Slot | None]) -> Verdict:
    """Returns the verdict of a text without answer tags. The last line is no part of its analysis."""
    reply = text.rpartition(f"</{tags.think}>")[2]
    choice = read(reply)
    analysis = text.strip().rpartition("\n")[0].strip()
    says_something = has_words(analysis)
    return Verdict(
        analysis=analysis if says_something else None,
        choice=choice,
        well_formed=choice is not None and says_something,
    )


def is_well_formed(text: str, tags: Tags, mode: FormatMode) -> bool:
    """Returns whether a trace is one think block directly followed by one answer block."""
    between = r"\s*" if mode in ("tolerant", "loose") else ""
    think, answer = re.escape(tags.think), re.escape(tags.answer)
    pattern = rf"\s*<{think}>.*</{think}>{between}<{answer}>.*</{answer}>\s*"
    all_tags = [f"<{slash}{tag}>" for tag in (tags.think, tags.answer) for slash in ("", "/")]
    once_each = all(text.count(tag) == 1 for tag in all_tags)
    return once_each and re.fullmatch(pattern, text, re.DOTALL) is not None


def answer_spans(text: str, tags: Tags) -> Iterator[tuple[int, int]]:
    """Yields where the contents of each answer block begin and end; a tag inside of them is content."""
    opened, closed = f"<{tags.answer}>", f"</{tags.answer}>"
    begin = text.find(opened)
    while begin >= 0:
        begin += len(opened)
        end = text.find(closed, begin)
        if end < 0:  # nor does any later block end
            return
        yield begin, end
        begin = text.find(opened, end + len(closed))


def answer_texts(text: str, tags: Tags) -> list[str]:
    """Returns the contents of each answer block."""
    return [text[begin:end] for begin, end in answer_spans(text, tags)]


def read_choice(answer: str) -> Slot | None:
    """Returns the slot that an answer names; None if it is not exactly 1 or 2."""
    match answer.strip():
        case "1":
            return 1
        case "2":
            return 2
    return None


def read_loosely(answer: str) -> Slot | None:
    """Returns the slot of an answer that is a digit in markup, or in a few words that say only that.

    "**1**", "1." and "Response 1 is better" are read; "1 or 2" and "Response 1 is worse" are not.
    """
    answer = answer.strip()
    if len(answer) > MAX_LOOSE_CHARS:
        return None
    named = LOOSE_ANSWER.fullmatch(without_decoration(answer))
    return read_choice(named[1]) if named else None


def closing_line(text: str, tags: Tags) -> str:
    """Returns the last line behind the analysis; "" while that is not closed, or of an empty text."""
    _, opened, behind = text.rpartition(f"</{tags.think}>")
    if not opened and f"<{tags.think}>" in text:
        return ""
    return behind.strip().rpartition("\n")[2].strip()


def compose_trace(analysis: str, choice: Slot, tags: Tags) -> str:
    """Returns the trace that ``parse_verdict`` reads back in every mode that reads tags, well formed if
    it has words.
    """
    return f"<{tags.think}>{analysis}</{tags.think}><{tags.answer}>{choice}</{tags.answer}>"
