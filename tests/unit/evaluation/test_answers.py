"""The confidence of an answer is the probability of the token that holds its digit."""

from dataclasses import replace
from math import exp, log
from pathlib import Path

import pytest

from r1reward.data.prompt import Tags
from r1reward.evaluation.answers import (
    answer_confidence,
    append_answers,
    forget_missing,
    read_answers,
)
from tests.rows import make_answer

TAGS = Tags()


def confidence(*tokens: str, tags: Tags = TAGS) -> float | None:
    """Token number i (from 1) has probability i / 100, so the value tells which one was taken."""
    found = answer_confidence(tokens, [log(i / 100) for i in range(1, len(tokens) + 1)], tags)
    return None if found is None else round(found * 100, 6)


@pytest.mark.parametrize(
    ("tokens", "number"),
    [
        (["<answer>", "1", "</", "answer", ">"], 2),
        (["<", "answer", ">", "2", "</", "answer", ">"], 4),
        (["<answer", ">1", "</answer>"], 2),
        (["<answer>", "1<", "/answer>"], 2),
        (["<answer>1</answer>"], 1),
        (["<answer>", "", "2", "", "</answer>"], 3),  # special tokens have no text
        (["<answer>", "\n", " ", "2", "\n", "</answer>"], 4),
        (["<answer>", "\n2", "\n</answer>"], 2),
        (["1", " beats ", "2", "<answer>", "2", "</answer>", "1"], 5),
        (["é", "\ufffd", "<answer>", "1", "</answer>"], 4),
        (["<answer>", "1", "</answer>", "<answer>", "1", "</answer>"], 2),
    ],
)
def test_the_token_with_the_digit(tokens: list[str], number: int) -> None:
    assert confidence(*tokens) == number


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        ["1"],
        ["<answer>", "1"],
        ["<answer>", "3", "</answer>"],
        ["<answer>", "12", "</answer>"],
        ["<answer>", "</answer>"],
        ["<answer>", "1", "</answer>", "<answer>", "2", "</answer>"],
        ["<answer>", "1", "</answer>", "<answer>", "?", "</answer>"],
    ],
)
def test_no_readable_answer_has_no_confidence(tokens: list[str]) -> None:
    assert confidence(*tokens) is None


def test_other_tags() -> None:
    other = Tags(answer="choice")
    assert confidence("<choice>", "1", "</choice>", tags=other) == 2
    assert confidence("<answer>", "1", "</answer>", tags=other) is None


def test_a_probability_is_not_above_one() -> None:
    assert answer_confidence(["<answer>", "1", "</answer>"], [0.0, 1e-7, 0.0], TAGS) == 1.0
    assert answer_confidence(["<answer>", "1", "</answer>"], [0, -0.5, 0], TAGS) == exp(-0.5)
    with pytest.raises(AssertionError):
        answer_confidence(["<answer>", "1", "</answer>"], [0.0], TAGS)


def test_a_flood_of_open_tags_has_no_confidence() -> None:
    """Regression: 8,000 took four seconds, so this many would take ten minutes."""
    assert confidence(*["<answer>"] * 100_000) is None


def test_samples_without_an_answer_are_taken_out_of_the_file(tmp_path: Path) -> None:
    answered, too_long = make_answer("a", "stored", 0, 1), make_answer("b", "stored", 0, None)
    answers = [
        answered,
        replace(answered, order="swapped", choice=None, status="failed"),
        replace(too_long, status="too_long"),
        replace(too_long, sample_index=1, status="refused"),
    ]
    append_answers(tmp_path / "answers.jsonl", answers)
    forget_missing(tmp_path / "answers.jsonl")
    assert read_answers(tmp_path / "answers.jsonl") == [answers[0], answers[2]]
