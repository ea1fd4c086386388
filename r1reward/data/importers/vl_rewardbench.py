"""VL-RewardBench: the hub's Parquet files, or R1-Reward's JSONL.

Hub (MMInstruction/VL-RewardBench): id, query, response (two), image, human_ranking, and more.
R1-Reward: id, prompt, chosen, rejected, image (a path).
"""

import re
from pathlib import Path

from r1reward.data.importers.fields import image, kept, text, texts
from r1reward.data.importers.raw_pair import RawPair, RawPairs
from r1reward.data.importers.source_rows import read_source, source_files
from r1reward.data.stores.row_files import Row
from r1reward.errors import DataError
from r1reward.types import Slot

NAME = "vl-rewardbench"


def read_vl_rewardbench(src: Path) -> RawPairs:
    """Yields the rows of a file, or of a folder of Parquet files; ``group`` is the row's id, which is
    not unique.
    """
    suffixes = (".parquet",) if src.is_dir() else (".parquet", ".jsonl")
    for file in source_files(src, suffixes):
        # The hub has published the same rows twice, as its train and its test split.
        is_copy = file.name.startswith("train-") and any(file.parent.glob("test-*.parquet"))
        if not (src.is_dir() and is_copy):
            yield from read_source(file, suffixes, read_row)


def read_row(row: Row, origin: str) -> RawPairs:
    row_id = text(row, "id")
    if "human_ranking" in row:
        compared, preferred = read_hub_fields(row)
    elif "chosen" in row:
        compared, preferred = texts(row, "prompt", "chosen", "rejected"), 1
    else:
        raise DataError(
            "neither human_ranking (the hub's files) nor chosen (R1-Reward's JSONL) is there; is "
            "this a file of VL-RewardBench?"
        )
    yield RawPair(
        origin,
        *compared,
        preferred=preferred,
        images=(image(row),),
        source=NAME,
        category=official_category(row_id),
        group=row_id,
        meta=kept(row, "models", "query_source"),
    )


def read_hub_fields(row: Row) -> tuple[tuple[str, str, str], Slot]:
    """Returns question, responses, and which is better: human_ranking gives each response its rank,
    from 0.
    """
    responses, ranking = row.get("response"), row["human_ranking"]
    if not isinstance(responses, list) or len(responses) != 2:
        raise DataError("response must be a list of two texts")
    if ranking not in ([0, 1], [1, 0]):
        raise DataError(
            f"human_ranking is {ranking!r}; it must be [0, 1] (the first response is better) or "
            "[1, 0]"
        )
    named = {**row, "response 1": responses[0], "response 2": responses[1]}
    compared = texts(named, "query", "response 1", "response 2")
    return compared, 1 if ranking == [0, 1] else 2


def id_prefix(row_id: str) -> str:
    """Returns what stands before the first ``_`` or ``-``: the data set the row was taken from."""
    return re.split("[_-]", row_id, maxsplit=1)[0]


def official_category(row_id: str) -> str:
    """Returns the category by the id's prefix, as cal.py of the benchmark's repository has it."""
    match id_prefix(row_id):
        case "mathverse" | "mmmu":
            return "reasoning"
        case "RLAIF" | "RLHF" | "hallucination":
            return "hallucination"
        case _:
            return "general"
