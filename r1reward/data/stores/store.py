"""Preference pairs in files: a store, a single Parquet file, or JSONL with paths to images.

A store is a folder of shards ``pairs-00000.parquet`` and a ``report.json``, which is written last: a
folder without it is unfinished. Columns: ``question``, ``images`` (list of bytes; elsewhere also
paths), ``response_1``, ``response_2``, ``preferred`` (1 or 2); optionally ``image_paths`` and
``video`` (a folder of frames, shown after the images) below the media root, ``source``,
``category``, ``group``, ``difficulty``, ``meta`` (JSON), ``key`` (``pair_key``) and ``opposite`` (the
key with the other label; not in stores before 0.3). A row that cannot be used is an error that names
file and row; nothing is skipped silently.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from json import JSONDecodeError
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from r1reward.data.image_values import image_items
from r1reward.data.stores.row_files import Row, kind_of, numbered_rows, open_parquet
from r1reward.data.texts import refuse_half_characters, refuse_other_than_text
from r1reward.data.video import FrameRules, MediaFolder, load_media
from r1reward.errors import DataError, as_input_error
from r1reward.types import PreferencePair

SCHEMA = pa.schema(
    [
        ("question", pa.string()),
        ("images", pa.list_(pa.binary())),
        ("response_1", pa.string()),
        ("response_2", pa.string()),
        ("preferred", pa.int8()),
        ("source", pa.string()),
        ("category", pa.string()),
        ("group", pa.string()),
        ("difficulty", pa.int32()),
        ("image_paths", pa.list_(pa.string())),
        ("video", pa.string()),
        ("meta", pa.string()),
        ("key", pa.string()),
        ("opposite", pa.string()),
    ]
)
SCHEMA_VERSION = 2
HEADER_KEY = b"r1reward"
REQUIRED = ("question", "images", "response_1", "response_2", "preferred")
REPORT = "report.json"
SHARDS = "pairs-*.parquet"
KINDS = (".parquet", ".jsonl", ".json")


@dataclass(frozen=True)
class Header:
    """What a file says of itself: where its paths begin, how its videos are shown, and where links may
    lead.

    ``made_by`` is the command a store comes from and ``progress`` how far it had come when the
    shard was written; both are the writer's own.
    """

    media_root: str | None = None
    frames: FrameRules = field(default_factory=FrameRules)
    links: tuple[str, ...] = ()
    made_by: Mapping[str, Any] | None = None
    progress: Mapping[str, Any] | None = None


def pair_key(pair: PreferencePair) -> str:
    """Returns the hash of the preference: equal for the same one stored in the other order."""
    return pair_keys(pair)[0]


def pair_keys(pair: PreferencePair) -> tuple[str, str]:
    """Returns the hash of the preference, and that of the opposite one."""
    better, worse = pair.response_1, pair.response_2
    if pair.preferred == 2:
        better, worse = worse, better
    return pair.content_hash(better, worse, 1), pair.content_hash(worse, better, 1)


def pair_row(pair: PreferencePair) -> dict[str, Any]:
    """Returns a pair as a row of the store, images inside."""
    names = set(SCHEMA.names) - {"image_paths", "video", "meta", "key", "opposite"}
    key, opposite = pair_keys(pair)
    return {name: getattr(pair, name) for name in names} | {"key": key, "opposite": opposite}


def write_pairs(path: Path, pairs: Sequence[PreferencePair]) -> None:
    """Writes a single file; ``PairWriter`` writes stores."""
    pq.write_table(pa.Table.from_pylist([pair_row(pair) for pair in pairs], schema=SCHEMA), path)


def read_pairs(
    path: Path, image_root: Path | None, limit: int | None, links: tuple[Path, ...] = ()
) -> list[PreferencePair]:
    """Returns every pair, checked. Raises ``DataError`` at the first row that cannot be used."""
    pairs = list(islice(iter_pairs(path, image_root, links), limit))
    if not pairs:
        raise DataError(f"{path}: holds no pairs")
    return pairs


def iter_pairs(
    path: Path, image_root: Path | None = None, links: tuple[Path, ...] = ()
) -> Iterator[PreferencePair]:
    """Yields the pairs of a store or a file one by one, each checked. Raises ``DataError``."""
    for file in pair_files(path, image_root, links):
        for origin, row in file.rows():
            yield file.pair(row, origin)


@dataclass(frozen=True)
class PairFile:
    """A file of pairs, what it says of itself, and the folder that its rows' paths are relative to."""

    path: Path
    header: Header
    media: MediaFolder

    @property
    def has_keys(self) -> bool:
        """Whether every row carries its ``pair_key``: the writer of a store adds them."""
        return self.header.made_by is not None

    def rows(self) -> Iterator[tuple[str, Row]]:
        """Yields every row as it is, with its origin (file and row, from 1). Raises ``DataError``."""
        for origin, row in self.rows_or_errors():
            if isinstance(row, DataError):
                raise DataError(f"{origin}: {row}", row.reason)
            yield origin, row

    def rows_or_errors(self) -> Iterator[tuple[str, Row | DataError]]:
        """Yields what ``rows`` does, and why a row is none. Raises ``DataError`` for a file that cannot
        be read.
        """
        if kind_of(self.path) not in KINDS:
            raise DataError(
                f"{self.path}: unknown file type {self.path.suffix!r}; use {' or '.join(KINDS)}, or "
                "`r1reward data import`"
            )
        for number, row in numbered_rows(self.path):
            yield f"{self.path} row {number}", row

    def pair(self, row: Row, origin: str) -> PreferencePair:
        """Returns the pair of a row of this file. Raises ``DataError`` if it cannot be used."""
        return pair_from_row(row, origin, self.media)


def pair_files(
    path: Path, image_root: Path | None = None, links: tuple[Path, ...] = ()
) -> Iterator[PairFile]:
    """Yields a file, or the shards of a finished store.

    Paths in the rows are relative to ``image_root``, else to the folder that the file declares, else to
    the file's own; links lead there, into ``links`` or into the folders that the file declares. Raises
    ``DataError`` for a path that holds no pairs or an unfinished store.
    """
    for file in paths_of(path):
        header = read_header(file)
        declared = Path(header.media_root) if header.media_root else file.parent
        all_links = (*map(Path, header.links), *links)
        media = MediaFolder(image_root or declared, header.frames, links=all_links)
        yield PairFile(file, header, media)


def paths_of(path: Path) -> list[Path]:
    """Returns the file, or the shards of a finished store. Raises ``DataError``."""
    if not path.is_dir():
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        return [path]
    if (path / REPORT).is_file():
        return sorted(path.glob(SHARDS))
    if any(path.glob(SHARDS)) or any(path.glob(".pairs-*.partial")):
        raise DataError(f"{path}: unfinished; run the command that writes it once more")
    raise DataError(f"{path}: no store of pairs: it has no {REPORT}")


def read_header(file: Path) -> Header:
    """Returns the header of a shard; other files say nothing. Raises ``DataError`` for one of a newer
    version.
    """
    if file.suffix != ".parquet":
        return Header()
    with open_parquet(file) as parquet:
        metadata = parquet.metadata.metadata or {}
    damage = (JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError)
    with as_input_error(f"{file}: its header cannot be read", *damage, kind=DataError):
        fields = json.loads(metadata.get(HEADER_KEY, b"{}"))
        if (version := fields.get("schema", SCHEMA_VERSION)) > SCHEMA_VERSION:
            raise DataError(
                f"{file}: written by a newer version (schema {version}, this one reads "
                f"{SCHEMA_VERSION}): update r1reward"
            )
        return Header(
            media_root=fields.get("media_root"),
            frames=FrameRules(**fields.get("frames", {})),
            links=tuple(fields.get("links", ())),
            made_by=fields.get("made_by"),
            progress=fields.get("progress"),
        )


def check_row(row: Row, origin: str) -> None:
    """Raises ``DataError`` for a row that cannot be used. Media are not read."""
    missing = [name for name in REQUIRED if row.get(name) is None]
    if "images" in missing and (row.get("image_paths") is not None or row.get("video")):
        missing.remove("images")
    if missing:
        is_foreign = len(missing) > 2
        remedy = f"; the row has {', '.join(row)[:200]}: `r1reward data import` reads other columns"
        raise DataError(f"{origin}: {', '.join(missing)} missing" + remedy * is_foreign)
    for name in ("question", "response_1", "response_2"):
        refuse_other_than_text(row[name], f"{origin}: {name}")
        refuse_half_characters(row[name], f"{origin}: {name}")
    preferred = row["preferred"]
    if type(preferred) is not int or preferred not in (1, 2):
        raise DataError(f"{origin}: preferred is {preferred!r}; it must be 1 or 2")
    if row["response_1"] == row["response_2"]:
        raise DataError(f"{origin}: the two responses are identical; remove the row", "identical")
    for name in ("video", "source", "category", "group", "meta"):
        if row.get(name) is not None and not isinstance(row[name], str):
            raise DataError(f"{origin}: {name} is {row[name]!r}; it must be text")
        refuse_half_characters(row.get(name) or "", f"{origin}: {name}")
    if type(row.get("difficulty") or 0) is not int:
        raise DataError(f"{origin}: difficulty is {row['difficulty']!r}; it must be a whole number")


def pair_from_row(row: Row, origin: str, media: MediaFolder) -> PreferencePair:
    """Returns the pair of a row, its media read.

    Raises ``DataError`` for a row or a medium that cannot be used.
    """
    check_row(row, origin)
    shown = load_media(row_images(row, origin), row.get("video") or None, origin, media)
    return PreferencePair(
        question=row["question"],
        images=shown,
        response_1=row["response_1"],
        response_2=row["response_2"],
        preferred=1 if row["preferred"] == 1 else 2,
        source=row.get("source") or "",
        category=row.get("category") or "",
        group=row.get("group") or "",
        difficulty=row.get("difficulty") or 0,
        origin=origin,
    )


def row_images(row: Row, origin: str) -> tuple[str | bytes, ...]:
    """Returns the images of a row as bytes or paths. Raises ``DataError``."""
    return tuple(
        item
        for name in ("images", "image_paths")
        for item in image_items(row.get(name), f"{origin}: {name}")
    )
