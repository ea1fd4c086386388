"""What the values of a label column mean: the first response, the second, or a tie."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from r1reward.data.stores.row_files import kind_of, numbered_rows
from r1reward.errors import DataError, InputError
from r1reward.types import Slot

# What columns hold elsewhere, the first response's value first.
USUAL = (
    ("0", "1"),
    ("1", "2"),
    ("a", "b"),
    ("model_a", "model_b"),
    ("true", "false"),
    ("first", "second"),
    ("left", "right"),
    ("chosen", "rejected"),
    ("response_1", "response_2"),
    ("-1", "1"),
)
TIES = ("tie", "tied", "both", "equal", "same", "draw", "neither")
NULLS = ("", "nan", "null", "none")
MOST_VALUES = 20


@dataclass(frozen=True)
class Labels:
    """The values for the first response, the second, and ties; case, spaces and kinds of numbers do not
    matter.
    """

    words: tuple[str, ...] = ("1", "2")

    def slot(self, value: object, name: str) -> Slot | None:
        """Returns which response a value means; None is a tie.

        Raises ``DataError``: of the kind "no label" where there is none.
        """
        form = self.form(value)
        if form is None:
            if normal(value) in NULLS:
                raise DataError(
                    f"{name} is empty: nothing says which response is better", "no label"
                )
            shown = str(value)[:80]
            raise DataError(f"{name} is {shown!r}; it must be one of {', '.join(self.words)}")
        index = self.forms.index(form)
        return None if index > 1 else (1 if index == 0 else 2)

    @property
    def forms(self) -> list[str]:
        """The values in normal form."""
        return [normal(word) for word in self.words]

    def form(self, value: object) -> str | None:
        """Returns the mapped value that this one is, in normal form. True is 1 where 0 is mapped too."""
        form, forms = normal(value), self.forms
        for numbers, words in ((("1", "0"), ("true", "false")), (("true", "false"), ("1", "0"))):
            if form in words and form not in forms and set(numbers) <= set(forms):
                form = numbers[words.index(form)]
        return form if form in forms else None


def normal(value: object) -> str:
    """Returns a label without what does not matter: 1 for 1.0 and "1.00", tie for " Tie"."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = " ".join(str(value).split()).casefold()
    with suppress(ValueError, OverflowError):
        number = float(text)
        return str(int(number)) if number.is_integer() else text
    return text


def check_labels(files: Sequence[Path], column: str, labels: Labels) -> None:
    """Raises ``InputError`` if the column has a value that is not mapped, before a row is read: a map
    that is wrong for some rows misreads the others.
    """
    counts: Counter[str] = Counter()
    unmapped: dict[str, object] = {}
    for value in (value for file in files for value in column_values(file, column)):
        form = labels.form(value) or normal(value)
        counts[form] += 1
        if form not in labels.forms and form not in NULLS:
            unmapped.setdefault(form, value)
            if len(unmapped) > MOST_VALUES:
                break
    if not unmapped:
        return
    shown = ", ".join(f"{str(value)[:40]!r} ({counts[form]:,})" for form, value in unmapped.items())
    values = [form for form in counts if form not in NULLS]
    raise InputError(
        f"{files[0]}: {column} is {shown}, and the map knows {', '.join(labels.words)}; "
        + proposal(values, column)
    )


def proposal(values: Sequence[str], column: str) -> str:
    """Returns what to write for these values, in normal form."""
    ties = [value for value in values if value.startswith(TIES)]
    rest = {value for value in values if value not in ties}
    usual = next((pair for pair in USUAL if rest and rest <= set(pair)), None)
    if usual is None and len(rest) != 2:
        return f"write preferred={column}:FIRST/SECOND/TIE with its values, those of ties last"
    first, second = usual or sorted(rest)
    written = "/".join((first, second, *ties))
    return f"if {first} says that the first response is better, write preferred={column}:{written}"


def column_values(file: Path, column: str) -> Iterator[object]:
    """Yields the values of one column; of Parquet nothing else is read. Rows without it are passed
    over.
    """
    if kind_of(file) == ".parquet":
        with pq.ParquetFile(file) as parquet:
            if column in parquet.schema_arrow.names:
                for batch in parquet.iter_batches(columns=[column]):
                    yield from batch.column(0).to_pylist()
        return
    for _, row in numbered_rows(file):
        if not isinstance(row, DataError) and column in row:
            yield row[column]
