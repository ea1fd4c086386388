"""A store as a sequence of pairs that stay on disk: training reads those of its step."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar, overload

import pyarrow as pa

from r1reward.data.stores.row_files import Row, open_parquet
from r1reward.data.stores.store import PairFile, pair_files, pair_keys
from r1reward.errors import DataError, as_input_error
from r1reward.types import PreferencePair

CACHED_GROUPS = 8
Key = TypeVar("Key")
Value = TypeVar("Value")


class PairStore(Sequence[PreferencePair]):
    """The pairs of a store, each read and checked when it is asked for.

    Raises ``DataError`` here for a folder that is no store, and on access for a row that cannot be used.
    """

    def __init__(
        self, path: Path, image_root: Path | None = None, links: tuple[Path, ...] = ()
    ) -> None:
        self.path = path
        # File, row group, and how many rows of the file come before it.
        self.groups: list[tuple[PairFile, int, int]] = []
        self.starts: list[int] = []
        self.num_rows = 0
        for file in pair_files(path, image_root, links):
            with open_parquet(file.path) as parquet:
                metadata = parquet.metadata
            before = 0
            for group in range(metadata.num_row_groups):
                self.groups.append((file, group, before))
                self.starts.append(self.num_rows + before)
                before += metadata.row_group(group).num_rows
            self.num_rows += before
        self.cached: OrderedDict[int, list[Row]] = OrderedDict()
        if not self.num_rows:
            raise DataError(f"{path}: holds no pairs")

    def __len__(self) -> int:
        return self.num_rows

    @overload
    def __getitem__(self, index: int) -> PreferencePair: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[PreferencePair]: ...
    def __getitem__(self, index: int | slice) -> PreferencePair | Sequence[PreferencePair]:
        if isinstance(index, slice):
            return LazySequence(range(len(self))[index], self.__getitem__)
        row_index = index + len(self) if index < 0 else index
        if not 0 <= row_index < len(self):
            raise IndexError(f"{self.path} holds {len(self)} pairs, there is no number {index}")
        number = bisect_right(self.starts, row_index) - 1
        file, _, before = self.groups[number]
        offset = row_index - self.starts[number]
        return file.pair(self.rows(number)[offset], f"{file.path} row {before + offset + 1}")

    def keys(self) -> Iterator[tuple[str, str]]:
        """Yields the key of every pair, and the key that it would have with the other label."""
        for file in {file.path: file for file, _, _ in self.groups}.values():
            with open_parquet(file.path) as parquet:
                if file.has_keys and "opposite" in parquet.schema_arrow.names:
                    for batch in parquet.iter_batches(columns=["key", "opposite"]):
                        yield from zip(*map(pa.Array.to_pylist, batch.columns), strict=True)
                    continue
            yield from (pair_keys(file.pair(row, origin)) for origin, row in file.rows())

    def rows(self, number: int) -> list[Row]:
        """Returns a row group's rows. The last few are kept: neighbours are often read together."""
        if number not in self.cached:
            file, group, _ = self.groups[number]
            damaged = as_input_error(f"{file.path}: damaged", OSError, ValueError, kind=DataError)
            with open_parquet(file.path) as parquet, damaged:
                self.cached[number] = parquet.read_row_group(group).to_pylist()
            if len(self.cached) > CACHED_GROUPS:
                self.cached.popitem(last=False)
        self.cached.move_to_end(number)
        return self.cached[number]


class LazySequence(Sequence[Value], Generic[Key, Value]):
    """The values of some keys (such as indices), each read when it is asked for."""

    def __init__(self, keys: Sequence[Key], read: Callable[[Key], Value]) -> None:
        self.keys = keys
        self.read = read

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> Value: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Value]: ...
    def __getitem__(self, index: int | slice) -> Value | Sequence[Value]:
        if isinstance(index, slice):
            return LazySequence(self.keys[index], self.read)
        return self.read(self.keys[index])


def distinct_pairs(
    pairs: Iterable[PreferencePair],
) -> Iterator[tuple[int, str, PreferencePair]]:
    """Yields every pair where it stands first, with its index and its id."""
    seen: set[str] = set()
    for index, pair in enumerate(pairs):
        pair_id = pair.pair_id
        if pair_id not in seen:
            seen.add(pair_id)
            yield index, pair_id, pair


class PairsById(Mapping[str, PreferencePair]):
    """Pairs by their ids, each read when it is asked for."""

    def __init__(self, pairs: Sequence[PreferencePair]) -> None:
        self.pairs = pairs
        self.indices = {pair.pair_id: index for index, pair in enumerate(pairs)}

    def __getitem__(self, pair_id: str) -> PreferencePair:
        return self.pairs[self.indices[pair_id]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.indices)

    def __len__(self) -> int:
        return len(self.indices)
