"""Sampling and learning on the same GPUs: never both, whatever the loop does at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from r1reward import loop
from r1reward.actors.colocate import (
    Side,
    Tenant,
    Turns,
    in_turn,
)
from r1reward.data.requests import PromptSet
from r1reward.interfaces import Learner
from tests.fakes import (
    FakeEvaluator,
    FakeGenerator,
    FakeJudge,
    FakeLearner,
    MemoryRecorder,
    make_pair,
    make_prompt,
    make_recipe,
)
from tests.recipes import live_source, loop_settings, step_requests


@dataclass
class Gpu:
    """Whose memory is on it; a second tenant does not fit."""

    tenants: set[Side] = field(default_factory=lambda: {"learning"})
    moves: list[str] = field(default_factory=list)
    working: set[Side] = field(default_factory=set)

    async def leave(self, side: Side) -> None:
        await asyncio.sleep(0)
        assert side not in self.working, "a side was moved while it worked"
        self.tenants.remove(side)
        self.moves.append(f"-{side}")

    async def come(self, side: Side) -> None:
        await asyncio.sleep(0)
        assert not self.tenants, "both sides on one GPU"
        self.tenants.add(side)
        self.moves.append(f"+{side}")

    def turns(self) -> Turns:
        sides: tuple[Side, Side] = ("sampling", "learning")
        tenants = {
            side: Tenant(partial(self.leave, side), partial(self.come, side)) for side in sides
        }
        return Turns(tenants, holder="learning")


@dataclass
class Recorder(MemoryRecorder):
    """Saves a checkpoint slowly, while the loop already wants to sample the next step."""

    learner_busy: int = 0

    async def record_checkpoint(self, learner: Learner, num_steps_done: int) -> None:
        await learner.logprobs([], "policy")
        await super().record_checkpoint(learner, num_steps_done)


def test_a_run_changes_sides_twice_a_step_and_equals_one_that_does_not(tmp_path: Path) -> None:
    recipe = make_recipe(train__num_steps=3, train__checkpoint_every=1)
    pairs = [make_pair(i, preferred=1 if i % 2 else 2) for i in range(40)]
    requests = step_requests(recipe, PromptSet(pairs, make_prompt, 0))
    reports = []
    gpu = Gpu()
    for takes_turns in (False, True):
        generator, judge, learner = FakeGenerator(), FakeJudge(), FakeLearner()
        recorder = Recorder()
        if takes_turns:
            turns = gpu.turns()
            source = live_source(
                recipe,
                in_turn(generator, "sampling", turns),
                in_turn(judge, "sampling", turns),
                requests,
            )
            wrapped = in_turn(learner, "learning", turns)
            asyncio.run(loop.run(loop_settings(recipe), source, wrapped, recorder))
        else:
            asyncio.run(
                loop.run(
                    loop_settings(recipe),
                    live_source(recipe, generator, judge, requests),
                    learner,
                    recorder,
                )
            )
        reports.append(
            [
                {k: v for k, v in r.metrics.items() if not k.startswith("time/")}
                for r in recorder.reports
            ]
        )
        assert recorder.checkpoints == [1, 2, 3]
    assert reports[0] == reports[1]
    assert gpu.moves[:4] == ["-learning", "+sampling", "-sampling", "+learning"]
    # A checkpoint may be written before the engines are woken, or after: never beside them.
    assert 3 <= gpu.moves.count("+sampling") <= 6


def test_an_evaluation_is_sampled_in_its_turn() -> None:
    recipe = make_recipe(train__num_steps=2)
    pairs = [make_pair(i) for i in range(40)]
    requests = step_requests(recipe, PromptSet(pairs, make_prompt, 0))
    gpu = Gpu()
    turns = gpu.turns()
    source = live_source(
        recipe,
        in_turn(FakeGenerator(), "sampling", turns),
        in_turn(FakeJudge(), "sampling", turns),
        requests,
    )
    evaluator = FakeEvaluator(frozenset({0, 2}), look=lambda: None)
    learner = in_turn(FakeLearner(), "learning", turns)
    asyncio.run(
        loop.run(loop_settings(recipe), source, learner, MemoryRecorder(), evaluator=evaluator)
    )
    assert evaluator.versions == [0, 2]


def test_a_side_waits_until_the_other_has_finished() -> None:
    gpu = Gpu()

    async def run() -> list[str]:
        turns, order = gpu.turns(), []

        async def sample(name: str, num_turns: int) -> None:
            async with turns.work("sampling"):
                gpu.working.add("sampling")
                for _ in range(num_turns):
                    await asyncio.sleep(0)
                order.append(name)
                if name == "last":
                    gpu.working.discard("sampling")

        async def learn() -> None:
            await asyncio.sleep(0)
            async with turns.work("learning"):
                order.append("learn")

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sample("first", 3))
            tasks.create_task(sample("last", 9))
            tasks.create_task(learn())
        return order

    assert asyncio.run(run()) == ["first", "last", "learn"]


def test_an_error_ends_the_turn() -> None:
    gpu = Gpu()

    async def run() -> None:
        turns = gpu.turns()
        with pytest.raises(OSError, match="broken"):
            async with turns.work("sampling"):
                raise OSError("broken")
        async with asyncio.timeout(1), turns.work("learning"):
            pass

    asyncio.run(run())
    assert gpu.moves == ["-learning", "+sampling", "-sampling", "+learning"]
