"""Preferences as messages: the question before two replies, whatever keys and parts the turns have.

A turn is an object with ``role`` and ``content``, or ``from`` and ``value``. Content is text or a list of
parts, texts and images among them. The question may stand apart, at the beginning of one conversation or
of both, or in several turns.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from r1reward.data.image_values import image_items
from r1reward.data.texts import described
from r1reward.errors import DataError

SPEAKERS = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "model", "bot"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("tool", "function", "observation"), "tool"),
}
TURN_KEYS = (("role", "content"), ("from", "value"))
TEXT_PARTS = (None, "text", "input_text", "output_text")
IMAGE_PARTS = (None, "image", "image_url", "input_image")
WRITTEN_OBJECTS = re.compile(r"\s*\[\s*\{")
WRITTEN_TURNS = re.compile(r"""\s*\[\s*\{\s*['"](role|from|content|value)['"]\s*:""")
IMAGE_TOKEN = "<image>"


@dataclass(frozen=True)
class Turn:
    """What a speaker (user, assistant, system or tool) says and shows; ``num_marks`` counts the images
    that a mark stands for.
    """

    speaker: str
    words: str
    images: tuple[str | bytes, ...] = ()
    num_marks: int = 0


@dataclass(frozen=True)
class Compared:
    """A question and its two replies; the images that are inside of the messages, and how many marks
    stand for images beside them.
    """

    question: str
    response_1: str
    response_2: str
    images: tuple[str | bytes, ...]
    num_marks: int

    @property
    def texts(self) -> tuple[str, str, str]:
        return self.question, self.response_1, self.response_2

    def shown(self, beside: tuple[str | bytes, ...]) -> tuple[str | bytes, ...]:
        """Returns the images of the pair; ``beside`` are those of the row. Raises ``DataError`` if it is
        not clear which they are.
        """
        if self.images and beside and self.images != beside:
            raise DataError(
                "images are inside of the messages and beside them: leave one of them out"
            )
        images = self.images or beside
        if self.num_marks > len(images):
            raise DataError(
                f"the messages show {self.num_marks} images and the row has {len(images)}: name "
                "their column, or fill them in",
                "image missing",
            )
        return images


def compare(question: object, first: object, second: object) -> Compared:
    """Returns what two replies answer. Each of the three is text, a turn, or a list of turns;
    ``question`` may be None, where the replies' conversations begin with it.

    Earlier turns, where there are any, become part of the question, each under its speaker. Where the
    two conversations have different ones, the ``DataError`` is of the kind "histories differ".
    """
    asked = read_turns(question, "user")
    if len(asked) > 1 and question == first:
        asked.pop()  # the conversation with its reply, named for the question too
    *before_1, reply_1 = conversation(first)
    *before_2, reply_2 = conversation(second)
    history_1 = joined(asked, before_1) or before_2
    history_2 = joined(asked, before_2) or before_1
    if words_of(history_1) != words_of(history_2):
        raise DataError(
            "the conversations differ before their last reply: they are no pair",
            "histories differ",
        )
    shown = (history_1, asked, history_2)
    return Compared(
        question_of(history_1),
        reply_1.words,
        reply_2.words,
        images=next(filter(None, (images_of(turns) for turns in shown)), ()),
        num_marks=max(sum(turn.num_marks for turn in turns) for turns in shown),
    )


def messages_in(value: object) -> object:
    """Returns the messages that a text holds (``written_in``); anything else as it is, other lists too.

    Raises ``DataError`` for text that begins like messages and cannot be read.
    """
    if not isinstance(value, str) or not WRITTEN_OBJECTS.match(value):
        return value
    held = written_in(value)
    if held is value and WRITTEN_TURNS.match(value):
        raise DataError("messages are written in a form that is not JSON; write them as JSON")
    turns = held if isinstance(held, list) else []
    known = [isinstance(t, dict) and any(t.keys() >= {*keys} for keys in TURN_KEYS) for t in turns]
    return held if turns and all(known) else value


def written_in(value: object) -> object:
    """Returns the list or object that a text holds, as JSON or as Python (and so pandas) prints it;
    anything else as it is.
    """
    if isinstance(value, str) and value.lstrip().startswith(("[", "{")):
        for read in (json.loads, ast.literal_eval):
            with suppress(ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                return read(value.strip())
    return value


def conversation(value: object) -> list[Turn]:
    """Returns the turns up to a reply. Raises ``DataError``."""
    turns = read_turns(value, "assistant")
    if not turns:
        raise DataError("a conversation is missing or empty; fill it in or remove the row")
    if turns[-1].speaker != "assistant":
        raise DataError("a conversation must end with a reply")
    if any(turn.images or turn.num_marks for turn in turns if turn.speaker == "assistant"):
        raise DataError("a reply shows an image: only texts can be compared")
    return turns


def read_turns(value: object, speaker: str) -> list[Turn]:
    """Returns the turns of a list, of one turn, or of text that this speaker says."""
    match value:
        case None | "":
            return []
        case str():
            return [text_turn(speaker, value)]
        case {"messages": messages}:
            return read_turns(messages, speaker)
        case Mapping():
            return [read_turn(value)]
        case list() | tuple():
            turns = [read_turn(turn) for turn in value]
            return [turn for turn in turns if turn.words or turn.speaker != "system"]
        case _:
            raise DataError(f"a conversation is {described(value)}; it must be a list of turns")


def read_turn(turn: object) -> Turn:
    """Returns a turn. Raises ``DataError``."""
    keys = next((keys for keys in TURN_KEYS if isinstance(turn, Mapping) and keys[0] in turn), None)
    if keys is None or not isinstance(turn, Mapping):
        raise DataError(
            f"a turn is {described(turn)}; it needs role and content, or from and value"
        )
    role, content = keys
    speaker = SPEAKERS.get(str(turn[role]).strip().lower())
    if speaker is None:
        raise DataError(f"{role} of a turn must be one of {', '.join(SPEAKERS)}")
    said = turn.get(content)
    read = text_turn(speaker, said) if isinstance(said, str) else parts_turn(speaker, said, content)
    if not (read.words.strip() or read.images or read.num_marks or speaker == "system"):
        raise DataError(f"{content} of a turn is missing or empty")
    return read


def text_turn(speaker: str, text: str) -> Turn:
    """Returns a turn of text. Images are shown before the text, wherever the mark for them stood."""
    if speaker == "assistant":
        return Turn(speaker, text)
    return Turn(speaker, text.replace(IMAGE_TOKEN, "").strip(), num_marks=text.count(IMAGE_TOKEN))


def parts_turn(speaker: str, parts: object, name: str) -> Turn:
    """Returns a turn of parts. Raises ``DataError`` for a part that is neither text nor image."""
    if isinstance(parts, Mapping):
        parts = [parts]
    if not isinstance(parts, list | tuple):
        raise DataError(f"{name} of a turn is missing or empty")
    read = [read_part(speaker, part) for part in parts]
    return Turn(
        speaker,
        "\n".join(part.words for part in read if part.words),
        images=tuple(image for part in read for image in part.images),
        num_marks=sum(part.num_marks for part in read),
    )


def read_part(speaker: str, part: object) -> Turn:
    """Returns what one part says or shows; an image part without an image is a mark for one."""
    if isinstance(part, str):
        return text_turn(speaker, part)
    kind = part.get("type") if isinstance(part, Mapping) else described(part)
    if isinstance(part, Mapping):
        if kind in TEXT_PARTS and isinstance(part.get("text"), str):
            return text_turn(speaker, part["text"])
        if kind in IMAGE_PARTS:
            held = {key: value for key, value in part.items() if key not in ("type", "text")}
            images = image_items(held, "an image of a turn") if any(held.values()) else ()
            return Turn(speaker, "", images, num_marks=not images)
    raise DataError(f"a part of a turn is of type {kind}; only texts and images are read")


def joined(asked: Sequence[Turn], before: Sequence[Turn]) -> list[Turn]:
    """Returns the turns before a reply: those of the question, which the conversation may repeat."""
    said, repeated = words_of(asked), words_of(before)
    if said in (repeated[: len(said)], repeated[len(repeated) - len(said) :]):
        return [*before]
    if repeated and said[-len(repeated) :] == repeated:
        return [*asked]
    return [*asked, *before]


def words_of(turns: Sequence[Turn]) -> list[tuple[str, str]]:
    return [(turn.speaker, turn.words.strip()) for turn in turns]


def images_of(turns: Sequence[Turn]) -> tuple[str | bytes, ...]:
    return tuple(image for turn in turns for image in turn.images)


def question_of(history: Sequence[Turn]) -> str:
    """Returns the last question, below the turns before it. Raises ``DataError`` if there is none."""
    if not history:
        raise DataError("there is no question before the replies; name its column")
    *earlier, asked = history
    if asked.speaker != "user":
        raise DataError("the last turn but one is not a question")
    if not asked.words:
        raise DataError("the question is empty")
    if not earlier:
        return asked.words
    told = "".join(f"{turn.speaker}: {turn.words}\n\n" for turn in earlier)
    return f"{told}user: {asked.words}"
