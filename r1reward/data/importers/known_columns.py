"""Columns whose names say what they are: files of preferences as other trainers read them.

TRL (prompt, chosen, rejected; texts or messages, the prompt also inside), LLaMA-Factory (conversations,
or instruction with input below it), ms-swift (messages with rejected_response or rejected_messages),
OpenAI (input, preferred_output, non_preferred_output), and our own names.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from r1reward.data.importers.columns import ColumnMap, parse_columns
from r1reward.data.importers.source_rows import source_files
from r1reward.data.stores.row_files import Row, numbered_rows
from r1reward.errors import DataError, InputError

logger = logging.getLogger(__name__)

# Columns of the question (none: the replies' conversations begin with it), first and second response.
KNOWN: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("input",), "preferred_output", "non_preferred_output"),
    (("prompt",), "chosen", "rejected"),
    (("question",), "chosen", "rejected"),
    (("conversations",), "chosen", "rejected"),
    (("messages",), "chosen", "rejected"),
    (("instruction", "input?"), "chosen", "rejected"),
    ((), "messages", "rejected_messages"),
    ((), "messages", "rejected_response"),
    ((), "conversations", "rejected_conversations"),
    ((), "chosen", "rejected"),
)
OWN = ("question", "response_1", "response_2", "preferred")
# Rows of one file may have them or not.
MEDIA = ("image=images?", "image=image?", "video=video?")
BESIDE = ("source=source?", "category=category?", "group=group?")
# What may belong to the question and is not read.
UNREAD = ("system", "history", "context", "instruction", "input", "tools")
LOOKED_AT = 20


def recognised_columns(src: Path, suffixes: Sequence[str]) -> ColumnMap:
    """Returns the column map of files whose columns have known names; the log says which it is.

    Raises ``InputError``, with the columns that are there, if it cannot be told.
    """
    names: dict[str, None] = {}
    for file in source_files(src, suffixes):
        for _, row in islice(numbered_rows(file), LOOKED_AT):
            if isinstance(row, DataError):
                continue
            names.update(dict.fromkeys(row))
            if (spec := known_map(row)) is not None:
                logger.info("columns by their names: %s (--columns says otherwise)", spec)
                columns = parse_columns(spec)
                used = {column.name for column in (*columns.columns.values(), *columns.below)}
                return replace(columns, unread=tuple(name for name in UNREAD if name not in used))
    columns_there = ", ".join(names)[:300] or "there are none"
    raise InputError(
        f"{src}: the names of its columns ({columns_there}) do not say what they mean: give a column "
        "map, --columns question=COLUMN,response_1=COLUMN,response_2=COLUMN,preferred=1,image=COLUMN"
    )


def known_map(row: Row) -> str | None:
    """Returns the column map of a row by its columns' names; None if they are not known."""
    filled = {name for name, value in row.items() if value not in (None, "", [])}
    if filled.issuperset(OWN):
        return ",".join((*(f"{name}={name}" for name in OWN), *MEDIA, *BESIDE))
    for questions, first, second in KNOWN:
        asked = [f"question={name}" for name in questions]
        needed = {first, second, *(name for name in questions if not name.endswith("?"))}
        used = needed | {name.removesuffix("?") for name in questions}
        if needed <= filled and not (filled - used).intersection(UNREAD):
            replies = (f"response_1={first}", f"response_2={second}", "preferred=1")
            return ",".join((*asked, *replies, *MEDIA))
    return None
