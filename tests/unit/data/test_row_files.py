"""Files as people have them: packed, with blank lines and byte order marks, JSONL named JSON."""

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from r1reward.data.importers.source_rows import source_files
from r1reward.data.stores import row_files
from r1reward.data.stores.row_files import kind_of, numbered_rows
from r1reward.data.stores.store import read_pairs
from r1reward.data.stores.validate import validate
from r1reward.errors import DataError

CASES = Path(__file__).parents[2] / "cases"
ROWS = [
    {"question": "q", "images": [], "response_1": "a", "response_2": "b", "preferred": 1},
    {"question": "é 奖", "images": [], "response_1": "a", "response_2": "c", "preferred": 2},
]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
LIST = json.dumps(ROWS, indent=1).encode()


def gz(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def name_of(value: object) -> str:
    """The part of a test's name: the file's, not its content."""
    return value if isinstance(value, str) else ""


def zstd(content: bytes) -> bytes:
    return bytes(pa.compress(content, codec="zstd", asbytes=True))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES.replace(b"\n", b"\n\n \t\r\n")),
        ("a.jsonl", b"\xef\xbb\xbf" + LINES),
        ("a.jsonl", b"\xef\xbb\xbf\n" + LINES.replace(b"\n", b"\r\n")),
        ("a.jsonl", LINES[:-1]),
        ("a.jsonl.gz", gz(LINES)),
        ("a.jsonl.gz", b"".join(map(gz, LINES.splitlines(keepends=True)))),
        ("a.jsonl.zst", zstd(LINES)),
        ("a.jsonl.bz2", bz2.compress(b"\n" + LINES)),
        ("A.JSONL", LINES),
        ("a.ndjson", LINES),
        ("a.json", LIST),
        ("a.json", b"\xef\xbb\xbf \n" + LIST),
        ("a.json", LINES),
        ("a.json.gz", gz(LIST)),
        ("a.json.zst", zstd(LIST)),
        ("v1.0.jsonl.gz", gz(LINES)),
    ],
    ids=name_of,
)
def test_a_recipe_reads_it(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    pairs = read_pairs(tmp_path / name, None, None)
    assert [(pair.question, pair.preferred) for pair in pairs] == [("q", 1), ("é 奖", 2)]
    assert source_files(tmp_path, (".jsonl", ".json")) == [tmp_path / name]


def test_blank_lines_count_as_lines(tmp_path: Path) -> None:
    (pair,) = read_pairs(CASES / "blank_line_at_end.jsonl", None, None)[1:]
    assert pair.origin.endswith("jsonl row 2")
    (tmp_path / "a.jsonl").write_bytes(b"\n\n" + LINES)
    assert [pair.origin[-5:] for pair in read_pairs(tmp_path / "a.jsonl", None, None)] == [
        "row 3",
        "row 4",
    ]


def test_packed_csv(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gz(b"\xef\xbb\xbfa,b\n1,\xc3\xa9\n"))
    assert list(numbered_rows(tmp_path / "a.csv.gz")) == [(1, {"a": "1", "b": "é"})]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl.gz", gz(LINES * 9)[:-12], "damaged: "),
        ("a.jsonl.gz", LINES, "damaged: "),
        ("a.json.zst", zstd(LIST)[:-9], "damaged: "),
        ("a.jsonl", LINES.decode().encode("utf-16"), "not UTF-8 but UTF-16: convert it"),
        ("a.json", LIST.decode().encode("utf-16"), "not UTF-8 but UTF-16: convert it"),
        ("a.txt", LINES, "unknown file type '.txt'; use .parquet or .jsonl or .json"),
    ],
    ids=name_of,
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_pairs(tmp_path / name, None, None)
    assert str(caught.value).startswith(f"{tmp_path / name}: {reason}")


@pytest.mark.parametrize("pack", [bytes, gz])
def test_a_line_without_an_end_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(row_files, "MAX_LINE_BYTES", 1000)
    path = tmp_path / ("a.jsonl" if pack is bytes else "a.jsonl.gz")
    path.write_bytes(pack(LINES + b'{"q": "' + b"x" * 2000))
    with pytest.raises(DataError, match=r"row 3: has more than 1,000 bytes"):
        read_pairs(path, None, None)


def test_kinds() -> None:
    names = ("a.jsonl", "a.b.json.gz", "A.CSV", "a.ndjson.zst", "a.parquet", "gz", "a.gz")
    assert [kind_of(Path(name)) for name in names] == [
        ".jsonl",
        ".json",
        ".csv",
        ".jsonl",
        ".parquet",
        "",
        "",
    ]


def test_validate_counts_a_line_that_is_no_row_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{\n[1]\n" + LINES)
    report = validate(tmp_path / "a.jsonl")
    assert (report.num_read, report.dropped) == (4, {"broken row": 2})
    assert report.examples["broken row"][1] == f"{tmp_path}/a.jsonl row 2: not a JSON object"
