"""Multimodal RewardBench as Parquet, for the importer and for the benchmark alike."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from r1reward.data.importers.multimodal_rewardbench import read_multimodal_rewardbench
from r1reward.data.importers.raw_pair import RawPair
from r1reward.evaluation.benchmarks.multimodal_rewardbench import MULTIMODAL_REWARDBENCH
from r1reward.evaluation.benchmarks.rows import MediaOptions


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), (255, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


ROW = {
    "ID": "MathVista_1",
    "Text": "How many?",
    "Image": {"bytes": picture(), "path": "a.png"},
    "Output1": "Two.",
    "Output2": "Three.",
    "Better": "Output2",
    "Category": "reasoning",
}


def test_a_folder_of_parquet_files(tmp_path: Path) -> None:
    path = tmp_path / "data" / "test-00000-of-00001.parquet"
    path.parent.mkdir()
    pq.write_table(pa.Table.from_pylist([ROW]), path)
    (tmp_path / "dataset_infos.json").write_text("{}")
    (pair,) = read_multimodal_rewardbench(tmp_path)
    assert pair == RawPair(
        origin=f"{path} row 1",
        question="How many?",
        response_1="Two.",
        response_2="Three.",
        preferred=2,
        images=(picture(),),
        source="multimodal-rewardbench",
        category="reasoning/math",
        group="MathVista_1",
        meta={"area": "reasoning"},
    )


def test_the_benchmark_reads_it_too(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([ROW, ROW | {"ID": "PAIRS_1", "Category": "safety"}]), path)
    found = MULTIMODAL_REWARDBENCH.load(path, MediaOptions(), None)
    assert [item.categories["official"] for item in found.items] == [
        "reasoning/math",
        "safety/bias",
    ]
    assert {item.pair.images for item in found.items} == {(picture(),)}
