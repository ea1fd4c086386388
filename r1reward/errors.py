"""The errors that end a run, by whose business they are."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something the user gave cannot be used; the message says where and what to do."""


class ServiceError(RuntimeError):
    """Something outside of this program failed; the message says what. Its traceback helps nobody."""


class StoppedError(RuntimeError):
    """The user asked for an end; the message says what is done. The same command goes on from there."""


class RecipeError(InputError):
    """A recipe that cannot be used."""


class DataError(InputError):
    """A row or file of pairs that cannot be used; the message names it and says what to do.

    ``reason`` is the kind of fault that reports count it under, and ``missing`` names the file that is
    not there, if that is the fault.
    """

    def __init__(
        self, message: str, reason: str = "broken row", missing: str | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.missing = missing


@contextmanager
def as_input_error(
    where: str, *kinds: type[Exception], kind: Callable[[str], InputError] = InputError
) -> Iterator[None]:
    """Whatever of these kinds is raised inside becomes an ``InputError``: where it was, and why."""
    try:
        yield
    except kinds as error:
        raise kind(f"{where}: {error}") from error
