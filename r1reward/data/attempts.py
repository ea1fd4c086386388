"""Attempts: what the teacher wrote about a pair, one line of JSON each, and what follows from them.

The number of attempts until the teacher agrees with the label is the pair's difficulty (paper: cold
start): 1, 2, 3 with ``max_attempts`` 3, and 4 for a pair that failed them all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from r1reward.data.atomic import written_whole
from r1reward.data.stores.json_lines import append_json_lines, read_json_lines
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
        """The attempt to learn from. Its ``order`` says which response its text calls Response 1."""
        return next((attempt for attempt in self.attempts if attempt.agreed), None)


def append_attempt(path: Path, attempt: Attempt) -> None:
    append_json_lines(path, [asdict(attempt)])


def read_attempts(path: Path) -> dict[str, list[Attempt]]:
    """Every whole line, by pair and in the order of the attempts."""
    by_pair: dict[str, list[Attempt]] = {}
    for fields in read_json_lines(path):
        by_pair.setdefault(fields["pair_id"], []).append(Attempt(**fields))
    for attempts in by_pair.values():
        attempts.sort(key=lambda attempt: attempt.number)
    return by_pair


def put_in_order(path: Path, pair_ids: Iterable[str]) -> None:
    """Rewrite the file by pair and attempt, so that it does not show in which order answers came.

    Pairs that are not named come last. The old file stays until the new one is whole.
    """
    by_pair = read_attempts(path)
    order = [*(pair_id for pair_id in dict.fromkeys(pair_ids) if pair_id in by_pair)]
    order += sorted(by_pair.keys() - set(order))
    with written_whole(path) as partial:
        partial.unlink(missing_ok=True)
        append_json_lines(partial, (asdict(one) for pair_id in order for one in by_pair[pair_id]))


def difficulty_of(attempts: Sequence[Attempt], max_attempts: int) -> int | None:
    """Attempts until one agreed; ``max_attempts + 1`` when none did; None while some are left."""
    for place, attempt in enumerate(attempts[:max_attempts], start=1):
        if attempt.agreed:
            return place
    return max_attempts + 1 if len(attempts) >= max_attempts else None


def read_annotations(path: Path, max_attempts: int) -> dict[str, Annotation]:
    """What the file says about every pair that was asked about at least once."""
    return {
        pair_id: Annotation(pair_id, tuple(attempts), difficulty_of(attempts, max_attempts))
        for pair_id, attempts in read_attempts(path).items()
    }


def count_levels(results: Iterable[Annotation], max_attempts: int) -> dict[int | None, int]:
    """Pairs at every level, empty ones included; None counts the unfinished."""
    counts = Counter(result.difficulty for result in results)
    return {level: counts[level] for level in (*range(1, max_attempts + 2), None)}
