"""POVID (YiyangAiLab/POVID_preference_data_for_VLLMs), a JSON list.

Rows: id, image (a path), conversations and rejected_conversations, each a list of turns with from
(human, gpt) and value.
"""

from pathlib import Path

from r1reward.data.importers.conversations import compare
from r1reward.data.importers.fields import group_of, text, text_or_empty
from r1reward.data.importers.raw_pair import RawPair, RawPairs
from r1reward.data.importers.source_rows import read_source
from r1reward.data.stores.row_files import Row

NAME = "povid"


def read_povid(src: Path) -> RawPairs:
    """Yields the pairs of the JSON file, or of a folder that holds it."""
    return read_source(src, (".json", ".jsonl", ".parquet"), read_row)


def read_row(row: Row, origin: str) -> RawPairs:
    compared = compare(None, row.get("conversations"), row.get("rejected_conversations")).texts
    picture = text(row, "image")
    yield RawPair(
        origin,
        *compared,
        preferred=1,
        images=(picture,),
        source=NAME,
        group=group_of(compared[0], picture),
        meta={"id": text_or_empty(row, "id")},
    )
