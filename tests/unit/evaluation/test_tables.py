"""``r1reward compare``: the table of two results, and folders that hold none."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from r1reward.errors import InputError
from r1reward.evaluation.answers import Answer
from r1reward.evaluation.conditions import Conditions
from r1reward.evaluation.counting import count_answers
from r1reward.evaluation.items import Benchmark
from r1reward.evaluation.tables import compare_folders
from r1reward.recipe.choices import OrderMode
from tests.rows import make_answers, make_item


def write_result(
    folder: Path, answers: Sequence[Answer], orders: OrderMode = "both", num_samples: int = 1
) -> Path:
    keys = list(dict.fromkeys(answer.item for answer in answers))
    items = tuple(make_item(key) for key in keys)
    conditions = Conditions(
        model=f"model of {folder.name}",
        benchmark="pairs",
        data="pairs.jsonl",
        num_rows=len(items),
        num_dropped={},
        orders=orders,
        num_samples=num_samples,
        temperature=1.0,
        top_p=1.0,
        seed=0,
        template="standard",
    )
    evaluation = count_answers(Benchmark("pairs", items, {}), answers, conditions)
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(evaluation.to_json()))
    return folder


def shown(before: Path, after: Path) -> str:
    out = io.StringIO()
    compare_folders(before, after, Console(file=out, width=200))
    return out.getvalue()


def first_model(root: Path, name: str = "before") -> Path:
    """Right in the stored order on rows 0 to 3, never in the swapped one."""
    rows = [make_answers(f"r{n}", [1 if n < 4 else 2], [1]) for n in range(8)]
    return write_result(root / name, [answer for row in rows for answer in row])


def second_model(root: Path) -> Path:
    """Right in the stored order on rows 1 to 7, in the swapped one on rows 0 and 1."""
    rows = [make_answers(f"r{n}", [1 if n else 2], [2 if n < 2 else 1]) for n in range(8)]
    return write_result(root / "after", [answer for row in rows for answer in row])


def test_difference_and_tests_of_two_results(tmp_path: Path) -> None:
    """4 to 9 of 16 samples right. Stored: 4 gained, 1 lost: 2 (1 + 5) / 32; swapped: 2 and 0: 2 / 4."""
    text = shown(first_model(tmp_path), second_model(tmp_path))
    assert "Model: model of before, Benchmark: pairs, " in text
    assert "Rows: 8, Dropped: none, Orders: both orders, Samples a row (K): 1, " in text
    assert "Model: model of after, Benchmark: pairs, " in text
    assert "25.0 % [" in text
    assert "56.2 % [" in text
    assert "paired difference, one sample: +31.2 [" in text
    assert "McNemar, stored order: 4 rows gained, 1 lost, p = 0.38" in text
    assert "McNemar, swapped order: 2 rows gained, 0 lost, p = 0.5" in text
    text = " ".join(text.split())
    assert "vote" not in text.replace("an unreadable answer is wrong and no vote", "")
    assert "different orders" not in text


def test_the_other_way_round_the_sign_changes(tmp_path: Path) -> None:
    text = shown(second_model(tmp_path), first_model(tmp_path))
    assert "paired difference, one sample: -31.2 [" in text
    assert "McNemar, stored order: 1 rows gained, 4 lost, p = 0.38" in text


def test_a_result_file_does_as_well_as_its_folder(tmp_path: Path) -> None:
    before, after = first_model(tmp_path), second_model(tmp_path)
    by_file = shown(before / "result.json", after / "result.json")
    assert "paired difference, one sample: +31.2 [" in by_file


def test_votes_are_compared_where_there_are_any(tmp_path: Path) -> None:
    rows = [make_answers(f"r{n}", [1, 1], [2, 1]) for n in range(8)]
    voted = write_result(tmp_path / "voted", [a for row in rows for a in row], num_samples=3)
    text = shown(first_model(tmp_path), voted)
    # A vote of three is right on every row; one vote of the other model on a quarter.
    assert "paired difference, vote: +75.0 [+" in text
    assert "(K = 3)" in text


def test_orders_that_differ_are_warned_of(tmp_path: Path) -> None:
    rows = [make_answers(f"r{n}", [1], []) for n in range(8)]
    stored = write_result(tmp_path / "stored", [a for row in rows for a in row], "stored")
    text = shown(first_model(tmp_path), stored)
    assert "warning: the two were asked in different orders" in text
    # Only the stored order was asked by both.
    assert "McNemar, stored order" in text
    assert "McNemar, swapped order" not in text


def test_different_rows_are_refused_in_a_sentence(tmp_path: Path) -> None:
    rows = [make_answers(f"r{n}", [1], [2]) for n in range(5, 15)]
    other = write_result(tmp_path / "other", [answer for row in rows for answer in row])
    before = first_model(tmp_path)
    with pytest.raises(InputError) as caught:
        shown(before, other)
    message = str(caught.value)
    assert message.startswith(f"{before} and {other}: the two evaluations are of different rows: ")
    assert "3 are common, of 8 before and 10 after" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no result.json; give the folder of a finished evaluation"),
        ("", "not the result of an evaluation: the file: Invalid JSON"),
        ('{"conditions": {', "not the result of an evaluation: the file: Invalid JSON"),
        ("[]", "not the result of an evaluation: the file: Input should be an object"),
        ('{"accuracy": 1}', "not the result of an evaluation: conditions: Field required"),
    ],
)
def test_a_folder_without_a_result_is_refused_in_a_sentence(
    content: str | None, message: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    if content is not None:
        (broken / "result.json").write_text(content)
    for pair in ((broken, first_model(tmp_path, "one")), (first_model(tmp_path, "two"), broken)):
        with pytest.raises(InputError) as caught:
            shown(*pair)
        assert message in str(caught.value)
        assert str(broken) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_difference_of_votes_is_shown_when_either_voted(tmp_path: Path) -> None:
    """Regression: it was left out where only the first one had."""
    rows = [make_answers(f"r{n}", [1, 1], [2, 2]) for n in range(8)]
    answers = [answer for row in rows for answer in row]
    voted = write_result(tmp_path / "voted", answers, num_samples=3)
    single = first_model(tmp_path)
    for pair in ((voted, single), (single, voted)):
        assert "paired difference, vote: " in shown(*pair)
