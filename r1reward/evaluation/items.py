"""What is evaluated: preference pairs as rows of a benchmark, with the categories they count under."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from r1reward.types import Order, PreferencePair


@dataclass(frozen=True)
class Item:
    """One row of a benchmark.

    ``key`` is the pair's content hash, with a suffix where a benchmark repeats a row: rows count as
    often as they are published. ``row_id`` is the benchmark's own id, which need not be unique.
    ``categories`` names the row's category under each mapping of the benchmark.
    """

    key: str
    pair: PreferencePair
    row_id: str
    categories: Mapping[str, str]

    @property
    def preferred_first(self) -> Order:
        """The order that shows the preferred response in slot 1, as published test sets often do."""
        return "stored" if self.pair.preferred == 1 else "swapped"

    @property
    def parity_order(self) -> Order:
        """The order by the parity of both responses' length in characters: even is stored."""
        num_chars = len(self.pair.response_1) + len(self.pair.response_2)
        return "swapped" if num_chars % 2 else "stored"


@dataclass(frozen=True)
class Benchmark:
    """Rows to evaluate on. ``mappings`` says where each category mapping comes from; first is default.

    ``num_dropped`` counts the rows that were left out, by reason: on request, or because they cannot be
    used; of those ``unusable`` says why, a sentence each. ``scores_groups``: a group of rows that are
    all right is a score of this benchmark (Acc+), not just a matter of intervals.
    """

    name: str
    items: tuple[Item, ...]
    mappings: Mapping[str, str]
    num_dropped: Mapping[str, int] = field(default_factory=dict)
    scores_groups: bool = False
    unusable: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keys = {item.key for item in self.items}
        assert len(keys) == len(self.items), "every row has a key of its own"


def make_items(
    rows: Iterable[tuple[PreferencePair, str, Mapping[str, str]]],
) -> tuple[Item, ...]:
    """Returns items from (pair, row id, categories), with a key of its own for each row."""
    seen: Counter[str] = Counter()
    items = []
    for pair, row_id, categories in rows:
        pair_id = pair.pair_id
        seen[pair_id] += 1
        key = pair_id if seen[pair_id] == 1 else f"{pair_id}-{seen[pair_id]}"
        items.append(Item(key, pair, row_id, categories))
    return tuple(items)
