"""Rows without an answer: in no number, in every table."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from r1reward.evaluation.answers import Answer, append_answers, forget_missing, read_answers
from r1reward.evaluation.items import Benchmark, Item
from r1reward.evaluation.missing_answers import MissingAnswers, leave_out_missing
from r1reward.evaluation.predictions import read_predictions
from tests.rows import make_item

ITEMS = tuple(make_item(name) for name in "abcd")


def answer(item: str, sample_index: int = 0, **fields: object) -> Answer:
    return replace(Answer(item, "stored", sample_index, 5, 1), **fields)  # type: ignore[arg-type]


def grouped(item: Item, group: str) -> Item:
    return replace(item, pair=replace(item.pair, group=group))


def test_nothing_missing_leaves_everything() -> None:
    benchmark = Benchmark("pairs", ITEMS, {})
    answers = [answer(name) for name in "abcd"]
    counted = leave_out_missing(benchmark, answers)
    assert (counted.benchmark, counted.answers, counted.missing) == (benchmark, answers, None)


def test_a_row_goes_with_all_of_its_samples_and_a_failure_is_the_example() -> None:
    answers = [answer(name, index) for name in "abcd" for index in (0, 1)]
    answers[1] = replace(answers[1], choice=None, status="refused", reason="policy")
    answers[4] = replace(answers[4], choice=None, status="failed", reason="HTTP 503")
    blind = [answer(name) for name in "abcd"]
    blind[3] = replace(blind[3], choice=None, status="refused", reason="grey")
    counted = leave_out_missing(Benchmark("pairs", ITEMS, {}), answers, blind)
    assert [item.key for item in counted.benchmark.items] == ["b"]
    assert [one.sample_key for one in counted.answers] == [("b", "stored", 0), ("b", "stored", 1)]
    assert [one.item for one in counted.blind] == ["b"]
    assert counted.missing == MissingAnswers(3, 4, num_refused=2, num_failed=1, example="HTTP 503")


def test_a_group_that_is_a_score_goes_as_a_whole() -> None:
    items = (grouped(ITEMS[0], "g"), grouped(ITEMS[1], "g"), ITEMS[2], ITEMS[3])
    answers = [answer(name) for name in "abcd"]
    answers[0] = replace(answers[0], status="refused")
    for scores_groups, left in ((True, ["c", "d"]), (False, ["b", "c", "d"])):
        benchmark = Benchmark("pairs", items, {}, scores_groups=scores_groups)
        counted = leave_out_missing(benchmark, answers)
        assert [item.key for item in counted.benchmark.items] == left


def test_a_prompt_that_is_too_long_is_an_unreadable_answer() -> None:
    answers = [replace(answer("a"), choice=None, status="too_long", reason="65 tokens")]
    assert leave_out_missing(Benchmark("pairs", ITEMS[:1], {}), answers).missing is None


def test_the_sentence_says_what_the_rows_would_cost() -> None:
    said = MissingAnswers(3, 12, 2, 1, "HTTP 503").sentence(accuracy=0.8)
    assert said.startswith("3 of 12 rows are left out")
    assert "refused (2 samples), failed (1)" in said
    assert "make one sample 60.0 %" in said
    assert said.endswith("The first: HTTP 503")


def test_what_is_missing_is_forgotten_and_the_rest_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    kept = [answer("a"), answer("b", status="too_long", choice=None)]
    append_answers(path, kept)
    before = path.read_bytes()
    forget_missing(path)
    assert path.read_bytes() == before
    append_answers(path, [answer("c", status="refused"), answer("d", status="failed")])
    forget_missing(path)
    assert path.read_bytes() == before
    forget_missing(tmp_path / "not there")


@pytest.mark.parametrize(
    ("refused", "status", "reason"),
    [("", "answered", ""), ("prompt of 65 tokens", "too_long", "prompt of 65 tokens")],
)
def test_answers_of_0_2_are_read_on(tmp_path: Path, refused: str, status: str, reason: str) -> None:
    path = tmp_path / "answers.jsonl"
    line = {"item": "a", "order": "stored", "sample_index": 0, "seed": 5, "choice": 1}
    path.write_text(json.dumps(line | {"refused": refused}) + "\n")
    for found in (read_answers(path), read_predictions(path, ITEMS[:1])):
        assert [(one.status, one.reason) for one in found] == [(status, reason)]


def test_answers_of_an_evaluation_are_predictions_with_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    answers = [answer("a"), answer("b", choice=None, status="refused", reason="policy")]
    append_answers(path, answers)
    assert read_predictions(path, ITEMS[:2]) == answers
