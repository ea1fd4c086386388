"""Files and folders to rows: what is broken is named by row, what is no such file is an error."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1reward.data.importers.raw_pair import RawPair
from r1reward.data.importers.source_rows import read_source, source_files
from r1reward.data.stores.row_files import Row, json_rows
from r1reward.errors import DataError


def read_row(row: Row, origin: str) -> Iterator[RawPair]:
    """One pair, or two: a number under ``n`` says so."""
    yield RawPair(origin, "?", "a", "b", 1)
    if row.get("n") == 2:
        yield RawPair(origin, "?", "a", "c", 1)
    if row.get("n") == 3:
        raise DataError("n is 3")


def summary(path: Path, *suffixes: str) -> list[tuple[str, str]]:
    """Where each pair or broken row is, and why a broken row is none."""
    lines = [
        str(item) if isinstance(item, DataError) else f"{item.origin}: pair"
        for item in read_source(path, suffixes or (path.suffix,), read_row)
    ]
    parts = [line.removeprefix(f"{path}").partition(": ") for line in lines]
    return [(origin, reason) for origin, _, reason in parts]


def test_broken_rows_are_named_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 2}\n{"n":\n\n[1]\n{"n": 3}\n{"n": "\xff"}\n{}\n')
    found = summary(path)
    assert [origin for origin, _ in found] == [
        " row 1",
        " row 1",
        " row 2",
        " row 4",
        " row 5",
        " row 6",
        " row 7",
    ]
    reasons = [reason for _, reason in found]
    assert reasons[:2] == ["pair", "pair"]
    assert reasons[2].startswith("not JSON: ")
    assert reasons[3:5] == ["not a JSON object", "n is 3"]
    assert reasons[5].startswith("not JSON: ")
    assert reasons[6] == "pair"


def test_csv_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('n,text\n1,"two\nlines"\n1\n\n2,"a ""quote"""\n')
    assert summary(path) == [
        (" row 1", "pair"),
        (" row 2", "1 values where the header names 2"),
        (" row 3", "pair"),
    ]
    path.write_text('n\n"1"2\n')
    with pytest.raises(DataError, match=r"a\.csv line 2: not CSV"):
        summary(path)
    path.write_bytes(b"n\n\xff\n")
    with pytest.raises(DataError, match=r"a\.csv: not UTF-8"):
        summary(path)


def test_parquet_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"junk")
    with pytest.raises(DataError, match=r"a\.parquet: not a Parquet file"):
        summary(path)


def test_a_folder_is_read_by_the_first_kind_that_it_holds(tmp_path: Path) -> None:
    for name in ("b.jsonl", "sub/a.jsonl", ".cache/c.parquet", "d.json", "e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}\n")
    kinds = (".parquet", ".jsonl", ".json")
    assert source_files(tmp_path, kinds) == [tmp_path / "b.jsonl", tmp_path / "sub" / "a.jsonl"]
    with pytest.raises(DataError, match=r"e\.txt: unknown file type '\.txt'; use \.csv"):
        source_files(tmp_path / "e.txt", (".csv",))
    with pytest.raises(DataError, match="the folder holds no Parquet or CSV file"):
        source_files(tmp_path, (".parquet", ".csv"))
    with pytest.raises(DataError, match=r"absent\.json: no such file"):
        source_files(tmp_path / "absent.json", kinds)


def test_rows_of_a_folder_are_counted_by_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pq.write_table(pa.Table.from_pylist([{"n": 1}] * 40), tmp_path / f"{name}.parquet")
    origins = [origin for origin, _ in summary(tmp_path, ".parquet")]
    assert len(origins) == 80
    assert (origins[39], origins[40]) == ("/a.parquet row 40", "/b.parquet row 1")


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("start", ["", "\ufeff", " \n"])
def test_a_json_list_is_read_row_by_row(tmp_path: Path, start: str, indent: int | None) -> None:
    rows = [{"a": ["é\n\U0001f600", {"b": "]},{["}, []], "n": 12.5}, {"a": "x" * 200_000}, {}]
    path = tmp_path / "a.json"
    path.write_text(start + json.dumps(rows, indent=indent) + "\n")
    assert list(json_rows(path)) == list(enumerate(rows, start=1))
    assert type(next(json_rows(path))[1]["n"]) is float  # type: ignore[index]
    path.write_text(start + " [ ] ")
    assert list(json_rows(path)) == []


def test_what_is_no_object_is_a_broken_row(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{}, 1, "a", null, [], {}]')
    pair, broken = "pair", "not a JSON object"
    assert [reason for _, reason in summary(tmp_path / "a.json")] == [pair, *[broken] * 4, pair]


@pytest.mark.parametrize("text", ['{"rows": []}', "5", "null"])
def test_json_that_is_no_list(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=r"a\.json: not a list of rows$"):
        list(json_rows(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("text", "row", "reason"),
    [
        (b"", 1, "parse error: premature EOF"),
        (b"[", 1, "parse error: premature EOF"),
        (b"[{}, {}", 3, "parse error: premature EOF"),
        (b"[{} {}]", 2, "parse error: after array element, I expect ',' or ']'"),
        (b"[{},]", 2, "parse error: unallowed token at this point in JSON text"),
        (b"[{}]]", 2, "parse error: trailing garbage"),
        (b'[{}, {"a": ]', 2, "parse error: unallowed token at this point in JSON text"),
        (b'[{}, "', 2, "parse error: premature EOF"),
        (b'["\xff"]', 1, "lexical error: invalid bytes in UTF8 string."),
        (b"[{}, " + b"[" * 501, 2, "nested more than 500 deep"),
    ],
)
def test_what_is_no_json(tmp_path: Path, text: bytes, row: int, reason: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text)
    with pytest.raises(DataError) as caught:
        list(json_rows(path))
    assert str(caught.value) == f"{path} row {row}: not JSON: {reason}"


@pytest.mark.slow
def test_a_json_list_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"text": "x" * 1000}] * 20_000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in json_rows(path)) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000 < path.stat().st_size
