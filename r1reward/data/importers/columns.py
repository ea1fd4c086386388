"""Files of any shape, by a map from the parts of a pair to their columns.

``question=prompt,response_1=chosen,response_2=rejected,preferred=1,image=img``: on the left the part,
on the right a column, or a constant in quotes (``category="charts"``). ``preferred`` is 1 or 2 for
every row, or a column with the values that mean the first response, the second, and ties:
``preferred=winner:model_a/model_b/tie``; without them a column holds 1 and 2. ``image`` may be given
several times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from r1reward.data.importers.fields import FieldError, Row, encoded_or_path, text, text_or_empty
from r1reward.data.importers.files import read_source
from r1reward.data.importers.raw_pair import Broken, RawPair
from r1reward.errors import InputError
from r1reward.types import Slot

REQUIRED = ("question", "response_1", "response_2", "preferred")
OPTIONAL = ("image", "video", "category", "group", "source")
DEFAULT_LABELS = ("1", "2")


@dataclass(frozen=True)
class Column:
    """A column by its name, or one value for every row."""

    name: str
    is_constant: bool = False

    def value(self, row: Row) -> object:
        if self.is_constant:
            return self.name
        if self.name not in row:
            raise FieldError(f"there is no column {self.name}")
        return row[self.name]

    def text(self, row: Row) -> str:
        return text({self.name: self.value(row)}, self.name)

    def text_or_empty(self, row: Row) -> str:
        return text_or_empty({self.name: self.value(row)}, self.name)


@dataclass(frozen=True)
class ColumnMap:
    """``labels`` are the values of ``preferred`` for the first response, the second, and ties."""

    question: Column
    response_1: Column
    response_2: Column
    preferred: Column
    labels: tuple[str, ...] = DEFAULT_LABELS
    images: tuple[Column, ...] = ()
    video: Column | None = None
    category: Column | None = None
    group: Column | None = None
    source: Column | None = None


def parse_columns(spec: str) -> ColumnMap:
    """Raises ``InputError`` for a map that cannot be meant."""
    parts: dict[str, list[str]] = {}
    for item in spec.split(","):
        part, equals, column = (side.strip() for side in item.partition("="))
        if not (part and equals and column):
            raise InputError(f"columns: {item!r} is not of the form part=column")
        if part not in REQUIRED + OPTIONAL:
            known = ", ".join(REQUIRED + OPTIONAL)
            raise InputError(f"columns: a pair has no part {part!r}; choose from {known}")
        if part in parts and part != "image":
            raise InputError(f"columns: {part} is given twice")
        parts.setdefault(part, []).append(column)
    missing = [part for part in REQUIRED if part not in parts]
    if missing:
        raise InputError(f"columns: {', '.join(missing)} missing; give each as part=column")
    preferred, labels = parse_preferred(parts["preferred"][0])
    single = {part: parse_column(parts[part][0]) for part in parts}
    return ColumnMap(
        question=single["question"],
        response_1=single["response_1"],
        response_2=single["response_2"],
        preferred=preferred,
        labels=labels,
        images=tuple(parse_column(column) for column in parts.get("image", [])),
        video=single.get("video"),
        category=single.get("category"),
        group=single.get("group"),
        source=single.get("source"),
    )


def parse_column(column: str) -> Column:
    if len(column) > 1 and column[0] == column[-1] and column[0] in "'\"":
        return Column(column[1:-1], is_constant=True)
    return Column(column)


def parse_preferred(column: str) -> tuple[Column, tuple[str, ...]]:
    if column in DEFAULT_LABELS:
        return Column(column, is_constant=True), DEFAULT_LABELS
    name, colon, values = column.rpartition(":")
    if not colon:
        return parse_column(column), DEFAULT_LABELS
    labels = tuple(values.split("/"))
    if len(labels) < 2 or not name or len(set(labels)) != len(labels):
        raise InputError(
            f"columns: preferred={column} names no two values; write preferred=column:first/second, "
            "and after them those of ties"
        )
    return parse_column(name), labels


def read_columns(
    src: Path, suffixes: Sequence[str], columns: ColumnMap
) -> Iterator[RawPair | Broken]:
    """Every row of a file or folder, by the map."""
    return read_source(src, suffixes, partial(read_row, columns=columns))


def read_row(row: Row, origin: str, columns: ColumnMap) -> list[RawPair]:
    video = columns.video.text_or_empty(row) if columns.video else ""
    return [
        RawPair(
            origin=origin,
            question=columns.question.text(row),
            response_1=columns.response_1.text(row),
            response_2=columns.response_2.text(row),
            preferred=read_label(columns.preferred.value(row), columns),
            images=tuple(image for column in columns.images for image in read_images(row, column)),
            video=video or None,
            source=columns.source.text_or_empty(row) if columns.source else "",
            category=columns.category.text_or_empty(row) if columns.category else "",
            group=columns.group.text_or_empty(row) if columns.group else "",
        )
    ]


def read_images(row: Row, column: Column) -> Iterator[str | bytes]:
    """One image or a list of them; an empty cell is a row without an image."""
    value = column.value(row)
    for item in value if isinstance(value, list) else [value]:
        if item is not None and item != "":
            yield encoded_or_path(item, column.name)


def read_label(value: object, columns: ColumnMap) -> Slot | None:
    label = label_text(value)
    if label not in columns.labels:
        raise FieldError(
            f"{columns.preferred.name} is {value!r}; the map knows {', '.join(columns.labels)}"
        )
    place = columns.labels.index(label)
    return None if place > 1 else (1 if place == 0 else 2)


def label_text(value: object) -> str:
    """As it is written in the map: 1 for 1.0, true for True."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
