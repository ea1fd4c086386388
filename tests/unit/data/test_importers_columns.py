"""The column map: what it says, what it cannot mean, and rows read by it."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1reward.data.importers.columns import Column, parse_columns, read_columns
from r1reward.data.importers.raw_pair import RawPair
from r1reward.errors import DataError, InputError

BASE = "question=prompt,response_1=chosen,response_2=rejected"
ROW = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}


def read(folder: Path, spec: str, **extra: object) -> RawPair | DataError:
    path = folder / "a.jsonl"
    path.write_text(json.dumps(ROW | extra))
    (item,) = read_columns(path, (".jsonl",), parse_columns(spec))
    return item


def test_every_part_of_a_map() -> None:
    columns = parse_columns(
        f"{BASE}, preferred=who:A/B/tie/both bad ,image=left,image=right,video=clip,"
        "category=\"charts\",group=qid,source='mine'"
    )
    parts = columns.columns
    assert parts["question"] == Column("prompt")
    assert (parts["preferred"], columns.labels.words) == (
        Column("who"),
        ("A", "B", "tie", "both bad"),
    )
    assert columns.images == (Column("left"), Column("right"))
    assert (parts["video"], parts["group"]) == (Column("clip"), Column("qid"))
    assert parts["category"] == Column("charts", is_constant=True)
    assert parts["source"] == Column("mine", is_constant=True)


def test_a_row_by_its_map(tmp_path: Path) -> None:
    spec = f"{BASE},preferred=1,image=img,video=clip,category='charts',group=qid,source=from"
    extra = {"img": ["a.png", "b.png"], "clip": "v/1", "qid": 7, "from": "us"}
    assert read(tmp_path, spec, **extra) == RawPair(
        origin=f"{tmp_path}/a.jsonl row 1",
        question="Why?",
        response_1="So.",
        response_2="No.",
        preferred=1,
        images=("a.png", "b.png"),
        video="v/1",
        source="us",
        category="charts",
        group="7",
    )


@pytest.mark.parametrize(
    ("preferred", "value", "expected"),
    [
        ("2", None, 2),
        ("label", 1, 1),
        ("label", "2", 2),
        ("label", 2.0, 2),
        ("label:0/1", 0, 1),
        ("label:0/1", 1, 2),
        ("label:0/1", "1 ", 2),
        ("label:A/B", "B", 2),
        ("label:chosen/rejected", "chosen", 1),
        ("label:true/false", False, 2),
        ("label:A/B/tie/both bad", "both bad", None),
        ("a:b:1/2", None, None),
    ],
)
def test_labels(tmp_path: Path, preferred: str, value: object, expected: int | None) -> None:
    extra = {"label": value, "a:b": 1}
    item = read(tmp_path, f"{BASE},preferred={preferred}", **extra)
    assert isinstance(item, RawPair)
    assert item.preferred == (1 if preferred == "a:b:1/2" else expected)


@pytest.mark.parametrize(
    ("spec", "extra", "reason"),
    [
        (
            "preferred=label",
            {"label": None},
            "label is empty: nothing says which response is better",
        ),
        ("preferred=label", {}, "there is no column label"),
        ("preferred=1,image=img", {}, "there is no column img"),
        ("preferred=1,image=img", {"img": 3}, "img is a number (3); an image is bytes, a path"),
        ("preferred=1", {"chosen": " "}, "chosen is missing or empty; fill it in or remove"),
    ],
)
def test_a_broken_row(tmp_path: Path, spec: str, extra: dict[str, object], reason: str) -> None:
    item = read(tmp_path, f"{BASE},{spec}", **extra)
    assert isinstance(item, DataError)
    assert str(item).startswith(f"{tmp_path}/a.jsonl row 1: {reason}")


def test_csv_and_parquet(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prompt,chosen,rejected,img\nWhy?,So.,No.,a.png\nWhy?,A,B,\n")
    columns = parse_columns(f"{BASE},preferred=1,image=img")
    with_image, without = read_columns(tmp_path / "a.csv", (".csv",), columns)
    assert isinstance(with_image, RawPair) and isinstance(without, RawPair)
    assert (with_image.images, without.images) == (("a.png",), ())
    row = ROW | {"img": [{"bytes": b"1", "path": None}, {"bytes": b"2", "path": None}]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    (pair,) = read_columns(tmp_path, (".parquet",), columns)
    assert isinstance(pair, RawPair)
    assert pair.images == (b"1", b"2")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        (BASE, "columns: preferred missing; give each as part=column"),
        (f"{BASE},preferred=1,preferred=2", "columns: preferred is given twice"),
        (f"{BASE},preferred=1,img=a", "columns: a pair has no part 'img'; choose from question,"),
        (f"{BASE},preferred=", "columns: 'preferred=' is not of the form part=column"),
        (f"{BASE},preferred=1,", "columns: '' is not of the form part=column"),
        (f"{BASE},preferred=who:A", "columns: preferred=who:A names no two values"),
        (f"{BASE},preferred=who:A/A", "columns: preferred=who:A/A names no two values"),
    ],
)
def test_a_map_that_cannot_be_meant(spec: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        parse_columns(spec)
    assert str(error.value).startswith(sentence)
