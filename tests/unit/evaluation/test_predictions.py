"""Answers made elsewhere: reading them, what is wrong with a file, and what they score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from r1reward.errors import InputError
from r1reward.evaluation.answers import Answer, append_answers
from r1reward.evaluation.conditions import Asking, build_conditions, predicted_conditions
from r1reward.evaluation.counting import count_answers
from r1reward.evaluation.evaluation import Evaluation
from r1reward.evaluation.items import Benchmark
from r1reward.evaluation.predictions import read_predictions
from r1reward.recipe.recipe import EvalRecipe
from r1reward.types import Order, Slot
from tests.rows import make_item

LABELS: tuple[Slot, ...] = (1, 2, 2, 1, 2)
ITEMS = tuple(make_item(f"key {n}", label) for n, label in enumerate(LABELS, start=1))
ORDERS: tuple[Order, ...] = ("stored", "swapped")
KEYS = [item.key for item in ITEMS]


def write(path: Path, lines: Sequence[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(tmp_path: Path, *lines: dict[str, Any]) -> list[Answer]:
    return read_predictions(write(tmp_path / "p.jsonl", lines), ITEMS)


def test_blank_lines_are_no_predictions(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [{"row": n, "choice": 1} for n in range(1, 6)])
    path.write_bytes(path.read_bytes().replace(b"\n", b"\n\n \r\n"))
    assert len(read_predictions(path, ITEMS)) == 5


def scored(answers: Sequence[Answer], **evaluate: object) -> Evaluation:
    """As ``r1reward eval --predictions`` does it."""
    benchmark = Benchmark("pairs", ITEMS, {})
    recipe = EvalRecipe.model_validate(
        {
            "name": "test",
            "run_dir": "runs/test",
            "model": {"path": "p.jsonl"},
            "bench": {"name": "pairs"},
            "evaluate": evaluate,
            "predictions": "p.jsonl",
        }
    )
    asking = Asking(recipe.evaluate, recipe.prompt, recipe.model.max_new_tokens, recipe.seed)
    planned = build_conditions("p.jsonl", benchmark, "pairs", asking)
    found = predicted_conditions(planned, benchmark, answers)
    return count_answers(benchmark, answers, found, scheduled=False)


def test_rows_are_by_number_or_key_and_samples_count_up(tmp_path: Path) -> None:
    answers = read(
        tmp_path,
        {"row": 1, "choice": 1},
        {"row": 2, "choice": 2, "order": "swapped"},
        {"row": 1, "choice": None},
        {"item": "key 2", "choice": 1, "order": "swapped", "confidence": 0.75, "text": "..."},
        {"row": 2},
        {"row": 3, "order": "stored", "sample_index": 7, "seed": 5, "choice": 2},
        {"item": KEYS[3], "choice": 1},
        {"row": 5, "choice": 1},
    )
    assert answers == [
        Answer("key 1", "stored", 0, 0, 1),
        Answer("key 2", "swapped", 0, 0, 2),
        Answer("key 1", "stored", 1, 0, None),
        Answer("key 2", "swapped", 1, 0, 1, text="...", confidence=0.75),
        Answer("key 2", "stored", 0, 0, None),
        Answer("key 3", "stored", 7, 5, 2),
        Answer("key 4", "stored", 0, 0, 1),
        Answer("key 5", "stored", 0, 0, 1),
    ]


def test_an_evaluations_own_answers_are_such_a_file(tmp_path: Path) -> None:
    """Regression: characters that end a line for Python, but not in JSON, cut a text in two."""
    answers = [
        Answer(key, "swapped", 0, 9, 1, text="a\u2028b\x85c\nd ü", reward=1.5, judge_word="match")
        for key in KEYS
    ]
    append_answers(tmp_path / "answers.jsonl", answers)
    assert read_predictions(tmp_path / "answers.jsonl", ITEMS) == answers


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{row: 1}", "line 1: not JSON: "),
        (b'{"row": 1, "text": "\xff"}', "line 1: not JSON: "),
        ("[1]", "line 1: not a JSON object"),
        ('{"row": 1, "answer": 1}', "line 1: unknown field 'answer'; known: choice, confidence, "),
        ('{"choice": 1}', "line 1: row is None; it must be from 1 to 5"),
        ('{"row": 0}', "line 1: row is 0; it must be from 1 to 5"),
        ('{"row": 6}', "line 1: row is 6; it must be from 1 to 5"),
        ('{"row": "1"}', "line 1: row is '1'; it must be from 1 to 5"),
        ('{"row": true}', "line 1: row is True; it must be from 1 to 5"),
        ('{"item": "key 9"}', "line 1: no row of the benchmark has the key 'key 9'"),
        ('{"item": ["key 1"]}', "line 1: item: Input should be a valid string"),
        (
            '{"row": 1, "order": "both"}',
            "line 1: order is 'both': Input should be 'stored' or 'swapped'",
        ),
        ('{"row": 1, "order": []}', "line 1: order: Input should be 'stored' or 'swapped'"),
        ('{"row": 1, "choice": 0}', "line 1: choice is 0; it must be 1, 2 or null"),
        ('{"row": 1, "choice": "1"}', "line 1: choice is '1'; it must be 1, 2 or null"),
        ('{"row": 1, "choice": 1.0}', "line 1: choice is 1.0; it must be 1, 2 or null"),
        ('{"row": 1, "choice": true}', "line 1: choice is True; it must be 1, 2 or null"),
        ('{"row": 1, "confidence": "high"}', "line 1: confidence is 'high': Input should be a"),
        ('{"row": 1, "sample_index": null}', "line 1: sample_index is None: Input should be a"),
        ('{"row": 1, "judge_word": "yes"}', "line 1: judge_word is 'yes': Input should be 'match'"),
    ],
)
def test_a_line_that_cannot_be_used(line: str | bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes((line if isinstance(line, bytes) else line.encode()) + b"\n")
    with pytest.raises(InputError) as caught:
        read_predictions(path, ITEMS)
    assert str(caught.value).startswith(f"{path} {message}")


def test_the_line_that_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"p\.jsonl line 3: row is 9"):
        read(tmp_path, {"row": 1}, {"row": 2}, {"row": 9})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jsonl: no such file"):
        read_predictions(tmp_path / "gone.jsonl", ITEMS)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([1, 3, 5], r"2 of 5 rows have no prediction \(rows 2, 4\): add a line"),
        ([], r"5 of 5 rows have no prediction \(rows 1, 2, 3, 4, 5\): add a line"),
    ],
)
def test_rows_without_a_prediction_are_named(rows: list[int], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, *({"row": row} for row in rows))


def test_only_the_first_missing_rows_are_listed(tmp_path: Path) -> None:
    items = [make_item(f"key {n}") for n in range(8)]
    path = write(tmp_path / "p.jsonl", [{"row": 8}])
    with pytest.raises(InputError, match=r"7 of 8 .* \(rows 1, 2, 3, 4, 5, \.\.\.\)"):
        read_predictions(path, items)


def test_a_repeated_sample_index_is_refused(tmp_path: Path) -> None:
    lines = [{"row": row, "sample_index": 0} for row in (1, 2, 3, 4, 5, 5)]
    with pytest.raises(InputError, match="a sample_index is repeated within a row and order"):
        read(tmp_path, *lines)


def test_always_1_scores_half_in_both_orders(tmp_path: Path) -> None:
    lines = [
        {"row": row, "order": order, "choice": 1}
        for row in range(1, 6)
        for order in ("stored", "swapped")
    ]
    found = scored(read(tmp_path, *lines))
    assert found.conditions.orders == "both"
    assert found.conditions.num_samples == 1
    assert found.accuracy.value == 0.5
    assert found.voted.value == 0.5
    assert found.audit.both_right_share == 0.0
    assert found.audit.flip_rate == 1.0
    assert found.audit.slot_1_rate == 1.0
    assert found.warnings == ()


def test_always_1_scores_everything_in_the_authors_order_and_a_warning_says_so(
    tmp_path: Path,
) -> None:
    lines = [
        {"row": row, "order": "stored" if label == 1 else "swapped", "choice": 1}
        for row, label in enumerate(LABELS, start=1)
    ]
    found = scored(read(tmp_path, *lines))
    assert found.conditions.orders == "authors"
    assert found.accuracy.value == 1.0
    always_first, sloppy = found.warnings
    assert "a model that always answers 1 scores 100 % here" in always_first
    assert "a lower bound of theirs" in sloppy


def test_labels_with_planted_noise_score_what_was_planted(tmp_path: Path) -> None:
    """Stored order: rows 2 and 5 wrong, row 4 unreadable; 2 of 5 are right."""
    choices: list[Slot | None] = [1, 1, 2, None, 1]
    lines = [{"row": row, "choice": choice} for row, choice in enumerate(choices, start=1)]
    found = scored(read(tmp_path, *lines))
    assert found.conditions.orders == "stored"
    assert found.accuracy.value == 0.4
    assert found.audit.num_unparsed == 1
    assert found.row_accuracies == (1.0, 0.0, 1.0, 0.0, 0.0)
    assert found.warnings == ()


@pytest.mark.parametrize(("per_order", "num_samples"), [(1, 1), (2, 3), (8, 15)])
def test_k_is_the_odd_number_that_the_pools_are_planned_for(
    per_order: int, num_samples: int, tmp_path: Path
) -> None:
    """Regression: 8 and 8 samples a row are those of voting@15, and counted as voting@8."""
    lines = [
        {"row": row, "order": order, "choice": 1 if order == "stored" else 2}
        for row in range(1, 6)
        for order in ("stored", "swapped")
        for _ in range(per_order)
    ]
    found = scored(read(tmp_path, *lines))
    assert found.conditions.num_samples == num_samples
    assert found.voting[-1].num_votes == num_samples
    assert found.voted.value == 0.4


@pytest.mark.parametrize("first_index", [0, 1])
def test_samples_of_no_known_schedule_are_counted(first_index: int, tmp_path: Path) -> None:
    """Regression: three samples a row in an order of its own, or numbered from 1, were an error."""
    lines = [
        {"row": row, "order": "stored" if row < 3 else "swapped", "sample_index": i, "choice": 1}
        for row in range(1, 6)
        for i in range(first_index, first_index + 3)
    ]
    found = scored(read(tmp_path, *lines))
    assert found.conditions.orders == "single"
    assert found.conditions.num_samples == 3
    assert found.adaptive is None
    # Labels 1 2 2 1 2: stored row 1, swapped rows 3 and 5 prefer slot 1.
    assert found.accuracy.value == 0.6


def test_uneven_pools_vote_with_what_every_row_has(tmp_path: Path) -> None:
    lines = [
        {"row": row, "order": order, "choice": 1 if order == "stored" else 2}
        for row in range(1, 6)
        for order, count in (("stored", 4), ("swapped", 1))
        for _ in range(count)
    ]
    found = scored(read(tmp_path, *lines))
    assert found.conditions.num_samples == 1
    assert found.voted.value == 0.4


def test_settings_of_asking_do_not_touch_what_was_asked_elsewhere(tmp_path: Path) -> None:
    """Regression: with adaptive voting in the settings no answer counted."""
    lines = [{"row": row, "choice": label} for row, label in enumerate(LABELS, start=1)]
    found = scored(read(tmp_path, *lines), adaptive=0.0, samples=5, orders="both")
    assert found.accuracy.value == 1.0
    assert found.conditions.adaptive is None
    assert found.conditions.num_samples == 1


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ({"confidence": 7}, "confidence is 7: Input should be less than or equal to 1"),
        ({"confidence": float("nan")}, "confidence is nan: Input should be "),
        ({"sample_index": -1}, "sample_index is -1: Input should be greater than or equal to 0"),
    ],
)
def test_values_that_no_evaluation_writes_are_refused(
    tmp_path: Path, field: dict[str, Any], reason: str
) -> None:
    """Regression: they were counted."""
    with pytest.raises(InputError, match=f"line 1: {reason}"):
        read(tmp_path, {"row": 1, "choice": 1, **field})


def test_orders_by_a_coin_a_sample_are_recognised() -> None:
    """Regression: ten samples in random orders counted as K = 1, or as one order a row."""
    splits = [(3, 1), (2, 2), (0, 4), (1, 3), (4, 0)]
    answers = [
        Answer(key, order, index, seed=0, choice=1)
        for key, split in zip(KEYS, splits, strict=True)
        for order, count in zip(ORDERS, split, strict=True)
        for index in range(count)
    ]
    found = scored(answers)
    assert (found.conditions.orders, found.conditions.num_samples) == ("random", 4)
    # A model that always says 1 votes for response 1 when stored, for response 2 when swapped.
    right = [s if label == 1 else w for (s, w), label in zip(splits, LABELS, strict=True)]
    assert found.row_scores == tuple(0.5 if r == 2 else float(r > 2) for r in right)


def test_the_same_uneven_split_of_every_row_is_no_coin() -> None:
    answers = [
        Answer(key, order, index, seed=0, choice=1)
        for key in KEYS
        for order, count in zip(ORDERS, (3, 1), strict=True)
        for index in range(count)
    ]
    conditions = scored(answers).conditions
    assert (conditions.orders, conditions.num_samples) == ("both", 1)
