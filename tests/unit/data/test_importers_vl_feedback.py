"""VLFeedback: where an image lies that no column names, and the file beside the rows that has none."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from r1reward.data.importers.importing import ImportOptions, import_pairs
from r1reward.data.importers.raw_pair import RawPair
from r1reward.data.importers.vl_feedback import read_vl_feedback
from r1reward.data.stores.store import iter_pairs

Row = dict[str, object]


def rated(response: str, rating: str) -> Row:
    return {"annotations": {"Helpfulness": {"Rating": rating}}, "response": response, "model": "m"}


def row(row_id: str | None, **changes: object) -> Row:
    completions = [rated("A cat.", "5"), rated("A dog.", "1")]
    return {"id": row_id, "prompt": f"What is {row_id}?", "completions": completions, **changes}


def jsonl(path: Path, *rows: Row) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def picture(path: Path, colour: str) -> bytes:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)
    return path.read_bytes()


def test_an_image_that_no_column_names_is_found_by_the_id(tmp_path: Path) -> None:
    merged = picture(tmp_path / "merged_images" / "a-1.jpg", "red")
    picture(tmp_path / "a-1.jpg", "blue")  # the second place to look
    beside = picture(tmp_path / "a-2.jpg", "green")
    rows = jsonl(tmp_path / "a.jsonl", *(row(f"a-{n}", img_path=None) for n in (1, 2, 3)))
    made = import_pairs(
        read_vl_feedback(rows), tmp_path / "store", ImportOptions(tmp_path), {"import": "test"}
    )
    assert [pair.images for pair in iter_pairs(tmp_path / "store")] == [(merged,), (beside,)]
    assert made.dropped == {"image missing": 1}
    assert list(made.missing_files) == [str(tmp_path / "merged_images" / "a-3.jpg")]
    assert made.notes == {}


def test_the_path_that_was_found_is_what_a_store_of_paths_holds(tmp_path: Path) -> None:
    picture(tmp_path / "a-2.jpg", "green")
    rows = jsonl(tmp_path / "a.jsonl", row("a-2"), row("a-3"))
    options = ImportOptions(tmp_path, embed=False, keep_missing=True)
    made = import_pairs(read_vl_feedback(rows), tmp_path / "store", options, {"import": "test"})
    assert made.num_written == 2
    shards = pq.read_table(sorted((tmp_path / "store").glob("*.parquet"))[0])
    assert shards["image_paths"].to_pylist() == [["a-2.jpg"], ["merged_images/a-3.jpg"]]


def test_an_id_leads_to_no_file_outside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    picture(tmp_path / "x.jpg", "red")
    rows = jsonl(root / "a.jsonl", row("../../x"), row("../x"))
    made = import_pairs(
        read_vl_feedback(rows), tmp_path / "store", ImportOptions(root), {"import": "test"}
    )
    assert (made.num_written, made.dropped) == (0, {"outside the media root": 2})


@pytest.mark.parametrize("changes", [{"id": ""}, {"id": None}, {"image": None}])
def test_without_an_id_or_with_an_empty_column_the_image_is_missing(
    tmp_path: Path, changes: Row
) -> None:
    path = jsonl(tmp_path / "a.jsonl", row("a-1") | changes)
    (item,) = read_vl_feedback(path)
    why = "image or img_path is missing; fill it in or remove the row"
    assert str(item) == f"{path} row 1: {why}"


def test_an_image_inside_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    inside = row("a-1", image={"bytes": b"image", "path": "a-1.jpg"})
    pq.write_table(pa.Table.from_pylist([inside]), path)
    (pair,) = read_vl_feedback(path)
    assert isinstance(pair, RawPair)
    assert (pair.images, pair.elsewhere) == ((b"image",), {})


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_the_sources_of_the_instructions_are_no_rows(tmp_path: Path, suffix: str) -> None:
    jsonl(tmp_path / "instruction_source.jsonl", {"id": "a-1", "source": "svit"})
    kept = row("a-1", img_path="a.jpg")
    path = tmp_path / f"vlfeedback.{suffix}"
    path.write_text(json.dumps(kept if suffix == "jsonl" else [kept]))
    (pair,) = read_vl_feedback(tmp_path)
    assert isinstance(pair, RawPair)
    assert pair.origin == f"{path} row 1 responses 1 and 2"
