"""The transplant test with models that follow, ignore, or never finish."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from r1reward.data.prompt import Tags
from r1reward.types import Rollout, RolloutRequest, Slot
from studies.transplant import (
    FollowRate,
    Trace,
    Transplant,
    build_transplants,
    follow_rate,
    transplant,
)
from tests.fakes import make_pair, make_prompt, make_rollout

TAGS = Tags()


def tokenize(text: str) -> tuple[int, ...]:
    return tuple(ord(letter) for letter in text)


def traced(
    number: int, choice: Slot | None, consistent: bool = True, analysis: str | None = None
) -> Trace:
    written = analysis or f"analysis {number}: Response {choice} is better."
    return Trace(make_prompt(make_pair(number)), written, choice, consistent)


def continuations(
    transplants: list[Transplant], answer: Callable[[Transplant], str]
) -> list[Rollout]:
    requests = [(RolloutRequest(item.prompt, 0, 0), answer(item)) for item in transplants]
    return [make_rollout(request, text) for request, text in reversed(requests)]


def rate(transplants: list[Transplant], answer: Callable[[Transplant], str]) -> FollowRate:
    return follow_rate(transplants, continuations(transplants, answer), TAGS, "strict")


def test_the_prompt_goes_on_with_the_borrowed_analysis() -> None:
    prompt = make_prompt(make_pair(1))
    item = transplant(prompt, "Response 2 is better.", 2, TAGS, tokenize)
    assert item.opening == "<think>Response 2 is better.</think><answer>"
    assert item.prompt.text == prompt.text + item.opening
    assert item.prompt.token_ids == (*prompt.token_ids, *tokenize(item.opening))
    assert item.prompt.num_tokens == prompt.num_tokens + len(item.opening)
    assert (item.prompt.pair, item.prompt.order) == (prompt.pair, prompt.order)
    assert item.prompt.prompt_id != prompt.prompt_id


def test_tags_come_from_the_recipe() -> None:
    tags = Tags(think="analysis", answer="verdict")
    item = transplant(make_prompt(make_pair(1)), "so", 1, tags, tokenize)
    assert item.opening == "<analysis>so</analysis><verdict>"


def test_an_analysis_brings_no_image_tokens() -> None:
    item = transplant(make_prompt(make_pair(1)), "look <|image_pad|>", 1, TAGS, tokenize)
    assert "<|image_pad|>" not in item.opening


def test_every_borrowed_analysis_argues_against_the_prompts_own_choice() -> None:
    traces = [traced(number, 1 if number < 3 else 2) for number in range(6)]
    transplants = build_transplants(traces, TAGS, tokenize, seed=0)
    assert len(transplants) == 6
    for trace, item in zip(traces, transplants, strict=True):
        assert item.conclusion != trace.choice
        assert f"Response {item.conclusion} is better." in item.opening
        assert item.prompt.pair == trace.prompt.pair


def test_a_donor_is_another_pair_that_the_judge_found_consistent() -> None:
    same_pair = replace(
        traced(0, 2, analysis="the same pair in the other order"),
        prompt=make_prompt(make_pair(0), "swapped"),
    )
    unsure = [
        traced(1, 2, False, "mismatch"),
        traced(2, None, False, "unreadable"),
    ]
    good = traced(4, 2, analysis="good")
    recipient = traced(0, 1, False)
    transplants = build_transplants([recipient, same_pair, *unsure, good], TAGS, tokenize, seed=0)
    (item,) = transplants  # nothing argues for 1, so only the recipient has a donor
    assert item.opening == "<think>good</think><answer>"
    assert item.prompt.pair == make_pair(0)


def test_the_draw_repeats_from_its_seed() -> None:
    traces = [traced(number, 1 if number % 2 else 2) for number in range(20)]
    first = build_transplants(traces, TAGS, tokenize, seed=0)
    assert build_transplants(traces, TAGS, tokenize, seed=0) == first
    assert build_transplants(traces, TAGS, tokenize, seed=1) != first


def test_several_samples_of_a_prompt_are_refused() -> None:
    with pytest.raises(AssertionError):
        build_transplants([traced(0, 1), traced(0, 1), traced(1, 2)], TAGS, tokenize, seed=0)


def test_models_of_known_share() -> None:
    traces = [traced(number, 1 if number % 4 else 2) for number in range(8)]
    transplants = build_transplants(traces, TAGS, tokenize, seed=0)
    follows = rate(transplants, lambda item: f"{item.conclusion}</answer>")
    assert follows == FollowRate(8, 1.0, 0.0)
    ignores = rate(transplants, lambda item: f"{3 - item.conclusion}</answer>")
    assert ignores == FollowRate(8, 0.0, 0.0)
    # Six prompts had chosen 1, so six borrowed analyses conclude 2.
    always_2 = rate(transplants, lambda item: "2</answer>")
    assert always_2 == FollowRate(8, 0.75, 0.0)
    unfinished = rate(transplants, lambda item: f"{item.conclusion}")
    assert unfinished == FollowRate(8, 0.0, 1.0)


def test_missing_continuations_and_empty_tests_are_refused() -> None:
    transplants = build_transplants([traced(0, 1), traced(1, 2)], TAGS, tokenize, seed=0)
    done = continuations(transplants, lambda item: "1</answer>")
    with pytest.raises(AssertionError):
        follow_rate(transplants, done[:1], TAGS, "strict")
    with pytest.raises(ValueError, match="no transplants"):
        follow_rate([], [], TAGS, "strict")
