"""RLAIF-V (openbmb/RLAIF-V-Dataset), Parquet with the images inside.

Columns: ds_name, image (bytes and path), question, chosen, rejected, origin_dataset, origin_split,
idx, image_path.
"""

from pathlib import Path

from r1reward.data.importers.fields import group_of, image, kept, text_or_empty, texts
from r1reward.data.importers.raw_pair import RawPair, RawPairs
from r1reward.data.importers.source_rows import read_source
from r1reward.data.stores.row_files import Row

NAME = "rlaif-v"


def read_rlaif_v(src: Path) -> RawPairs:
    """Yields the pairs of a file, or of a folder of Parquet files; the category is the data set that
    the image is from.
    """
    return read_source(src, (".parquet", ".jsonl"), read_row)


def read_row(row: Row, origin: str) -> RawPairs:
    compared, picture = texts(row, "question", "chosen", "rejected"), image(row)
    yield RawPair(
        origin,
        *compared,
        preferred=1,
        images=(picture,),
        source=NAME,
        category=text_or_empty(row, "origin_dataset"),
        group=group_of(compared[0], picture),
        meta=kept(row, "ds_name", "origin_split", "idx", "image_path"),
    )
