"""Answers made elsewhere: any JSONL that says which row, which order and which slot."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from r1reward.errors import InputError
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.items import Item
from r1reward.types import Order

ORDERS: dict[str, Order] = {"stored": "stored", "swapped": "swapped"}
KNOWN = {field.name for field in fields(Answer)} | {"row"}
ANSWER = TypeAdapter(Answer)


def read_predictions(path: Path, items: Sequence[Item]) -> list[Answer]:
    """Returns the answers of a file. A line names its ``row`` (from 1) or ``item`` (a row's key),
    ``order`` and ``choice``.

    ``choice`` is the slot as shown, 1 or 2, or null for an unreadable answer; ``order`` is stored (the
    default) or swapped; ``sample_index`` counts up by itself. All other fields of an ``Answer`` may be
    given: ``answers.jsonl`` of an evaluation is such a file. Raises ``InputError`` naming the line.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    keys = [item.key for item in items]
    known_keys = set(keys)
    counts: Counter[tuple[str, Order]] = Counter()
    answers = []
    # As bytes: texts may hold characters that end a line for str, but not in JSONL.
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        answer = read_line(line, keys, known_keys, f"{path} line {number}", counts)
        answers.append(answer)
    answered = {answer.item for answer in answers}
    if missing := [number for number, key in enumerate(keys, start=1) if key not in answered]:
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
    line: bytes,
    keys: Sequence[str],
    known_keys: set[str],
    origin: str,
    counts: Counter[tuple[str, Order]],
) -> Answer:
    """Returns the answer of one line and counts it. Raises ``InputError``."""
    try:
        raw: Mapping[str, Any] = json.loads(line)
    except ValueError as error:
        raise InputError(f"{origin}: not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise InputError(f"{origin}: not a JSON object")
    if unknown := sorted(set(raw) - KNOWN):
        raise InputError(
            f"{origin}: unknown field {unknown[0]!r}; known: {', '.join(sorted(KNOWN))}"
        )
    key = raw.get("item")
    if key is None:
        row = raw.get("row")
        if type(row) is not int or not 1 <= row <= len(keys):
            raise InputError(f"{origin}: row is {row!r}; it must be from 1 to {len(keys)}")
        key = keys[row - 1]
    if not isinstance(key, str) or key not in known_keys:
        raise InputError(f"{origin}: no row of the benchmark has the key {key!r}")
    order = ORDERS.get(str(raw.get("order", "stored")))
    if order is None:
        raise InputError(f"{origin}: order is {raw['order']!r}; it must be stored or swapped")
    slot = raw.get("choice")
    if slot is not None and (type(slot) is not int or slot not in (1, 2)):
        raise InputError(f"{origin}: choice is {slot!r}; it must be 1, 2 or null")
    check_range(raw, origin)
    given = {"sample_index": counts[key, order], "seed": 0, **raw, "item": key, "order": order}
    given.pop("row", None)
    counts[key, order] += 1
    try:
        return ANSWER.validate_python({"choice": None, **given})
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(
            f"{origin}: {problem['loc'][0]} is {problem['input']!r}: {problem['msg']}"
        ) from error


def check_range(raw: Mapping[str, Any], origin: str) -> None:
    """Raises ``InputError`` for values that the types of ``Answer`` let pass and no evaluation writes."""
    confidence, index = raw.get("confidence"), raw.get("sample_index", 0)
    if isinstance(confidence, int | float) and not 0 <= confidence <= 1:
        raise InputError(f"{origin}: confidence is {confidence}; it must be from 0 to 1")
    if isinstance(index, int) and index < 0:
        raise InputError(f"{origin}: sample_index is {index}; it must be 0 or more")
