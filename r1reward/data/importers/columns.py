"""Files of any shape, by a map from the parts of a pair to their columns.

``question=prompt,response_1=chosen,response_2=rejected,preferred=1,image=img``: on the left the part,
on the right a column, or a constant in quotes (``category="charts"``). ``preferred`` is 1 or 2 for
every row, or a column with the values that mean the first response, the second, and ties:
``preferred=winner:model_a/model_b/tie``; without them a column holds 1 and 2. ``image`` may be given
several times, and ``question`` too: the text of a further column stands below that of the first. A
column with a question mark (``image=img?``) may be lacking in a row. The columns of question and
responses may hold messages (``conversations``), in a CSV file as text; then there may be no ``question``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from r1reward.data.image_values import image_items
from r1reward.data.importers import fields
from r1reward.data.importers.conversations import Compared, compare, messages_in, written_in
from r1reward.data.importers.labels import Labels, check_labels
from r1reward.data.importers.raw_pair import RawPair, RawPairs
from r1reward.data.importers.source_rows import read_source, source_files
from r1reward.data.stores.row_files import Row
from r1reward.errors import DataError, InputError
from r1reward.recipe.sections import nearest

REQUIRED = ("response_1", "response_2", "preferred")
PARTS = ("question", *REQUIRED, "image", "video", "category", "group", "source")
DEFAULT_LABELS = Labels()


@dataclass(frozen=True)
class Column:
    """A column by its name, or a constant: one value for every row. A row may lack an optional one."""

    name: str
    is_constant: bool = False
    is_optional: bool = False

    def value(self, row: Row) -> object:
        """Returns the column's value. Raises ``DataError`` for a row without the column."""
        if self.is_constant:
            return self.name
        if self.name not in row:
            if self.is_optional:
                return None
            raise DataError(
                f"there is no column {self.name}; {nearest(self.name, [*row], 'the row has')}"
            )
        return row[self.name]


@dataclass(frozen=True)
class ColumnMap:
    """The column of each part of a pair: every required part is there, and optional ones may be.

    ``labels`` says what the values of ``preferred`` mean. ``below`` are further columns of the question.
    A row in which a column of ``unread`` is filled is no pair: what it says may belong to the question.
    ``lists_are_text``: a column that holds a list holds it as text.
    """

    columns: Mapping[str, Column]
    labels: Labels = DEFAULT_LABELS
    images: tuple[Column, ...] = ()
    below: tuple[Column, ...] = ()
    unread: tuple[str, ...] = ()
    lists_are_text: bool = False

    def compared(self, row: Row) -> Compared:
        """Returns question and responses, from texts or from messages. Raises ``DataError``."""
        columns = [self.columns.get(part) for part in ("question", "response_1", "response_2")]
        values = [None if column is None else column.value(row) for column in columns]
        if self.lists_are_text:
            values = [messages_in(value) for value in values]
        further = [fields.text_or_empty({"": column.value(row)}, "") for column in self.below]
        if any(isinstance(value, list | Mapping) for value in values):
            if any(further):
                raise DataError(f"text of column {self.below[0].name} cannot stand below messages")
            return compare(*values)
        if columns[0] is None:
            raise DataError("the responses are no messages: name the column of the question")
        question, first, second = (
            fields.text({column.name: value}, column.name)
            for column, value in zip(columns, values, strict=True)
            if column is not None
        )
        asked = "\n".join([question, *filter(str.strip, further)])
        return Compared(asked, first, second, images=(), num_marks=0)

    def beside(self, row: Row) -> tuple[str | bytes, ...]:
        """Returns the images of the row's own columns. Raises ``DataError``."""
        values = [(column.value(row), column.name) for column in self.images]
        if self.lists_are_text:
            values = [(written_in(value), name) for value, name in values]
        return tuple(image for value, name in values for image in image_items(value, name))

    def text_or_empty(self, row: Row, part: str) -> str:
        """Returns the text of an optional part; it is empty where the map or the row has none."""
        column = self.columns.get(part)
        return "" if column is None else fields.text_or_empty({part: column.value(row)}, part)


def parse_columns(spec: str) -> ColumnMap:
    """Returns the map that ``spec`` describes. Raises ``InputError`` for a map that cannot be meant."""
    parts: dict[str, list[str]] = {}
    for item in spec.split(","):
        part, equals, column = (side.strip() for side in item.partition("="))
        if not (part and equals and column):
            raise InputError(f"columns: {item!r} is not of the form part=column")
        if part not in PARTS:
            known = ", ".join(PARTS)
            raise InputError(f"columns: a pair has no part {part!r}; choose from {known}")
        if part in parts and part not in ("image", "question"):
            raise InputError(f"columns: {part} is given twice")
        parts.setdefault(part, []).append(column)
    missing = [part for part in REQUIRED if part not in parts]
    if missing:
        raise InputError(f"columns: {', '.join(missing)} missing; give each as part=column")
    preferred, labels = parse_preferred(parts["preferred"][0])
    images = tuple(parse_column(column) for column in parts.pop("image", []))
    below = tuple(parse_column(column) for column in parts.get("question", [])[1:])
    columns = {part: parse_column(parts[part][0]) for part in parts}
    return ColumnMap({**columns, "preferred": preferred}, labels, images, below)


def parse_column(column: str) -> Column:
    """Returns a column, optional if a question mark is behind it, or a constant if it is in quotes."""
    if len(column) > 1 and column[0] == column[-1] and column[0] in "'\"":
        return Column(column[1:-1], is_constant=True)
    return Column(column.removesuffix("?"), is_optional=column.endswith("?"))


def parse_preferred(column: str) -> tuple[Column, Labels]:
    """Returns the column of the label and what its values mean. Raises ``InputError``."""
    if column in DEFAULT_LABELS.words:
        return Column(column, is_constant=True), DEFAULT_LABELS
    name, colon, values = column.rpartition(":")
    if not colon:
        return parse_column(column), DEFAULT_LABELS
    labels = Labels(tuple(values.split("/")))
    if len(labels.words) < 2 or not name or len(set(labels.forms)) != len(labels.forms):
        raise InputError(
            f"columns: preferred={column} names no two values; write preferred=column:first/second, "
            "and after them those of ties"
        )
    return parse_column(name), labels


def read_columns(src: Path, suffixes: Sequence[str], columns: ColumnMap) -> RawPairs:
    """Returns every row of a file or folder, read by the map. Raises ``DataError``, and ``InputError`` at
    once for labels that the map does not know.
    """
    preferred = columns.columns["preferred"]
    if not preferred.is_constant:
        check_labels(source_files(src, suffixes), preferred.name, columns.labels)
    columns = replace(columns, lists_are_text=".csv" in suffixes)
    return read_source(src, suffixes, partial(read_row, columns=columns))


def read_row(row: Row, origin: str, columns: ColumnMap) -> RawPairs:
    if filled := [name for name in columns.unread if row.get(name)]:
        raise DataError(f"column {filled[0]} may belong to the question: give a column map")
    preferred = columns.columns["preferred"]
    label = columns.labels.slot(preferred.value(row), preferred.name)
    compared = columns.compared(row)
    yield RawPair(
        origin,
        *compared.texts,
        preferred=label,
        images=compared.shown(columns.beside(row)),
        video=columns.text_or_empty(row, "video") or None,
        source=columns.text_or_empty(row, "source"),
        category=columns.text_or_empty(row, "category"),
        group=columns.text_or_empty(row, "group"),
    )
