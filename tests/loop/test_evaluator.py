"""When the loop evaluates, and with which weights."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from r1reward import loop
from tests.fakes import (
    FakeEvaluator,
    FakeGenerator,
    FakeJudge,
    FakeLearner,
    MemoryRecorder,
    make_recipe,
    requests_for_step,
)
from tests.recipes import live_source, loop_settings


def run_evaluated(
    due_after: set[int],
    lag: int = 0,
    num_steps: int = 6,
    start_step: int = 0,
    fails_at: int | None = None,
    generator: FakeGenerator | None = None,
    learner: FakeLearner | None = None,
) -> FakeEvaluator:
    """The evaluator looks at batches sampled, updates made and versions published."""
    recipe = make_recipe(train__num_steps=num_steps, train__max_policy_lag=lag)
    generator, learner = generator or FakeGenerator(), learner or FakeLearner()
    source = live_source(recipe, generator, FakeJudge(), partial(requests_for_step, recipe))

    def look() -> tuple[int, int, int]:
        return len(generator.versions_used), len(learner.updates), learner.published[-1]

    evaluator = FakeEvaluator(frozenset(due_after), look, fails_at)
    asyncio.run(
        loop.run(loop_settings(recipe), source, learner, MemoryRecorder(), start_step, evaluator)
    )
    return evaluator


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_due_steps_are_evaluated_with_exactly_their_weights_while_all_else_rests(lag: int) -> None:
    generator = FakeGenerator()
    evaluator = run_evaluated({0, 2, 3, 6}, lag, generator=generator)
    assert evaluator.versions == [0, 2, 3, 6]
    # After s steps: s batches sampled, two updates each, version s published, at begin and end.
    assert evaluator.seen == [((s, 2 * s, s), (s, 2 * s, s)) for s in (0, 2, 3, 6)]
    assert len(generator.versions_used) == 6


@pytest.mark.parametrize("lag", [0, 1, 3])
def test_training_is_the_same_with_an_evaluator_that_is_never_due(lag: int) -> None:
    generator = FakeGenerator()
    assert run_evaluated(set(), lag, generator=generator).versions == []
    assert len(generator.versions_used) == 6


def test_after_an_evaluation_the_producer_runs_ahead_again() -> None:
    """Lag 2, a slow learner: steps 0 to 2 with version 0; step 3 with version 3, then ahead again."""
    generator = FakeGenerator()
    run_evaluated({3}, 2, generator=generator, learner=FakeLearner(turns_per_update=200))
    assert generator.versions_used == [0, 0, 0, 3, 3, 3]


@pytest.mark.parametrize("lag", [0, 3])
@pytest.mark.parametrize("step", [0, 2, 4])
def test_an_evaluators_error_ends_the_run(step: int, lag: int) -> None:
    learner = FakeLearner()
    with pytest.raises(ExceptionGroup) as caught:
        run_evaluated({0, 2, 4}, lag, 4, fails_at=step, learner=learner)
    assert caught.group_contains(OSError, match="the disk is full")
    assert learner.published[-1] == step
    assert len(learner.updates) == 2 * step


@pytest.mark.parametrize("lag", [0, 1, 3])
@pytest.mark.parametrize(
    ("start_step", "due_after", "evaluated"),
    [(2, {0, 2, 4}, [2, 4]), (3, {0, 2, 4}, [4]), (4, {0, 2, 4}, [4]), (4, {0, 2}, [])],
)
def test_a_resumed_run_evaluates_from_where_it_is(
    start_step: int, due_after: set[int], evaluated: list[int], lag: int
) -> None:
    """A run that was killed after its last step still makes the last evaluation."""
    evaluator = run_evaluated(due_after, lag, num_steps=4, start_step=start_step)
    assert evaluator.versions == evaluated
    steps = [s - start_step for s in evaluated]
    assert evaluator.seen == [
        ((n, 2 * n, s), (n, 2 * n, s)) for n, s in zip(steps, evaluated, strict=True)
    ]
