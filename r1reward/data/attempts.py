"""Attempts: what the teacher wrote about a pair, one line of JSON each, and what follows from them.

The number of attempts until the teacher agrees with the label is the pair's difficulty (paper: cold
start): 1, 2, 3 with ``max_attempts`` 3, and 4 for a pair that failed them all.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from r1reward.data.atomic import written_whole
from r1reward.data.stores.json_lines import append_json_lines, numbered_json_lines
from r1reward.errors import InputError
from r1reward.types import Order, Slot


@dataclass(frozen=True)
class Attempt:
    """One answered call. ``number`` counts from 1 within the pair.

    ``choice`` is the slot as shown in this ``order`` (None: unreadable, which never agrees).
    Token counts are what the teacher billed, None where it does not say; ``cost`` is None then, and
    without prices.
    """

    pair_id: str
    number: int
    order: Order
    seed: int
    text: str
    choice: Slot | None
    agreed: bool
    well_formed: bool = False
    truncated: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None


@dataclass(frozen=True)
class Annotation:
    """A pair's attempts in their order. ``difficulty`` is None while attempts are left."""

    pair_id: str
    attempts: tuple[Attempt, ...]
    difficulty: int | None

    @property
    def agreeing(self) -> Attempt | None:
        """The first attempt that agrees with the label, to learn from; its ``order`` says which
        response its text calls Response 1.
        """
        return next((attempt for attempt in self.attempts if attempt.agreed), None)


def append_attempt(path: Path, attempt: Attempt) -> None:
    """Appends one attempt to the file."""
    append_json_lines(path, [asdict(attempt)])


def read_attempts(path: Path) -> dict[str, list[Attempt]]:
    """Returns every whole line, by pair and in the order of the attempts.

    Raises ``InputError`` for a line that is whole but no attempt: a kill does not leave one.
    """
    by_pair: dict[str, list[Attempt]] = {}
    for line, fields in numbered_json_lines(path):
        try:
            attempt = Attempt(**fields)
        except TypeError as error:
            raise InputError(
                f"{path} line {line}: not an attempt of a teacher; remove the line to have it made again"
            ) from error
        by_pair.setdefault(attempt.pair_id, []).append(attempt)
    for attempts in by_pair.values():
        attempts.sort(key=lambda attempt: attempt.number)
    return by_pair


def put_in_order(path: Path, pair_ids: Iterable[str]) -> None:
    """Rewrites the file by pair and attempt, so that it does not show in which order answers came.

    Pairs that are not named come last. The old file stays until the new one is whole.
    """
    by_pair = read_attempts(path)
    order = [*(pair_id for pair_id in dict.fromkeys(pair_ids) if pair_id in by_pair)]
    order += sorted(by_pair.keys() - set(order))
    with written_whole(path) as partial:
        partial.unlink(missing_ok=True)
        append_json_lines(partial, (asdict(one) for pair_id in order for one in by_pair[pair_id]))


def difficulty_of(attempts: Sequence[Attempt], max_attempts: int) -> int | None:
    """Returns after how many attempts the teacher agreed with the label: ``max_attempts + 1`` if none
    did, and None while some are left.
    """
    for number, attempt in enumerate(attempts[:max_attempts], start=1):
        if attempt.agreed:
            return number
    return max_attempts + 1 if len(attempts) >= max_attempts else None


def read_annotations(path: Path, max_attempts: int) -> dict[str, Annotation]:
    """Returns what the file says about every pair that was asked about at least once, by pair id."""
    return {
        pair_id: Annotation(pair_id, tuple(attempts), difficulty_of(attempts, max_attempts))
        for pair_id, attempts in read_attempts(path).items()
    }


def count_levels(results: Iterable[Annotation], max_attempts: int) -> dict[int | None, int]:
    """Returns the number of pairs at every level of difficulty, empty levels included; None counts the
    unfinished.
    """
    counts = Counter(result.difficulty for result in results)
    return {level: counts[level] for level in (*range(1, max_attempts + 2), None)}
