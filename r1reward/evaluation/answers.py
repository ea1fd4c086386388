"""Answers: what a model said about a benchmark row, one line of JSON a sample.

The file is appended to as samples finish, so a killed evaluation goes on where it stopped.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from math import exp
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from r1reward.data.atomic import written_whole
from r1reward.data.prompt import Tags
from r1reward.data.stores.json_lines import append_json_lines, numbered_json_lines
from r1reward.data.validated import validated
from r1reward.data.verdict import answer_spans, read_choice
from r1reward.types import AnswerStatus, JudgeWord, Order, Slot


@dataclass(frozen=True)
class Answer:
    """One sample of one row in one order.

    ``choice`` is the slot as shown (None: unreadable). ``confidence`` is the probability that the
    model gave to the answer token it wrote, None where the engine does not say. Reward parts are None
    where nothing was judged or rewarded.

    ``status`` says what became of the request, and ``reason`` why there is no answer. A prompt that is
    ``too_long`` was never put to the model and is unreadable; one that the server ``refused`` or that
    ``failed`` is no answer at all, and is asked again by the next run.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    item: str
    order: Order
    sample_index: Annotated[int, Field(strict=True, ge=0)]
    seed: int
    choice: Slot | None
    text: str = ""
    num_tokens: int | None = None
    truncated: bool = False
    well_formed: bool = False
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None
    judge_word: JudgeWord = "skipped"
    reward: float | None = None
    consistency: float | None = None
    status: AnswerStatus | Literal["too_long"] = "answered"
    reason: str = ""

    @property
    def is_missing(self) -> bool:
        """Whether the server left this sample without an answer."""
        return self.status in ("refused", "failed")

    @property
    def response(self) -> Slot | None:
        """The stored response that this is a vote for; None if it is unreadable."""
        if self.choice is None or self.order == "stored":
            return self.choice
        return 1 if self.choice == 2 else 2

    @property
    def sample_key(self) -> tuple[str, Order, int]:
        """Which of the planned samples this is: row, order, and its index within the order."""
        return self.item, self.order, self.sample_index


ANSWER = TypeAdapter(Answer)


def append_answers(path: Path, answers: Iterable[Answer]) -> None:
    """Appends answers to the file."""
    append_json_lines(path, (asdict(answer) for answer in answers))


def read_answers(path: Path) -> list[Answer]:
    """Returns every whole line. A line that a kill cut short is skipped; its sample is drawn again.

    Raises ``InputError`` for a line that is whole but no answer: a kill does not leave one.
    """
    answers = []
    for number, fields in numbered_json_lines(path):
        where = f"{path} line {number}: not an answer of an evaluation"
        with validated(f"{where}; remove the line to have its sample drawn again"):
            answers.append(ANSWER.validate_python(with_status(fields)))
    return answers


def answer_confidence(
    token_texts: Sequence[str], logprobs: Sequence[float], tags: Tags
) -> float | None:
    """Returns the probability in [0, 1] of the token that the answer's digit is in, under the sampler's
    log-probs.

    ``token_texts`` and ``logprobs`` [R] are those of the response, in order; the texts joined are the
    trace. A token may hold more than the digit. Of several answer blocks that agree (the tolerant
    parser reads them) it is the first one, where the choice was made. None if no answer can be read.
    """
    assert len(token_texts) == len(logprobs)
    text = "".join(token_texts)
    blocks = list(answer_spans(text, tags))
    choices = {read_choice(text[begin:end]) for begin, end in blocks}
    if len(choices) != 1 or choices == {None}:
        return None
    begin, end = blocks[0]
    position = end - len(text[begin:end].lstrip())
    ends = accumulate(len(text) for text in token_texts)
    holder = next(index for index, end in enumerate(ends) if end > position)
    return min(1.0, exp(logprobs[holder]))


def with_status(fields: Any) -> Any:
    """Returns the fields of a line in today's names: 0.2 told only of prompts that were too long."""
    if not isinstance(fields, Mapping) or "refused" not in fields:
        return fields
    kept = {name: value for name, value in fields.items() if name != "refused"}
    return (
        {**kept, "status": "too_long", "reason": fields["refused"]} if fields["refused"] else kept
    )


def forget_missing(path: Path) -> None:
    """Takes the samples without an answer out of the file, so that they are drawn again."""
    answers = read_answers(path)
    if any(answer.is_missing for answer in answers):
        with written_whole(path) as partial:
            partial.unlink(missing_ok=True)
            partial.touch()
            append_answers(partial, (answer for answer in answers if not answer.is_missing))
