"""The evaluated pairs as a reader of the report sees them: texts, the label, small pictures.

One file serves every evaluation of a run. The pictures are for looking at only, so a result folder
does not carry a second copy of the data.
"""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from r1reward.data.atomic import written_whole
from r1reward.data.images import decode_image, image_size, servable_kind
from r1reward.data.import_report import encodable
from r1reward.errors import as_input_error
from r1reward.evaluation.items import Item
from r1reward.types import Slot

MAX_SIDE = 256
SHOWN_BY_BROWSERS = ("PNG", "JPEG")


@dataclass(frozen=True)
class ShownPair:
    """One row of a benchmark, for people. ``category`` is that of the default mapping.

    ``thumbnails`` are PNG or JPEG files of at most 256 pixels a side, in the order of the images.
    """

    key: str
    row_id: str
    question: str
    response_1: str
    response_2: str
    preferred: Slot
    category: str
    group: str
    thumbnails: tuple[bytes, ...]


TYPES = {"preferred": pa.int8(), "thumbnails": pa.list_(pa.binary())}
SCHEMA = pa.schema([(f.name, TYPES.get(f.name, pa.string())) for f in fields(ShownPair)])


def write_shown_pairs(path: Path, items: Sequence[Item]) -> None:
    """Write the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(shown_pair(item)) for item in items]
    with written_whole(path) as partial:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), partial)


def read_shown_pairs(path: Path) -> list[ShownPair]:
    """Raises ``InputError`` for a file that cannot be read."""
    with as_input_error(f"{path}: not the pairs of an evaluation", pa.ArrowInvalid):
        rows = pq.read_table(path, schema=SCHEMA).to_pylist()
    return [ShownPair(**{**row, "thumbnails": tuple(row["thumbnails"])}) for row in rows]


def shown_pair(item: Item) -> ShownPair:
    """A row in the default mapping's category, with its pictures made small."""
    pair = item.pair
    return ShownPair(
        key=item.key,
        row_id=item.row_id,
        question=encodable(pair.question),
        response_1=encodable(pair.response_1),
        response_2=encodable(pair.response_2),
        preferred=pair.preferred,
        category=encodable(next(iter(item.categories.values()), pair.category)),
        group=encodable(pair.group),
        thumbnails=tuple(thumbnail(image) for image in pair.images),
    )


def thumbnail(encoded: bytes) -> bytes:
    """A small image as it is; a large one, or one of another format, as a JPEG of what models see."""
    if servable_kind(encoded) in SHOWN_BY_BROWSERS and max(image_size(encoded)) <= MAX_SIDE:
        return encoded
    shown = decode_image(encoded)
    shown.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    shown.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()
