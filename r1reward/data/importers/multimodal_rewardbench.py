"""Multimodal RewardBench: a JSON list of ID, Text, Image, Output1, Output2, Better, Category.

Mirrors on the hub have the same columns as Parquet, with the image inside.
"""

from pathlib import Path

from r1reward.data.importers.fields import image, text, texts
from r1reward.data.importers.raw_pair import RawPair, RawPairs
from r1reward.data.importers.source_rows import read_source
from r1reward.data.stores.row_files import Row
from r1reward.errors import DataError

NAME = "multimodal-rewardbench"


def read_multimodal_rewardbench(src: Path) -> RawPairs:
    """Yields the rows of the ``all_data.json`` that the benchmark's 0_download_data.py writes, or of
    Parquet.
    """
    return read_source(src, (".parquet", ".json"), read_row)


def read_row(row: Row, origin: str) -> RawPairs:
    if not row.get("Text"):
        raise DataError(
            "Text is empty, as in all_data_release.json; run the benchmark's 0_download_data.py "
            "and use the all_data.json that it writes"
        )
    better = row.get("Better")
    if better not in ("Output1", "Output2"):
        raise DataError(f"Better is {better!r}; it must be Output1 or Output2")
    row_id, category = text(row, "ID"), text(row, "Category")
    yield RawPair(
        origin,
        *texts(row, "Text", "Output1", "Output2"),
        preferred=1 if better == "Output1" else 2,
        images=(image(row, "Image"),),
        source=NAME,
        category=official_category(row_id, category),
        group=row_id,
        meta={"area": category},
    )


def official_category(row_id: str, category: str) -> str:
    """Returns the category as 2_get_accuracy.py has it: reasoning and safety in two parts each."""
    match category:
        case "safety":
            return "safety/bias" if row_id.lower().startswith("pairs") else "safety/toxicity"
        case "reasoning":
            return "reasoning/math" if row_id.lower().startswith("math") else "reasoning/coding"
        case other:
            return other
