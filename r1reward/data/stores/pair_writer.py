"""Writing a store: shards that are whole or not there, and a report that says the store is finished."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from r1reward.data.atomic import write_whole
from r1reward.data.stores.row_files import Row
from r1reward.data.stores.store import (
    HEADER_KEY,
    REPORT,
    SCHEMA,
    SCHEMA_VERSION,
    SHARDS,
    Header,
    check_row,
    read_header,
)
from r1reward.errors import InputError

GROUP_ROWS = 64  # what one random access reads
GROUP_BYTES = 1 << 20
SHARD_ROWS = 8192
SHARD_BYTES = 512 << 20


class PairWriter:
    """Rows to shards of one folder.

    A shard is written under a temporary name and renamed once it is whole. It carries what
    ``progress`` said at its last row, so that a command that was killed goes on from there. ``made_by``
    identifies the command: another one's folder is refused.
    """

    def __init__(
        self,
        folder: Path,
        header: Header,
        made_by: Mapping[str, Any],
        progress: Callable[[], Mapping[str, Any]] = dict,
        shard_rows: int = SHARD_ROWS,
    ) -> None:
        self.folder = folder
        self.header = header
        self.made_by: dict[str, Any] = json.loads(json.dumps(made_by))
        self.progress = progress
        self.shard_rows = shard_rows
        self.group: list[Row] = []
        self.group_bytes = 0
        self.file: pq.ParquetWriter | None = None
        self.num_shards = 0
        self.shard_num_rows = 0
        self.shard_bytes = 0

    def claim(self, resume: bool) -> Mapping[str, Any] | None:
        """Makes the folder ours. Returns the progress of the last whole shard if ``resume``, else None.

        Raises ``InputError`` if it is a file or holds a finished store, another command's work or files
        that are no store's. A store without a row may be written again: nothing is lost.
        """
        shards = self.shards()
        if shards and (self.folder / REPORT).exists():
            raise InputError(f"{self.folder}: holds a store already; choose another folder")
        self.refuse_others_files()
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / REPORT).unlink(missing_ok=True)  # of a store without one row
        header = read_header(shards[-1]) if shards else None
        if header is not None and header.made_by != self.made_by:
            raise InputError(
                f"{self.folder}: holds the beginning of another command's store "
                f"({json.dumps(header.made_by)}); choose another folder, or remove it"
            )
        if header is None or not resume:
            for shard in shards:
                shard.unlink()
            return None
        self.num_shards = len(shards)
        return header.progress

    def refuse_others_files(self) -> None:
        """Raises ``InputError`` for a folder with files that are no part of a store."""
        if not self.folder.exists():
            return
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: is a file; choose a folder")
        for path in sorted(self.folder.iterdir()):
            is_ours = path.match(SHARDS) or path.name.startswith(".") or self.is_report(path)
            if not is_ours:
                raise InputError(
                    f"{self.folder}: holds {path.name}, which is no part of a store; "
                    "choose an empty or a new folder"
                )

    @staticmethod
    def is_report(path: Path) -> bool:
        """Returns whether a file is a store's report."""
        if path.name == REPORT and path.is_file():
            with suppress(ValueError, TypeError):
                return "made_by" in json.loads(path.read_text(encoding="utf-8"))
        return False

    def shards(self) -> list[Path]:
        """Returns the whole shards, in order."""
        return sorted(self.folder.glob(SHARDS))

    def written_keys(self) -> Iterator[str]:
        """Yields the keys of every whole shard, without their images."""
        for shard in self.shards():
            with pq.ParquetFile(shard) as file:
                for batch in file.iter_batches(columns=["key"]):
                    yield from batch.column(0).to_pylist()

    def add(self, row: Row) -> None:
        """Adds a row. Raises ``DataError`` for one that could not be read back."""
        check_row(row, f"{self.folder} row")
        self.group.append(row)
        self.group_bytes += row_bytes(row)
        if len(self.group) == GROUP_ROWS or self.group_bytes > GROUP_BYTES:
            self.write_group()
        is_full = self.shard_num_rows + len(self.group) == self.shard_rows
        if is_full or self.shard_bytes > SHARD_BYTES:
            self.close_shard()

    def write_group(self) -> None:
        """Writes the rows so far as one row group."""
        if not self.group:
            return
        if self.file is None:
            self.file = pq.ParquetWriter(
                self.partial(),
                SCHEMA,
                compression="zstd",
                compression_level=1,
                use_dictionary=["source", "category"],
                write_statistics=False,
            )
        self.file.write_table(pa.Table.from_pylist(self.group, schema=SCHEMA))
        self.shard_num_rows += len(self.group)
        self.shard_bytes += self.group_bytes
        self.group, self.group_bytes = [], 0

    def close_shard(self) -> None:
        """Ends the shard: it gets its header and then its final name."""
        self.write_group()
        if self.file is None:
            return
        header = {
            "schema": SCHEMA_VERSION,
            "media_root": self.header.media_root,
            "frames": asdict(self.header.frames),
            "links": self.header.links,
            "made_by": self.made_by,
            "progress": self.progress(),
        }
        self.file.add_key_value_metadata({HEADER_KEY.decode(): json.dumps(header)})
        self.file.close()
        self.partial().replace(self.folder / f"pairs-{self.num_shards:05d}.parquet")
        self.file = None
        self.num_shards += 1
        self.shard_num_rows = self.shard_bytes = 0

    def partial(self) -> Path:
        """Returns the temporary name of the shard."""
        return self.folder / f".pairs-{self.num_shards:05d}.partial"

    def finish(self, report: Mapping[str, Any]) -> None:
        """Writes the last shard and then the report: from now on the store can be read."""
        self.close_shard()
        for leftover in self.folder.glob(".pairs-*.partial"):
            leftover.unlink()
        whole = {**report, "made_by": self.made_by}
        write_whole(self.folder / REPORT, json.dumps(whole, indent=2) + "\n")


def row_bytes(row: Row) -> int:
    """Returns the bytes of texts and images in a row."""
    texts = len(row["question"]) + len(row["response_1"]) + len(row["response_2"])
    return texts + sum(len(image) for image in row.get("images") or ())
