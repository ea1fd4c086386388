"""The table of base, SFT and RL: every number counted by hand."""

from __future__ import annotations

import pytest

from r1reward.evaluation.answers import Answer
from r1reward.evaluation.conditions import Conditions
from r1reward.evaluation.counting import count_answers
from r1reward.evaluation.evaluation import Evaluation
from r1reward.evaluation.items import Benchmark
from r1reward.evaluation.side_by_side import lengths, lines, voting_points
from r1reward.types import Order, Slot
from studies.pipeline import SeedResult, selection_table, stages_table
from tests.rows import make_item

ORDERS: tuple[Order, ...] = ("stored", "swapped")
ITEMS = tuple(make_item(key, label=1) for key in "abcd")
BENCH = Benchmark("pairs", ITEMS, {})


def evaluated(
    num_right: int, num_samples: int = 5, word: str = "match", num_tokens: int | None = 50
) -> Evaluation:
    """A model that is always right on the first rows and always wrong on the others."""
    conditions = Conditions("m", "pairs", "d", 4, {}, "both", num_samples, 1.0, 1.0, 0, "short")
    answers = []
    for place, item in enumerate(ITEMS):
        for order in ORDERS:
            label: Slot = 1 if order == "stored" else 2
            wrong: Slot = 2 if label == 1 else 1
            answers += [
                Answer(
                    item.key,
                    order,
                    index,
                    0,
                    label if place < num_right else wrong,
                    num_tokens=num_tokens,
                    well_formed=True,
                    judge_word=word,  # type: ignore[arg-type]
                    reward=1.0,
                    consistency=1.0 if word == "match" else 0.0,
                )
                for index in range((num_samples + 1) // 2)
            ]
    return count_answers(BENCH, answers, conditions)


def table(**models: Evaluation) -> dict[str, list[str]]:
    return {label: list(cells) for label, cells in lines(models)}  # type: ignore[arg-type]


def test_every_line_of_the_table() -> None:
    found = table(
        base=evaluated(1, word="mismatch", num_tokens=50),
        sft=evaluated(2, num_tokens=50),
        rl=evaluated(4, num_tokens=45),
    )
    assert [cell.split(" [")[0] for cell in found["accuracy, one sample"]] == [
        "25.0 %",
        "50.0 %",
        "100.0 %",
    ]
    gains = found["gain over the column before, points"]
    assert [cell.split(" [")[0] for cell in gains] == ["", "+25.0", "+50.0"]
    assert [cell.split(" [")[0] for cell in found["voting@5"]] == ["25.0 %", "50.0 %", "100.0 %"]
    gained = found["voting@5 minus one sample, points"]
    assert [cell.split(" [")[0] for cell in gained] == ["+0.0"] * 3
    assert found["right in both orders"] == ["25.0 %", "50.0 %", "100.0 %"]
    assert found["slot-1 rate"] == ["50.0 %"] * 3
    assert found["answer follows analysis"] == ["0.0 %", "100.0 %", "100.0 %"]
    assert found["response length, tokens"] == ["50.0", "50.0 (+0 %)", "45.0 (-10 %)"]


def test_one_sample_has_no_votes() -> None:
    one = evaluated(2, num_samples=1)
    assert voting_points([one], 1) == []
    assert not any("voting" in label for label in table(base=one, rl=one))


def test_a_server_that_tells_no_lengths_has_none() -> None:
    silent = evaluated(1, num_tokens=None)
    assert lengths([silent, evaluated(1), silent]) == ["-", "50.0", "-"]


def cells(text: str) -> dict[str, list[str]]:
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}


@pytest.fixture
def results() -> list[SeedResult]:
    models = {"base": evaluated(1), "sft": evaluated(2), "rl": evaluated(4)}
    return [
        SeedResult(seed, models, random, num_pairs=966, num_annotated=4096)  # type: ignore[arg-type]
        for seed, random in ((0, evaluated(3)), (1, evaluated(4)))
    ]


def test_the_study_of_the_stages(results: list[SeedResult]) -> None:
    found = cells(stages_table(results))
    assert all(len(row) == 2 for row in found.values())
    assert found["accuracy, one sample: SFT only"][0].startswith("50.0 %")
    assert found["SFT minus base, points"][0].startswith("+25.0")
    assert found["RL minus SFT, points"][1].startswith("+50.0")
    assert found["voting@5: RL"][0].startswith("100.0 %")
    assert found["voting@5 minus one sample, points: RL"][0].startswith("+0.0")


def test_the_study_of_the_selection(results: list[SeedResult]) -> None:
    found = cells(selection_table(results))
    assert found["pairs that RL trains on"] == ["966 of 4,096"] * 2
    assert [row.split(" [")[0] for row in found["hard minus random, points"]] == ["+25.0", "+0.0"]
    assert found["accuracy, one sample: random pairs"][0].startswith("75.0 %")
