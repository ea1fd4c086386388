"""Two conversations that differ only in their last reply: the question, and the two replies."""

from __future__ import annotations

from collections.abc import Mapping

from r1reward.errors import DataError

SPEAKERS = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
IMAGE_TOKEN = "<image>"


def split_turns(first: object, second: object, speaker: str, words: str) -> tuple[str, str, str]:
    """Returns the question and the two replies. Each turn is a mapping; ``speaker`` and ``words`` are
    its keys.

    Earlier turns, where there are any, become part of the question, each under its speaker. Where the
    two conversations have different ones, the ``DataError`` is of the kind "histories differ".
    """
    turns = read_turns(first, speaker, words)
    other = read_turns(second, speaker, words)
    if turns[:-1] != other[:-1]:
        raise DataError(
            "the conversations differ before their last reply: they are no pair",
            "histories differ",
        )
    *earlier, (asker, asked) = turns[:-1]
    if asker != "user":
        raise DataError("the last turn but one is not a question")
    history = "".join(f"{name}: {said}\n\n" for name, said in earlier)
    if not asked:
        raise DataError("the question is empty")
    question = f"{history}user: {asked}" if earlier else asked
    return question, turns[-1][1], other[-1][1]


def read_turns(conversation: object, speaker: str, words: str) -> list[tuple[str, str]]:
    """Returns the speaker (user or assistant) and words of each turn, the last one a reply. Raises
    ``DataError``.
    """
    if not isinstance(conversation, list) or len(conversation) < 2:
        raise DataError("a conversation must be a list of two turns or more")
    turns = []
    for turn in conversation:
        if not isinstance(turn, Mapping) or turn.get(speaker) not in SPEAKERS:
            raise DataError(f"{speaker} of a turn must be one of {', '.join(SPEAKERS)}")
        name, said = SPEAKERS[turn[speaker]], turn.get(words)
        if not isinstance(said, str) or not said.strip():
            raise DataError(f"{words} of a turn is missing or empty")
        # The images are shown before the text, wherever the token for them stood.
        turns.append((name, said.replace(IMAGE_TOKEN, "").strip() if name == "user" else said))
    if turns[-1][0] != "assistant":
        raise DataError("a conversation must end with a reply")
    return turns
