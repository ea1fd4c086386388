"""Supervised fitting with fakes: order, held-out loss, checkpoints, going on after a stop."""

from __future__ import annotations

import asyncio

import pytest

from r1reward.recipe.recipe import Recipe
from r1reward.sft_loop import fit_traces
from r1reward.types import TraceSample
from tests.fakes import FakeLearner, MemoryRecorder, make_recipe
from tests.recipes import sft_settings

TRACES = [TraceSample((1, 2), (10 + number,), ()) for number in range(6)]
HELDOUT = [TraceSample((1,), (99, 98), ())] * 2


def fitting_recipe(num_steps: int) -> Recipe:
    return make_recipe(train__num_steps=num_steps, train__checkpoint_every=2)


def run(
    recipe: Recipe, learner: FakeLearner, start_step: int = 0, heldout: list[TraceSample] = HELDOUT
) -> MemoryRecorder:
    recorder = MemoryRecorder()
    asyncio.run(fit_traces(sft_settings(recipe, 2), TRACES, heldout, learner, recorder, start_step))
    return recorder


def numbers(learner: FakeLearner) -> list[list[int]]:
    return [[sample.response_token_ids[0] - 10 for sample in batch] for batch in learner.fitted]


def test_every_epoch_sees_every_trace_once_in_a_new_order() -> None:
    recipe, learner = fitting_recipe(6), FakeLearner()
    size = recipe.learner.train_batch_size
    run(recipe, learner)
    seen = [number for batch in numbers(learner) for number in batch]
    assert len(seen) == 6 * size
    epochs = [seen[start : start + 6] for start in range(0, len(seen), 6)]
    assert all(sorted(epoch) == list(range(6)) for epoch in epochs if len(epoch) == 6)
    assert epochs[0] != epochs[1]


def test_the_heldout_loss_is_measured_before_between_and_after() -> None:
    recorder = run(fitting_recipe(5), FakeLearner(level=-0.8))
    name = "supervised/heldout_loss"
    found = {r.step: r.metrics[name] for r in recorder.reports if name in r.metrics}
    assert found == pytest.approx({0: 0.8, 2: 0.2, 4: 0.05, 5: 0.025})
    losses = [r.metrics["supervised/loss"] for r in recorder.reports if r.step]
    assert losses == pytest.approx([0.8, 0.4, 0.2, 0.1, 0.05])
    assert recorder.reports[1].metrics["supervised/num_tokens"] == len(
        [token for s in TRACES[:2] for token in s.response_token_ids]
    )


def test_without_heldout_traces_there_is_no_heldout_loss() -> None:
    recorder = run(fitting_recipe(2), FakeLearner(), heldout=[])
    assert [report.step for report in recorder.reports] == [1, 2]
    assert not any("heldout" in name for r in recorder.reports for name in r.metrics)


def test_checkpoints_come_in_turn_and_at_the_end() -> None:
    assert run(fitting_recipe(5), FakeLearner()).checkpoints == [2, 4, 5]


def test_a_resumed_run_sees_what_the_whole_one_would_have() -> None:
    whole, rest = FakeLearner(), FakeLearner()
    run(fitting_recipe(5), whole)
    recorder = run(fitting_recipe(5), rest, start_step=2)
    assert numbers(rest) == numbers(whole)[2:]
    assert [report.step for report in recorder.reports] == [3, 4, 5]
