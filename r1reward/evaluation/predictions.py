"""Answers made elsewhere: any JSONL that says which row, which order and which slot."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from r1reward.data.stores.row_files import Row, jsonl_rows
from r1reward.data.validated import validated
from r1reward.errors import DataError, InputError
from r1reward.evaluation.answers import ANSWER, Answer, with_status
from r1reward.evaluation.items import Item

KNOWN = {field.name for field in fields(Answer)} | {"row", "refused"}


def read_predictions(path: Path, items: Sequence[Item]) -> list[Answer]:
    """Returns the answers of a file. A line names its ``row`` (from 1) or ``item`` (a row's key),
    ``order`` and ``choice``.

    ``choice`` is the slot as shown, 1 or 2, or null for an unreadable answer; ``order`` is stored (the
    default) or swapped; ``sample_index`` counts up by itself. All other fields of an ``Answer`` may be
    given: ``answers.jsonl`` of an evaluation is such a file. Raises ``InputError`` naming the line.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    keys = {item.key: number for number, item in enumerate(items, start=1)}
    counts: Counter[tuple[str, str]] = Counter()
    answers = []
    for number, line in jsonl_rows(path):
        answer = read_line(line, items, f"{path} line {number}", counts)
        if answer.item not in keys:
            raise InputError(
                f"{path} line {number}: no row of the benchmark has the key {answer.item!r}"
            )
        answers.append(answer)
    answered = {answer.item for answer in answers}
    if missing := [number for key, number in keys.items() if key not in answered]:
        shown = ", ".join([*map(str, missing[:5]), *["..."] * (len(missing) > 5)])
        raise InputError(
            f"{path}: {len(missing)} of {len(keys)} rows have no prediction (rows {shown}): add "
            'a line with "choice": null for a row that was not answered'
        )
    if len({answer.sample_key for answer in answers}) < len(answers):
        raise InputError(
            f"{path}: a sample_index is repeated within a row and order: renumber them"
        )
    return answers


def read_line(
    line: Row | DataError, items: Sequence[Item], origin: str, counts: Counter[tuple[str, str]]
) -> Answer:
    """Returns the answer of one line and counts it. Raises ``InputError``."""
    if isinstance(line, DataError):
        raise InputError(f"{origin}: {line}")
    raw = dict(line)
    if unknown := sorted(set(raw) - KNOWN):
        raise InputError(
            f"{origin}: unknown field {unknown[0]!r}; known: {', '.join(sorted(KNOWN))}"
        )
    row = raw.pop("row", None)
    if raw.get("item") is None:
        if type(row) is not int or not 1 <= row <= len(items):
            raise InputError(f"{origin}: row is {row!r}; it must be from 1 to {len(items)}")
        raw["item"] = items[row - 1].key
    raw = {"order": "stored", "seed": 0, "choice": None, **with_status(raw)}
    slot = raw["choice"]
    if slot is not None and (type(slot) is not int or slot not in (1, 2)):
        raise InputError(f"{origin}: choice is {slot!r}; it must be 1, 2 or null")
    sample = (str(raw["item"]), str(raw["order"]))
    with validated(origin):
        answer: Answer = ANSWER.validate_python({"sample_index": counts[sample], **raw})
    counts[sample] += 1
    return answer
