"""Which of the teacher's traces are learned, and which measure."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from r1reward.data.attempts import Attempt, append_attempt
from r1reward.data.verdict import parse_verdict
from r1reward.errors import InputError
from r1reward.models.processor import PolicyProcessor
from r1reward.pipeline.traces import SftInputs, load_traces
from r1reward.recipe.files import load_recipe
from r1reward.recipe.recipe import Recipe
from r1reward.shapes.pairs import make_scenes_and_pairs
from r1reward.shapes.teacher import Known, answer
from r1reward.shapes.trace import TAGS
from r1reward.types import Order

LOCAL = Path(__file__).parents[3] / "recipes" / "pipeline_local.yaml"
MADE = make_scenes_and_pairs("train", 60, seed=5)
PAIRS = [pair for _, pair in MADE]
NEVER_WRONG = {1: 0.0, 2: 0.0, 3: 0.0}


def order_of(number: int) -> Order:
    return "swapped" if number % 2 else "stored"


def trace_of(number: int) -> str:
    scene, pair = MADE[number]
    shown = pair if order_of(number) == "stored" else pair.swapped()
    return answer(Known(scene, shown), seed=1, noise=NEVER_WRONG)


def right_attempt(number: int, attempt_number: int = 1) -> Attempt:
    pair_id = PAIRS[number].pair_id
    return Attempt(
        pair_id, attempt_number, order_of(number), 1, trace_of(number), 1, True, well_formed=True
    )


@pytest.fixture
def attempts(tmp_path: Path) -> Path:
    """Everything agrees, at the first or second attempt, but pair 0 (never) and 1 (not yet asked)."""
    path = tmp_path / "attempts.jsonl"
    for number in range(2, 60):
        attempt = right_attempt(number)
        if number % 3 == 0:
            append_attempt(path, replace(attempt, agreed=False, text="wrong"))
            attempt = replace(attempt, number=2)
        append_attempt(path, attempt)
    for place in (1, 2, 3):
        append_attempt(path, replace(right_attempt(0), number=place, agreed=False, text="wrong"))
    return path


def load(attempts: Path, *overrides: str) -> tuple[Recipe, SftInputs]:
    recipe = load_recipe(LOCAL, ["sft.num_traces=null", "sft.batch_size=8", *overrides])
    assert recipe.sft is not None
    return recipe, load_traces(recipe, recipe.sft, PAIRS, attempts, 3)


def places(found: SftInputs) -> set[int]:
    return {trace.pair_index for trace in found.train.keys}


def test_the_agreeing_trace_is_learned_in_the_order_it_was_written_for(attempts: Path) -> None:
    recipe, found = load(attempts, "sft.heldout_share=0")
    assert places(found) == set(range(2, 60))
    processor = PolicyProcessor(recipe.model)
    for trace, sample in zip(found.train.keys, found.train, strict=True):
        assert trace.text == trace_of(trace.pair_index), "never the attempt that disagreed"
        pair = PAIRS[trace.pair_index]
        prompt = processor.encode(pair, order_of(trace.pair_index), recipe.prompt)
        assert sample.prompt_token_ids == processor.expand(prompt)
        assert sample.images == pair.images
        text = processor.tokenizer.decode(sample.response_token_ids[:-1])
        # What is learned names the response that people preferred, as it stands in the prompt.
        assert parse_verdict(text, TAGS, "strict").choice == prompt.label


def test_heldout_traces_are_others(attempts: Path) -> None:
    _, found = load(attempts, "sft.heldout_share=0.3")
    measured = {trace.pair_index for trace in found.heldout.keys}
    assert measured and not measured & places(found)
    assert measured | places(found) == set(range(2, 60))
    _, fewer = load(attempts, "sft.heldout_share=0.3", "sft.max_heldout=2")
    assert len(fewer.heldout) == 2


def test_pairs_of_one_question_stay_on_one_side(attempts: Path) -> None:
    grouped = [replace(pair, group=f"g{number // 6}") for number, pair in enumerate(PAIRS)]
    recipe = load_recipe(LOCAL, ["sft.batch_size=8", "sft.heldout_share=0.3"])
    assert recipe.sft is not None
    found = load_traces(recipe, recipe.sft, grouped, attempts, 3)
    sides = [
        {grouped[t.pair_index].group for t in side.keys} for side in (found.train, found.heldout)
    ]
    assert all(sides) and not sides[0] & sides[1]


def test_num_traces_draws_by_seed(attempts: Path) -> None:
    _, found = load(attempts, "sft.num_traces=20")
    _, again = load(attempts, "sft.num_traces=20")
    _, other = load(attempts, "sft.num_traces=20", "seed=1")
    assert len(found.train) == 20
    assert found.train.keys == again.train.keys
    assert places(found) != places(other)


def test_traces_that_break_the_form_or_were_cut_off_are_left_out(attempts: Path) -> None:
    for number, change in ((0, {"well_formed": False}), (1, {"truncated": True})):
        append_attempt(attempts, replace(right_attempt(number, attempt_number=1), **change))  # type: ignore[arg-type]
    _, found = load(attempts, "sft.heldout_share=0")
    assert 1 not in places(found)
    assert found.dropped["badly formed"] >= 1
    _, all_of_them = load(attempts, "sft.heldout_share=0", "sft.well_formed_only=false")
    assert 1 in places(all_of_them)


def test_a_trace_that_is_too_long_is_counted_and_left_out(attempts: Path) -> None:
    append_attempt(attempts, replace(right_attempt(1), text=trace_of(1) * 3))
    _, found = load(attempts, "sft.heldout_share=0")
    assert 1 not in places(found)
    assert found.dropped == {"too long or not encodable": 1}


def test_too_few_traces_are_one_sentence(attempts: Path) -> None:
    with pytest.raises(InputError, match="58 agreeing traces can be learned, fewer than"):
        load(attempts, "sft.batch_size=64", "sft.heldout_share=0")


def test_fewer_traces_than_wanted_are_warned_about(
    attempts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        load(attempts, "sft.num_traces=1000", "sft.heldout_share=0")
    assert "sft.num_traces is 1000, there are 58" in caplog.text


@pytest.mark.parametrize("text", ["<answer>1</answer>", "<think> </think><answer>1</answer>"])
def test_an_answer_without_an_analysis_is_never_learned(attempts: Path, text: str) -> None:
    append_attempt(attempts, replace(right_attempt(1), text=text))
    for well_formed_only in ("true", "false"):
        setting = f"sft.well_formed_only={well_formed_only}"
        _, found = load(attempts, "sft.heldout_share=0", setting)
        assert 1 not in places(found)
        assert found.dropped == {"without an analysis": 1}
