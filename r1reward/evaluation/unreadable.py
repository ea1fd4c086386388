"""What stood where an answer was due: how unreadable answers were written, and what would read them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from r1reward.data.prompt import Tags
from r1reward.data.verdict import answer_texts, parse_verdict
from r1reward.evaluation.answers import Answer
from r1reward.recipe.choices import FormatMode
from r1reward.recipe.sections import PromptSection

MAX_FORMS = 5
MAX_FORM_CHARS = 60
# From the one that changes least; authors reads what strict does.
WIDER_MODES: tuple[FormatMode, ...] = (
    "tolerant",
    "loose",
    "vl-rewardbench",
    "multimodal-rewardbench",
)


@dataclass(frozen=True)
class UnreadableForm:
    """One way in which answers were written that could not be read.

    ``form`` is the contents of the answer blocks, or else the last line, shortened; ``setting`` is what
    reads it, as on the command line, None if nothing does.
    """

    form: str
    count: int
    setting: str | None


def unreadable_forms(
    answers: Sequence[Answer], prompt: PromptSection
) -> tuple[UnreadableForm, ...]:
    """Returns the most frequent forms of unreadable answers, the most frequent first.

    ``prompt`` is how the answers were asked for and read. Rows that were not put to the model do not
    count.
    """
    tags = Tags(prompt.think_tag, prompt.answer_tag)
    written = [
        (written_form(answer, tags), answer.text)
        for answer in answers
        if answer.choice is None and answer.status == "answered"
    ]
    texts, counts = dict(written), Counter(form for form, _ in written)
    return tuple(
        UnreadableForm(form, count, reading_setting(texts[form], tags))
        for form, count in counts.most_common(MAX_FORMS)
    )


def written_form(answer: Answer, tags: Tags) -> str:
    """Returns what an answer looks like, in one short line."""
    blocks = answer_texts(answer.text, tags)
    if blocks:
        form = " | ".join(" ".join(block.split()) or "(empty)" for block in blocks)
    elif answer.truncated:
        form = "(cut off at the token limit)"
    else:
        form = answer.text.strip().rpartition("\n")[2] or "(nothing)"
    # What is not printable may be half a character, which no file and no terminal takes.
    form = "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in " ".join(form.split())
    )
    return form if len(form) <= MAX_FORM_CHARS else form[: MAX_FORM_CHARS - 1] + "…"


def reading_setting(text: str, tags: Tags) -> str | None:
    """Returns the setting under which a text has a readable answer, None if there is none."""
    for mode in WIDER_MODES:
        if parse_verdict(text, tags, mode).choice is not None:
            return f"prompt.format_mode={mode}"
    return None


def describe_forms(forms: Sequence[UnreadableForm]) -> str:
    """Returns the forms as half a sentence: what was found, how often, and what reads it."""
    return "; ".join(f"{form.form!r} {form.count} times ({read_by(form)})" for form in forms)


def read_by(form: UnreadableForm) -> str:
    return f"{form.setting} reads it" if form.setting else "no setting reads it"
