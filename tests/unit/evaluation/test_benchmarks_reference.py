"""The published rows themselves, where they are at hand: counts and known baselines.

R1REWARD_REFERENCE names a folder with vl_rewardbench_authors.jsonl and mm_rlhf_rewardbench.jsonl.
Images are not needed: one tiny picture stands in for each.
"""

import io
import json
import os
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.load import load_benchmark
from r1reward.evaluation.benchmarks.mm_rlhf_rewardbench import score_mm_rlhf_rewardbench
from r1reward.evaluation.benchmarks.rows import MediaOptions
from r1reward.evaluation.benchmarks.vl_rewardbench import PUBLISHED_COUNTS, score_vl_rewardbench
from r1reward.evaluation.items import Benchmark

FOLDER = os.environ.get("R1REWARD_REFERENCE")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="R1REWARD_REFERENCE is not set: the published rows are not at hand"
)


def load_with_stand_ins(name: str, file: str, media_root: Path) -> Benchmark:
    path = Path(FOLDER or "") / file
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG")
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        files = [row["image"]] if row.get("image") else [f"{row['video']}/{n}.png" for n in (1, 2)]
        for stand_in in files:
            (media_root / stand_in).parent.mkdir(parents=True, exist_ok=True)
            (media_root / stand_in).write_bytes(buffer.getvalue())
    return load_benchmark(name, path, MediaOptions(root=media_root))


@pytest.fixture(scope="module")
def vl(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    folder = tmp_path_factory.mktemp("vl")
    return load_with_stand_ins("vl-rewardbench", "vl_rewardbench_authors.jsonl", folder)


@pytest.fixture(scope="module")
def mm_rlhf(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    folder = tmp_path_factory.mktemp("mm_rlhf")
    return load_with_stand_ins("mm-rlhf-rewardbench", "mm_rlhf_rewardbench.jsonl", folder)


def pick_by_length(benchmark: Benchmark, sign: int) -> list[Answer]:
    """Always the longer (1) or the shorter (-1) response; the first of two equally long ones."""
    answers = []
    for item in benchmark.items:
        extra = len(item.pair.response_2) - len(item.pair.response_1)
        answers.append(Answer(item.key, "stored", 0, 0, 2 if sign * extra > 0 else 1))
    return answers


def test_vl_rewardbench_counts_under_each_mapping(vl: Benchmark) -> None:
    assert len(vl.items) == 1250
    assert len({item.row_id for item in vl.items}) == 1225
    assert {
        mapping: dict(Counter(item.categories[mapping] for item in vl.items))
        for mapping in vl.mappings
    } == PUBLISHED_COUNTS


def test_pick_the_shorter_on_vl_rewardbench(vl: Benchmark) -> None:
    answers = pick_by_length(vl, -1)
    scores = [score_vl_rewardbench(vl, answers, mapping) for mapping in vl.mappings]
    # 57.4 % as it is quoted; the 11 equally long pairs are right, as their first response is.
    assert {score.overall for score in scores} == {717 / 1250}
    assert len({score.macro for score in scores}) == 3


def test_always_1_on_vl_rewardbench_as_the_authors_store_it(vl: Benchmark) -> None:
    score = score_vl_rewardbench(vl, [Answer(item.key, "stored", 0, 0, 1) for item in vl.items])
    assert (score.overall, score.macro) == (1.0, 1.0)


def test_mm_rlhf_rewardbench_counts(mm_rlhf: Benchmark) -> None:
    assert Counter(item.categories["official"] for item in mm_rlhf.items) == {
        "mcq": 42,
        "long": 37,
        "short": 34,
        "safety": 32,
        "video": 25,
    }
    sizes = Counter(item.pair.group for item in mm_rlhf.items)
    assert (len(sizes), min(sizes.values()), max(sizes.values())) == (46, 2, 6)
    assert Counter(len(item.pair.images) for item in mm_rlhf.items) == {1: 145, 2: 25}


def test_pick_the_longer_on_mm_rlhf_rewardbench(mm_rlhf: Benchmark) -> None:
    score = score_mm_rlhf_rewardbench(mm_rlhf, pick_by_length(mm_rlhf, 1))
    # 122 of 170 are longer (71.8 %); 2 pairs are equally long and the first is preferred.
    assert score.overall == 124 / 170
    assert {part.name: part.num_counted for part in score.parts if "Acc+" in part.name} == {
        "Acc+ mcq": 10,
        "Acc+ short": 10,
        "Acc+ long": 10,
        "Acc+ video": 10,
        "Acc+ safety": 6,
        "Acc+ overall": 46,
    }
