"""MM-RLHF-RewardBench: JSONL of id, prompt, chosen, rejected, image (a path) or video (a folder)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from r1reward.data.importers.fields import FieldError, Row, kept, media_paths, text
from r1reward.data.importers.files import read_source
from r1reward.data.importers.raw_pair import Broken, RawPair

NAME = "mm-rlhf-rewardbench"
CATEGORIES = ("mcq", "long", "short", "safety", "video")


def read_mm_rlhf_rewardbench(src: Path) -> Iterator[RawPair | Broken]:
    """Yields the rows of a file or folder; ``group`` is the id, which all pairs of a question share."""
    return read_source(src, (".jsonl", ".parquet"), read_row)


def read_row(row: Row, origin: str) -> Iterator[RawPair]:
    images, video = media_paths(row)
    path = video or images[0]
    category = path_category(path)
    if not category:
        raise FieldError(f"the path {path} names no category ({', '.join(CATEGORIES)})")
    yield RawPair(
        origin=origin,
        question=text(row, "prompt"),
        response_1=text(row, "chosen"),
        response_2=text(row, "rejected"),
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
