"""Labels of every spelling: one meaning for the whole column, or a refusal with a proposal."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1reward.data.importers.columns import parse_columns, read_columns
from r1reward.data.importers.labels import Labels
from r1reward.data.importers.raw_pair import RawPair
from r1reward.errors import DataError, InputError

BASE = "question=q,response_1=a,response_2=b,preferred="


@pytest.mark.parametrize(
    ("words", "first", "second", "ties"),
    [
        ("1/2", [1, 1.0, "1", " 1 ", "1.0", "1.00"], [2, 2.0, "2", "2.0"], []),
        ("0/1", [0, 0.0, "0", False, "false", "False"], [1, 1.0, "1", True, " TRUE "], []),
        ("1/0", [1, True, "true"], [0, False, "0.0"], []),
        ("A/B/tie", ["a", "A", " A ", "A\n"], ["b", "B "], ["Tie", "TIE", " tie"]),
        ("true/false", [True, "True", 1, "1"], [False, "FALSE", 0, 0.0], []),
        ("-1/1/0", [-1, "-1.0"], [1], [0, "0"]),
        ("model a/model b/both bad", ["Model  A"], ["MODEL B"], ["both  bad"]),
    ],
)
def test_spellings(
    words: str, first: list[object], second: list[object], ties: list[object]
) -> None:
    labels = Labels(tuple(words.split("/")))
    for slot, values in ((1, first), (2, second), (None, ties)):
        assert [labels.slot(value, "x") for value in values] == [slot] * len(values)


@pytest.mark.parametrize("value", [None, "", " ", float("nan"), "NaN", "null", "None"])
def test_no_label_is_a_reason_of_its_own(value: object) -> None:
    with pytest.raises(DataError, match="x is empty") as caught:
        Labels().slot(value, "x")
    assert caught.value.reason == "no label"


def test_null_may_be_a_tie_by_the_map() -> None:
    assert Labels(("a", "b", "none")).slot("None", "x") is None


@pytest.mark.parametrize(
    ("words", "values", "unmapped", "known", "first", "written"),
    [
        ("", [1, 0, 1], "'0' (1)", "1, 2", "0", "0/1"),
        ("", [True, False], "'True' (1), 'False' (1)", "1, 2", "true", "true/false"),
        (":0/1", [0, 1, 2], "'2' (1)", "0, 1", "", "FIRST/SECOND/TIE"),
        (
            ":A/B",
            ["A", "b", "Tie", "tie", "both bad"],
            "'Tie' (2), 'both bad' (1)",
            "A, B",
            "a",
            "a/b/tie/both bad",
        ),
        (
            ":A/B",
            ["model_b", "model_a"],
            "'model_b' (1), 'model_a' (1)",
            "A, B",
            "model_a",
            "model_a/model_b",
        ),
        (":A/B", ["z", None, "gpt-4"], "'z' (1), 'gpt-4' (1)", "A, B", "gpt-4", "gpt-4/z"),
    ],
)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_value_that_is_not_mapped_is_refused_before_a_row_is_read(
    tmp_path: Path,
    kind: str,
    words: str,
    values: list[object],
    unmapped: str,
    known: str,
    first: str,
    written: str,
) -> None:
    path = tmp_path / f"a.{kind}"
    rows = [{"q": "?", "a": "x", "b": "y", "w": value} for value in values]
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(InputError) as caught:
        read_columns(path, (f".{kind}",), parse_columns(f"{BASE}w{words}"))
    told = str(caught.value)
    assert told.startswith(f"{path}: w is {unmapped}, and the map knows {known}; ")
    assert f"write preferred=w:{written}" in told
    if first:
        assert f"if {first} says that the first response is better" in told
        found = list(read_columns(path, (f".{kind}",), parse_columns(f"{BASE}w:{written}")))
        assert all(isinstance(pair, RawPair) or pair.reason == "no label" for pair in found)


def test_broken_rows_and_rows_without_the_column_do_not_hide_a_value(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{\n{"q": "?"}\n[]\n{"w": 3}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"w is '3' \(1\), and the map knows 1, 2"):
        read_columns(path, (".jsonl",), parse_columns(f"{BASE}w"))


def test_very_many_values_are_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = (json.dumps({"w": f"x{number}" * 99}) for number in range(500))
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_columns(path, (".jsonl",), parse_columns(f"{BASE}w"))
    assert len(str(caught.value)) < 1500
