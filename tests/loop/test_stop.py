"""Stopping on request: the step in flight ends, its checkpoint is written, nothing else is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import pytest

from r1reward import loop
from r1reward.errors import StoppedError
from r1reward.metrics import Metrics
from r1reward.sft_loop import fit_traces
from r1reward.types import TraceSample, TrainingSample
from tests.fakes import (
    FakeGenerator,
    FakeJudge,
    FakeLearner,
    MemoryRecorder,
    make_recipe,
    requests_for_step,
)
from tests.recipes import live_source, loop_settings, sft_settings


class StoppedLearner(FakeLearner):
    """Somebody asks for a stop in the middle of an update, counted from 1."""

    stop: asyncio.Event
    at_update = 0
    num_updates = 0

    def count(self) -> None:
        self.num_updates += 1
        if self.num_updates == self.at_update:
            self.stop.set()

    async def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        self.count()
        return await super().update(samples)

    async def fit(self, samples: Sequence[TraceSample]) -> Metrics:
        self.count()
        return await super().fit(samples)


def train(at_update: int, every: int, start_step: int = 0, lag: int = 0) -> MemoryRecorder:
    """Two updates a step, eight steps."""
    recipe = make_recipe(
        train__num_steps=8, train__checkpoint_every=every, train__max_policy_lag=lag
    )
    learner, recorder = StoppedLearner(), MemoryRecorder()
    source = live_source(recipe, FakeGenerator(), FakeJudge(), partial(requests_for_step, recipe))

    async def run() -> None:
        learner.stop, learner.at_update = asyncio.Event(), at_update
        if at_update == 0:
            learner.stop.set()
        await loop.run(
            loop_settings(recipe), source, learner, recorder, start_step, None, learner.stop
        )

    with pytest.raises(ExceptionGroup) as stopped:
        asyncio.run(run())
    assert [type(error) for error in stopped.value.exceptions] == [StoppedError]
    return recorder


@pytest.mark.parametrize("lag", [0, 2])
def test_the_step_in_flight_ends_and_has_a_checkpoint(lag: int) -> None:
    recorder = train(at_update=5, every=100, lag=lag)
    assert [report.step for report in recorder.reports] == [1, 2, 3]
    assert recorder.checkpoints == [3]


def test_a_checkpoint_that_is_there_is_not_written_twice() -> None:
    assert train(at_update=6, every=3).checkpoints == [3]


@pytest.mark.parametrize("start_step", [0, 4])
def test_nothing_new_is_no_checkpoint(start_step: int) -> None:
    recorder = train(at_update=0, every=100, start_step=start_step)
    assert recorder.checkpoints == []
    assert recorder.reports == []


def test_a_stop_in_the_last_step_is_its_end() -> None:
    recipe = make_recipe(train__num_steps=2, train__checkpoint_every=100)
    learner, recorder = StoppedLearner(), MemoryRecorder()
    source = live_source(recipe, FakeGenerator(), FakeJudge(), partial(requests_for_step, recipe))

    async def run() -> None:
        learner.stop, learner.at_update = asyncio.Event(), 4
        await loop.run(loop_settings(recipe), source, learner, recorder, 0, None, learner.stop)

    asyncio.run(run())
    assert recorder.checkpoints == [2]


def test_fitting_stops_alike() -> None:
    recipe = make_recipe(train__num_steps=8, train__checkpoint_every=100)
    learner, recorder = StoppedLearner(), MemoryRecorder()
    traces = [TraceSample((1, 2), (10 + number,), ()) for number in range(6)]

    async def run() -> None:
        learner.stop, learner.at_update = asyncio.Event(), 3
        await fit_traces(sft_settings(recipe, 2), traces, [], learner, recorder, 0, learner.stop)

    with pytest.raises(StoppedError, match="stopped after step 3"):
        asyncio.run(run())
    assert recorder.checkpoints == [3]
