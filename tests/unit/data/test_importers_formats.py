"""The dispatcher, the hub out of reach, and the published files where they are at hand."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from r1reward.data.importers.columns import parse_columns
from r1reward.data.importers.formats import FORMATS, open_source
from r1reward.data.importers.raw_pair import RawPair
from r1reward.errors import DataError, InputError

FOLDER = os.environ.get("R1REWARD_REFERENCE")
COLUMNS = parse_columns("question=q,response_1=a,response_2=b,preferred=2")
NEEDS_COLUMNS = ("jsonl", "json", "csv", "parquet")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_a_reader(tmp_path: Path, name: str) -> None:
    """A row without any field that is needed: one broken row from each."""
    columns = COLUMNS if name in NEEDS_COLUMNS else None
    suffix = {"multimodal-rewardbench": "json", "csv": "csv", "parquet": "parquet"}.get(
        name, "jsonl"
    )
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist([{"x": 1}]), path)
    else:
        path.write_text({"json": "[{}]", "csv": "x\n1\n"}.get(suffix, "{}\n"))
    (item,) = open_source(name, path, columns)
    assert isinstance(item, DataError)
    assert str(item).startswith(f"{path} row 1: ")


def test_a_generic_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"q": "Why?", "a": "So.", "b": "No."}))
    assert list(open_source("jsonl", path, COLUMNS)) == [
        RawPair(f"{path} row 1", "Why?", "So.", "No.", 2)
    ]


def test_pairing_reaches_the_ranked_sources(tmp_path: Path) -> None:
    rated = [
        {"annotations": {"Helpfulness": {"Rating": str(place)}}, "response": f"r{place}"}
        for place in range(4)
    ]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": "?", "img_path": "a.png", "completions": rated}))
    assert [len(list(open_source("vl-feedback", path, None, "all"))) for _ in "ab"] == [6, 6]
    assert len(list(open_source("vl-feedback", path, None, "adjacent"))) == 3
    assert len(list(open_source("vl-feedback", path, None, "extremes"))) == 1


def test_what_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no format is called 'vlrb'; choose one of vl-rewardb"):
        open_source("vlrb", tmp_path, None)
    with pytest.raises(InputError, match="the folder holds no CSV file"):
        open_source("csv", tmp_path, None)
    with pytest.raises(InputError, match="povid has columns of its own: leave out the column map"):
        open_source("povid", tmp_path, COLUMNS)
    with pytest.raises(InputError, match="absent: no such file or folder"):
        open_source("povid", tmp_path / "absent", None)
    with pytest.raises(InputError, match="hub:povid: a data set on the hub is named hub:OWNER/N"):
        open_source("povid", Path("hub:povid"), None)


@pytest.mark.slow
def test_a_hub_out_of_reach_is_one_sentence(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from r1reward.errors import DataError, InputError\n"
        "from r1reward.data.importers.formats import open_source\n"
        "try:\n"
        "    open_source('povid', Path('hub:someone/something'), None)\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.startswith("hub:someone/something: the hub did not give it (")
    assert done.stdout.endswith(
        "fetch it on a machine that reaches the hub and give the path of its folder\n"
    )
    assert done.stdout.count("\n") == 1


@pytest.mark.skipif(
    not FOLDER, reason="R1REWARD_REFERENCE is not set: the published rows are not at hand"
)
@pytest.mark.parametrize(
    ("name", "file", "categories", "num_groups"),
    [
        (
            "vl-rewardbench",
            "vl_rewardbench_authors.jsonl",
            {"general": 183, "hallucination": 749, "reasoning": 318},
            1225,
        ),
        (
            "mm-rlhf-rewardbench",
            "mm_rlhf_rewardbench.jsonl",
            {"mcq": 42, "long": 37, "short": 34, "safety": 32, "video": 25},
            46,
        ),
    ],
)
def test_the_published_rows(
    name: str, file: str, categories: dict[str, int], num_groups: int
) -> None:
    found = list(open_source(name, Path(FOLDER or "") / file, None))
    pairs = [item for item in found if isinstance(item, RawPair)]
    assert len(pairs) == len(found) == sum(categories.values())
    assert Counter(pair.category for pair in pairs) == categories
    assert len({pair.group for pair in pairs}) == num_groups
    assert {(len(pair.images), pair.video is not None) for pair in pairs} <= {(1, False), (0, True)}
    assert sum(pair.video is not None for pair in pairs) == categories.get("video", 0)
