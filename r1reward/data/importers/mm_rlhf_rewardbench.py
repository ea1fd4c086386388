"""MM-RLHF-RewardBench: JSONL of id, prompt, chosen, rejected, image (a path) or video (a folder)."""

from pathlib import Path

from r1reward.data.importers.fields import kept, media_paths, text, texts
from r1reward.data.importers.raw_pair import RawPair, RawPairs
from r1reward.data.importers.source_rows import read_source
from r1reward.data.stores.row_files import Row
from r1reward.errors import DataError

NAME = "mm-rlhf-rewardbench"
CATEGORIES = ("mcq", "long", "short", "safety", "video")


def read_mm_rlhf_rewardbench(src: Path) -> RawPairs:
    """Yields the rows of a file or folder; ``group`` is the id, which all pairs of a question share."""
    return read_source(src, (".jsonl", ".parquet"), read_row)


def read_row(row: Row, origin: str) -> RawPairs:
    images, video = media_paths(row)
    path = video or images[0]
    category = path_category(path)
    if not category:
        raise DataError(f"the path {path} names no category ({', '.join(CATEGORIES)})")
    yield RawPair(
        origin,
        *texts(row, "prompt", "chosen", "rejected"),
        preferred=1,
        images=images,
        video=video,
        source=NAME,
        category=category,
        group=text(row, "id"),
        meta=kept(row, "chosen_reason", "rejected_reason"),
    )


def path_category(path: str) -> str:
    """Returns the first of the categories that the path contains; empty if it has none."""
    return next((name for name in CATEGORIES if name in path), "")
