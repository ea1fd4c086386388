"""Multimodal RewardBench: the JSON list, its categories, and the seeded draws by hand."""

import json
from pathlib import Path

import pytest
from PIL import Image

from r1reward.data.importers.multimodal_rewardbench import official_category
from r1reward.errors import DataError
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.multimodal_rewardbench import (
    MULTIMODAL_REWARDBENCH,
    score_multimodal_rewardbench,
)
from r1reward.evaluation.benchmarks.rows import MediaOptions
from r1reward.evaluation.benchmarks.scores import ScorePart
from r1reward.evaluation.items import Benchmark
from r1reward.types import Slot

IDS = (
    ("nocaps_1", "open_generation/correctness_task"),
    ("mathvista_1", "reasoning"),
    ("EMMA-Coding_1", "reasoning"),
    ("PAIRS_1", "safety"),
    ("hateful_1", "safety"),
    ("mathvista_2", "reasoning"),
    ("RealworldQA_1", "vqa"),
    ("image2struct_1", "reasoning"),
)


def row(number: int, **changes: object) -> dict[str, object]:
    row_id, category = IDS[number]
    fields: dict[str, object] = {
        "ID": row_id,
        "Text": f"Question {number}?",
        "Image": "images/a.png",
        "Output1": "First.",
        "Output2": "Second.",
        "Better": "Output1" if number % 2 == 0 else "Output2",
        "Category": category,
    }
    return fields | changes


def load(folder: Path, rows: object) -> Benchmark:
    (folder / "images").mkdir(exist_ok=True)
    Image.new("RGB", (2, 2)).save(folder / "images" / "a.png")
    (folder / "all_data.json").write_text(json.dumps(rows))
    return MULTIMODAL_REWARDBENCH.load(folder / "all_data.json", MediaOptions(), None)


def answers(benchmark: Benchmark, choices: list[Slot | None]) -> list[Answer]:
    return [
        Answer(item.key, "stored", 0, 0, choice)
        for item, choice in zip(benchmark.items, choices, strict=True)
    ]


@pytest.fixture
def eight_rows(tmp_path: Path) -> Benchmark:
    """Labels 1, 2, 1, 2, ..."""
    return load(tmp_path, [row(number) for number in range(8)])


def test_rows_and_categories(eight_rows: Benchmark) -> None:
    assert [item.categories["official"] for item in eight_rows.items] == [
        "open_generation/correctness_task",
        "reasoning/math",
        "reasoning/coding",
        "safety/bias",
        "safety/toxicity",
        "reasoning/math",
        "vqa",
        "reasoning/coding",
    ]
    assert [item.categories["areas"] for item in eight_rows.items] == [c for _, c in IDS]
    assert [item.pair.preferred for item in eight_rows.items] == [1, 2] * 4
    assert [item.row_id for item in eight_rows.items] == [row_id for row_id, _ in IDS]


def test_readable_answers_by_hand(eight_rows: Benchmark) -> None:
    score = score_multimodal_rewardbench(eight_rows, answers(eight_rows, [1] * 8))
    assert score.parts == (
        ScorePart("open_generation/correctness_task", 1, 1),
        ScorePart("reasoning/math", 0, 2),
        ScorePart("reasoning/coding", 1, 2),
        ScorePart("safety/bias", 0, 1),
        ScorePart("safety/toxicity", 1, 1),
        ScorePart("vqa", 1, 1),
    )
    assert score.overall == 0.5
    assert (score.macro, score.num_left_out) == (None, 0)


def test_unreadable_answers_are_drawn_in_row_order_with_seed_123(eight_rows: Benchmark) -> None:
    # The first draws are 0.052, 0.087, 0.407, 0.108, 0.901, 0.038: A, A, A, A, B, A. Two rows are
    # readable and use no draw.
    choices: list[Slot | None] = [None, None, 2, None, None, None, 2, None]
    # votes:                       1     1    2  1     1     2     2  1
    # labels:                      1     2    1  2     1     2     1  2
    score = score_multimodal_rewardbench(eight_rows, answers(eight_rows, choices))
    assert score.parts == (
        ScorePart("open_generation/correctness_task", 1, 1),
        ScorePart("reasoning/math", 1, 2),
        ScorePart("reasoning/coding", 0, 2),
        ScorePart("safety/bias", 0, 1),
        ScorePart("safety/toxicity", 1, 1),
        ScorePart("vqa", 0, 1),
    )
    assert score.overall == 3 / 8
    assert score.notes == ("unreadable and so drawn: 6",)
    shuffled = answers(eight_rows, choices)[::-1]
    assert score_multimodal_rewardbench(eight_rows, shuffled) == score


@pytest.mark.parametrize(
    ("row_id", "category", "expected"),
    [
        ("Math_1", "reasoning", "reasoning/math"),
        ("EMMA-math", "reasoning", "reasoning/coding"),
        ("pairs/x", "safety", "safety/bias"),
        ("mypairs", "safety", "safety/toxicity"),
        ("mathvista_1", "knowledge", "knowledge"),
        ("pairs_1", "vqa", "vqa"),
    ],
)
def test_official_category(row_id: str, category: str, expected: str) -> None:
    assert official_category(row_id, category) == expected


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"Better": "A"}, "row 1: Better is 'A'; it must be Output1 or Output2"),
        ({"Text": ""}, "row 1: Text is empty, as in all_data_release.json; run"),
        ({"Text": None}, "row 1: Text is empty, as in all_data_release.json; run"),
        ({"Output2": ""}, "row 1: Output2 is missing or empty"),
        ({"Category": None}, "row 1: Category is missing or empty"),
        ({"Image": "images/b.png"}, "1 of 1 rows miss their image"),
        ({"Image": "/etc/hostname"}, "row 1: image /etc/hostname lies outside"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        load(tmp_path, [row(0, **changes)])


def test_other_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a list of rows"):
        load(tmp_path, {"rows": []})
    with pytest.raises(DataError, match="row 1: not a JSON object"):
        load(tmp_path, ["text"])
    with pytest.raises(DataError, match="holds no rows"):
        load(tmp_path, [])
    (tmp_path / "all_data.json").write_text("[")
    with pytest.raises(DataError, match="not JSON"):
        MULTIMODAL_REWARDBENCH.load(tmp_path / "all_data.json", MediaOptions(), None)
    with pytest.raises(DataError, match="no such file"):
        MULTIMODAL_REWARDBENCH.load(tmp_path / "absent.json", MediaOptions(), None)
