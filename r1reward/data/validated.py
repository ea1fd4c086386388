"""What pydantic finds wrong with a value that a user gave, as one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from r1reward.errors import InputError


@contextmanager
def validated(where: str) -> Iterator[None]:
    """Turns a ``ValidationError`` into an ``InputError``: where it was, the first field that is wrong,
    its value if that is short, and the reason.
    """
    try:
        yield
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"])) or "the file"
        value = problem["input"]
        if value is None or isinstance(value, str | int | float):
            field += f" is {value!r}"
        raise InputError(f"{where}: {field}: {problem['msg']}") from error
