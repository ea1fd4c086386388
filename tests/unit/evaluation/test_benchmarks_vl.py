"""VL-RewardBench: both file formats, three category mappings, and the majority rule by hand."""

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from r1reward.errors import DataError
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.benchmarks.rows import MediaOptions
from r1reward.evaluation.benchmarks.scores import ScorePart
from r1reward.evaluation.benchmarks.vl_rewardbench import (
    MAPPINGS,
    VL_REWARDBENCH,
    categories_of,
    majority,
    score_vl_rewardbench,
)
from r1reward.evaluation.items import Benchmark, Item
from r1reward.types import Order, Slot

ONE: Slot = 1
TWO: Slot = 2
ORDERS: tuple[Order, Order] = ("stored", "swapped")


def png(grey: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2), (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()


def hub_row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "id": "RLAIF-V-1",
        "query": "What is it?",
        "response": ["A cat.", "A dog."],
        "image": {"bytes": png(), "path": None},
        "human_ranking": [0, 1],
    }
    return row | changes


def authors_row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "id": "wildvision-battle_1",
        "prompt": "What is it?",
        "chosen": "A cat.",
        "rejected": "A dog.",
        "image": "img/0.png",
    }
    return row | changes


def write_parquet(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load(path: Path) -> Benchmark:
    return VL_REWARDBENCH.load(path, MediaOptions(), None)


def votes(item: Item, responses: Sequence[Slot | None]) -> list[Answer]:
    """Votes for stored responses, every other one cast in the swapped order."""
    answers = []
    for index, response in enumerate(responses):
        if index % 2:
            shown: Slot | None = None if response is None else 1 if response == 2 else 2
            answers.append(Answer(item.key, "swapped", index, 0, shown))
        else:
            answers.append(Answer(item.key, "stored", index, 0, response))
    return answers


def ballots(for_1: int, for_2: int, unreadable: int) -> list[Slot | None]:
    return [*[ONE] * for_1, *[TWO] * for_2, *[None] * unreadable]


def test_hub_rows_are_read_from_a_file_and_from_a_folder(tmp_path: Path) -> None:
    first = hub_row(image={"bytes": png(1), "path": "x.png"})
    second = hub_row(id="mmmu_2", human_ranking=[1, 0], image={"bytes": png(2), "path": None})
    write_parquet(tmp_path / "data" / "test-00000.parquet", [first])
    write_parquet(tmp_path / "data" / "test-00001.parquet", [second])
    from_file = load(tmp_path / "data" / "test-00000.parquet")
    both = load(tmp_path)
    assert [item.key for item in both.items[:1]] == [item.key for item in from_file.items]
    assert [item.pair.preferred for item in both.items] == [1, 2]
    pair = both.items[1].pair
    assert (pair.question, pair.response_1, pair.response_2) == ("What is it?", "A cat.", "A dog.")
    assert pair.images == (png(2),)
    assert (pair.source, pair.category, pair.group) == ("vl-rewardbench", "reasoning", "mmmu_2")
    assert pair.origin == f"{tmp_path}/data/test-00001.parquet row 1"
    assert both.items[1].row_id == "mmmu_2"
    assert list(both.mappings) == ["official", "authors", "unifiedreward"]
    assert both.num_dropped == {}


def test_an_image_may_be_bytes_alone_or_a_path(tmp_path: Path) -> None:
    write_parquet(tmp_path / "bytes.parquet", [hub_row(image=png(3))])
    write_parquet(tmp_path / "path.parquet", [hub_row(image={"bytes": None, "path": "a.png"})])
    (tmp_path / "a.png").write_bytes(png(4))
    assert load(tmp_path / "bytes.parquet").items[0].pair.images == (png(3),)
    assert load(tmp_path / "path.parquet").items[0].pair.images == (png(4),)


def test_authors_rows_are_preferred_first(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "0.png").write_bytes(png(5))
    benchmark = load(write_jsonl(tmp_path / "data.jsonl", [authors_row()]))
    (item,) = benchmark.items
    assert (item.pair.response_1, item.pair.response_2, item.pair.preferred) == (
        "A cat.",
        "A dog.",
        1,
    )
    assert item.pair.images == (png(5),)
    assert item.preferred_first == "stored"
    assert item.categories == {
        "official": "general",
        "authors": "general",
        "unifiedreward": "general",
    }


def test_repeated_rows_and_ids_count_as_often_as_they_are_published(tmp_path: Path) -> None:
    rows = [hub_row(), hub_row(), hub_row(query="And this?")]
    benchmark = load(write_parquet(tmp_path / "a.parquet", rows))
    keys = [item.key for item in benchmark.items]
    assert len(set(keys)) == 3
    assert keys[1] == f"{keys[0]}-2"
    everything = [answer for item in benchmark.items for answer in votes(item, [1])]
    assert score_vl_rewardbench(benchmark, everything).parts[1] == ScorePart("hallucination", 3, 3)


def test_a_row_with_identical_responses_counts(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [hub_row(response=["Same.", "Same."])])
    assert len(load(path).items) == 1


@pytest.mark.parametrize(
    ("row_id", "official", "authors", "unifiedreward"),
    [
        ("mathverse_12", "reasoning", "reasoning", "reasoning"),
        ("mmmu_Math-1", "reasoning", "reasoning", "reasoning"),
        ("RLAIF-V-7", "hallucination", "general", "hallucination"),
        ("RLHF-V-7", "hallucination", "general", "hallucination"),
        ("rlhf-v-7", "general", "hallucination", "general"),
        ("hallucination_pair-3", "hallucination", "hallucination", "general"),
        ("wildvision-battle_1", "general", "general", "general"),
        ("jailbreak", "general", "general", "general"),
        ("svit-RLHF_2", "general", "general", "general"),
        ("svit_mmmu", "general", "reasoning", "general"),
        ("svit_hallucination", "general", "hallucination", "general"),
    ],
)
def test_categories(row_id: str, official: str, authors: str, unifiedreward: str) -> None:
    assert categories_of(row_id) == {
        "official": official,
        "authors": authors,
        "unifiedreward": unifiedreward,
    }
    assert list(MAPPINGS) == ["official", "authors", "unifiedreward"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"human_ranking": [0, 0]}, r"row 1: human_ranking is \[0, 0\]; it must be"),
        ({"human_ranking": [0]}, r"row 1: human_ranking is \[0\]; it must be"),
        ({"response": ["A cat."]}, "row 1: response must be a list of two texts"),
        ({"response": ["A cat.", " "]}, "row 1: response 2 is missing or empty; fill it in"),
        ({"response": [None, "A dog."]}, "row 1: response 1 is missing or empty"),
        ({"query": ""}, "row 1: query is missing or empty"),
        ({"id": ""}, "row 1: id is missing or empty"),
        ({"image": None}, "row 1: image is missing; fill it in or remove the row"),
        (
            {"image": {"bytes": b"junk", "path": None}},
            "row 1: image in the row is not a readable image",
        ),
        ({"image": {"bytes": None, "path": "../a.png"}}, r"row 1: image \.\./a.png lies outside"),
    ],
)
def test_a_bad_hub_row_is_named(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    path = write_parquet(tmp_path / "in" / "a.parquet", [hub_row(**changes)])
    with pytest.raises(DataError, match=sentence):
        load(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the folder holds no Parquet file"):
        load(tmp_path)
    with pytest.raises(DataError, match=r"b\.jsonl: no such file"):
        load(tmp_path / "b.jsonl")
    with pytest.raises(DataError, match=r"row 1: neither human_ranking .* nor chosen"):
        load(write_jsonl(tmp_path / "c.jsonl", [{"id": "mmmu_1"}]))
    with pytest.raises(DataError, match=r"d\.jsonl: holds no rows"):
        load(write_jsonl(tmp_path / "d.jsonl", []))
    with pytest.raises(DataError, match="row 1: rejected is missing or empty"):
        load(write_jsonl(tmp_path / "e.jsonl", [authors_row(rejected="")]))


@pytest.mark.parametrize(
    ("for_1", "for_2", "unreadable", "preferred", "expected"),
    [
        (6, 4, 0, 1, "right"),
        (6, 4, 0, 2, "wrong"),
        (5, 5, 0, 1, "split"),
        # Five of ten are not more than half, though only four say otherwise.
        (5, 4, 1, 1, "split"),
        (4, 5, 1, 1, "split"),
        (6, 0, 4, 1, "right"),
        (4, 0, 6, 1, "unreadable"),
        (5, 0, 5, 1, "split"),
        (0, 0, 1, 2, "unreadable"),
        (3, 2, 0, 1, "right"),
        (0, 1, 0, 2, "right"),
    ],
)
def test_majority(for_1: int, for_2: int, unreadable: int, preferred: Slot, expected: str) -> None:
    assert majority(ballots(for_1, for_2, unreadable), preferred) == expected


@pytest.fixture
def six_rows(tmp_path: Path) -> Benchmark:
    """Two rows a category under the official mapping; the labels are 1, 2, 1, 2, 1, 2."""
    ids = ("svit_1", "svit_2", "RLHF-V-1", "hallucination_2", "mmmu_1", "mathverse_2")
    rows = [
        hub_row(
            id=row_id,
            response=[f"Long answer {row}.", f"Short {row}."],
            human_ranking=[row % 2, 1 - row % 2],
        )
        for row, row_id in enumerate(ids)
    ]
    return load(write_parquet(tmp_path / "a.parquet", rows))


def test_the_official_score_by_hand(six_rows: Benchmark) -> None:
    planted = [
        ballots(8, 1, 0),  # general, label 1: right
        ballots(6, 3, 0),  # general, label 2: wrong
        ballots(4, 4, 1),  # hallucination, label 1: split
        ballots(0, 5, 4),  # hallucination, label 2: right
        ballots(2, 0, 7),  # reasoning, label 1: unreadable
        ballots(9, 0, 0),  # reasoning, label 2: wrong
    ]
    answers = [
        answer
        for item, responses in zip(six_rows.items, planted, strict=True)
        for answer in votes(item, responses)
    ]
    score = score_vl_rewardbench(six_rows, answers)
    assert score.parts == (
        ScorePart("general", 1, 2),
        ScorePart("hallucination", 1, 1),
        ScorePart("reasoning", 0, 1),
    )
    assert score.overall == 2 / 4
    assert score.macro == pytest.approx((0.5 + 1 + 0) / 3)
    assert score.num_left_out == 2
    assert score.notes == ("left out: 1 unreadable, 1 split",)
    # RLHF-V-1 moves to general and is split there: only the categories change.
    other = score_vl_rewardbench(six_rows, answers, "authors")
    assert other.parts == score.parts
    third = score_vl_rewardbench(six_rows, answers, "unifiedreward")
    assert third.parts == (
        ScorePart("general", 2, 3),
        ScorePart("hallucination", 0, 0),
        ScorePart("reasoning", 0, 1),
    )
    assert (third.overall, third.macro) == (0.5, None)


def test_a_model_that_always_answers_1_gets_what_the_orders_give_it(six_rows: Benchmark) -> None:
    preferred_first = [
        Answer(item.key, item.preferred_first, sample, 0, 1)
        for item in six_rows.items
        for sample in range(3)
    ]
    assert score_vl_rewardbench(six_rows, preferred_first).overall == 1.0
    stored = [Answer(item.key, "stored", 0, 0, 1) for item in six_rows.items]
    assert score_vl_rewardbench(six_rows, stored).overall == 0.5
    balanced = [
        Answer(item.key, order, sample, 0, 1)
        for item in six_rows.items
        for sample, order in enumerate(ORDERS)
    ]
    # Two votes a row: the script never counts an even number of them.
    one_each = score_vl_rewardbench(six_rows, balanced)
    assert [point.num_votes for point in one_each.curve] == [1]
    assert one_each.num_left_out == 0


def test_nine_votes_of_a_pool_of_ten_are_the_headline(six_rows: Benchmark) -> None:
    """Regression: all ten votes were scored, and a row of 5 : 5 counted nowhere."""
    answers = [answer for item in six_rows.items for answer in votes(item, ballots(5, 5, 0))]
    score = score_vl_rewardbench(six_rows, answers)
    assert [point.num_votes for point in score.curve] == [1, 3, 5, 7, 9]
    last = score.curve[-1]
    assert (last.overall, last.macro, last.num_left_out) == (score.overall, score.macro, 0)
    assert score.overall is not None
    assert "first 9 votes in a shuffled pool" in score.rule
    # Which of the ten is left out is the seed's: the same for the same pool, whatever its order.
    assert score_vl_rewardbench(six_rows, answers[::-1]) == score


def test_any_number_but_the_rejected_one_agrees(six_rows: Benchmark) -> None:
    text = "The first.\n\n**Overall Judgment: Answer 3 is better.**"
    answers = [replace(votes(item, [None])[0], text=text) for item in six_rows.items]
    assert score_vl_rewardbench(six_rows, answers).overall == 1.0
    silent = [replace(answer, text="Answer 3 is better.") for answer in answers]
    assert score_vl_rewardbench(six_rows, silent).num_left_out == 6


def test_answers_that_do_not_go_with_the_rows_are_refused(six_rows: Benchmark) -> None:
    answers = [Answer(item.key, "stored", 0, 0, 1) for item in six_rows.items]
    with pytest.raises(ValueError, match="1 of 6 rows of vl-rewardbench have no answer"):
        score_vl_rewardbench(six_rows, answers[1:])
    with pytest.raises(ValueError, match="an answer is to row other"):
        score_vl_rewardbench(six_rows, [*answers, Answer("other", "stored", 0, 0, 1)])
    with pytest.raises(ValueError, match="twice"):
        score_vl_rewardbench(six_rows, [*answers, answers[0]])
