"""WildVision's configs side by side in a folder, and battles whose conversations went apart."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from r1reward.data.importers.importing import ImportOptions, import_pairs
from r1reward.data.importers.raw_pair import RawPair
from r1reward.data.importers.wildvision import read_wildvision
from r1reward.errors import DataError

Row = dict[str, object]


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), (255, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def said(*words: str) -> list[Row]:
    return [
        {"role": ("user", "assistant")[place % 2], "content": word}
        for place, word in enumerate(words)
    ]


def battle(first: list[Row], second: list[Row]) -> Row:
    return {
        "question_id": "q1",
        "conversation_a": first,
        "conversation_b": second,
        "image": {"bytes": picture(), "path": None},
        "winner": "model_a",
    }


PLAIN = battle(said("What is it?", "A cat."), said("What is it?", "A dog."))


def parquet(path: Path, *rows: Row) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return path


def test_several_configs_are_not_mixed(tmp_path: Path) -> None:
    for config in ("battle", "battle_2024_08_21", "chat"):
        parquet(tmp_path / config / "test-00000-of-00001.parquet", PLAIN)
    with pytest.raises(DataError) as caught:
        read_wildvision(tmp_path)  # before anything of it is read
    assert str(caught.value) == (
        f"{tmp_path}: holds several configs (battle, battle_2024_08_21, chat), whose battles may "
        f"overlap; give the folder of one of them, such as {tmp_path}/battle_2024_08_21"
    )
    assert len(list(read_wildvision(tmp_path / "battle"))) == 1
    assert len(list(read_wildvision(tmp_path / "chat" / "test-00000-of-00001.parquet"))) == 1


def test_configs_are_seen_below_a_common_folder_and_beside_files(tmp_path: Path) -> None:
    for config in ("battle", "battle_5_29"):
        parquet(tmp_path / "data" / config / "test" / "0.parquet", PLAIN)
    with pytest.raises(DataError, match=r"\(data/battle, data/battle_5_29\).*/data/battle_5_29$"):
        read_wildvision(tmp_path)
    parquet(tmp_path / "more" / "chat" / "0.parquet", PLAIN)
    parquet(tmp_path / "more" / "0.parquet", PLAIN)
    with pytest.raises(DataError, match=r"\(\., chat\).*such as .*/more/chat$"):
        read_wildvision(tmp_path / "more")


def test_splits_and_shards_of_one_config_are_one(tmp_path: Path) -> None:
    for file in ("train/0.parquet", "train/1.parquet", "test/0.parquet"):
        parquet(tmp_path / "battle" / file, PLAIN)
    assert len(list(read_wildvision(tmp_path / "battle"))) == 3
    assert len(list(read_wildvision(tmp_path))) == 3


def test_conversations_that_went_apart_are_counted_by_name(tmp_path: Path) -> None:
    apart = battle(said("Hi.", "Yes.", "What?", "A cat."), said("Hi.", "No.", "What?", "A dog."))
    longer = battle(said("Hi.", "Yes."), said("Hi.", "No.", "What?", "A dog."))
    together = battle(said("Hi.", "Yes.", "What?", "A cat"), said("Hi.", "Yes.", "What?", "A dog"))
    faulty = PLAIN | {"winner": "m1"}
    path = parquet(tmp_path / "a.parquet", PLAIN, apart, longer, together, faulty)
    found = list(read_wildvision(path))
    assert [isinstance(item, RawPair) for item in found] == [True, False, False, True, False]
    report = import_pairs(found, tmp_path / "store", ImportOptions(tmp_path), {"import": "test"})
    assert report.num_written == 2
    assert report.dropped == {"histories differ": 2, "broken row": 1}
    assert report.examples["histories differ"][0] == (
        f"{path} row 2: the conversations differ before their last reply: they are no pair"
    )
