"""R1-Reward-RL: pairs inside of the prompt that asks a model to compare them.

Hub (yifanzhang114/R1-Reward-RL), Parquet: ``message`` (a chat as JSON text), ``question``, ``answer``
(a list with one "<answer>1</answer>"), ``image`` (a string; the card does not say of what, but a row is
about 245 kB, so base64 is assumed; a data URI and a path are read too). The authors' training file is
JSONL without ``image``: the path is in the chat. The chat's text has fields under headings of hashes.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from r1reward.data.importers.fields import group_of, image, kept
from r1reward.data.importers.raw_pair import RawPair, RawPairs
from r1reward.data.importers.source_rows import read_source
from r1reward.data.stores.row_files import Row
from r1reward.errors import DataError, as_input_error
from r1reward.types import Slot

NAME = "r1-reward-rl"
FIELDS = ("Question", "Response 1", "Response 2")
HEADING = re.compile(r"^[ \t]*#+[ \t]*\**\[(Question|Response 1|Response 2)\]\**:?", re.MULTILINE)
SKELETON = re.compile(r"^[ \t]*#+[ \t]*\**Output Format", re.MULTILINE)
ANSWER = re.compile(r"\s*(?:<answer>\s*)?([12])\s*(?:</answer>\s*)?")


def read_r1_reward_rl(src: Path) -> RawPairs:
    """Yields the pairs of a file, or of a folder of Parquet (else JSONL) files; those about one
    question share a group.
    """
    return read_source(src, (".parquet", ".jsonl"), read_row)


def read_row(row: Row, origin: str) -> RawPairs:
    content = chat_content(row.get("message"))
    texts = [str(item.get("text") or "") for item in content if item.get("type") == "text"]
    compared = split_prompt("\n".join(texts))
    images: tuple[bytes | str, ...]
    if row.get("image"):
        images = (image(row),)
    else:
        images = tuple(image(item, "image") for item in content if item.get("type") == "image")
    video = next((item.get("video") for item in content if item.get("type") == "video"), None)
    if video is not None and not isinstance(video, str):
        raise DataError("the video of the chat is not the path of a folder")
    yield RawPair(
        origin,
        *compared,
        preferred=read_answer(row.get("answer")),
        images=images,
        video=video,
        source=NAME,
        group=group_of(compared[0], *images, video),
        meta=kept(row, "question"),
    )


def chat_content(message: object) -> list[dict[str, object]]:
    """Returns the texts and images of the user's turn. Raises ``DataError``."""
    if isinstance(message, str):
        with as_input_error("message is not JSON", ValueError, kind=DataError):
            message = json.loads(message)
    turns = message if isinstance(message, list) else [message]
    users = [turn for turn in turns if isinstance(turn, dict) and turn.get("role") == "user"]
    if len(users) != 1:
        raise DataError(f"message has {len(users)} turns of a user; it must have one")
    content = users[0].get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise DataError("the content of message is neither text nor a list of parts")
    return content


def split_prompt(prompt: str) -> tuple[str, str, str]:
    """Returns question and responses from under their headings, without the skeleton of the output."""
    headings = list(HEADING.finditer(prompt))
    names = tuple(heading[1] for heading in headings)
    if names != FIELDS:
        raise DataError(
            f"the headings of the prompt are {', '.join(names) or 'not there'}; they must be "
            f"{', '.join(FIELDS)}, each once"
        )
    first, second, third = headings
    skeletons = list(SKELETON.finditer(prompt, third.end()))
    end = skeletons[-1].start() if skeletons else len(prompt)
    question = prompt[first.end() : second.start()].strip()
    response_1 = prompt[second.end() : third.start()].strip()
    response_2 = prompt[third.end() : end].strip()
    for name, text in zip(FIELDS, (question, response_1, response_2), strict=True):
        if not text:
            raise DataError(f"{name} is empty in the prompt")
    return question, response_1, response_2


def read_answer(answer: object) -> Slot:
    """Returns the preferred slot: 1 or 2, bare or in its tags, alone or as a list of one."""
    if isinstance(answer, Sequence) and not isinstance(answer, str) and len(answer) == 1:
        answer = answer[0]
    match = ANSWER.fullmatch(str(answer))
    if match is None:
        raise DataError(f"answer is {answer!r}; it must be 1 or 2")
    return 1 if match[1] == "1" else 2
