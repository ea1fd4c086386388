"""Sampling and learning on the same GPUs, in turn.

Before a side works, the other one leaves the GPU: engines sleep with their weights in host memory and
without their cache, the learner moves its states there. The loop knows nothing of it: these wrappers
speak its protocols and switch when they must.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from r1reward.interfaces import Generator, Judge, Learner, Sampling
from r1reward.metrics import Metrics
from r1reward.types import (
    JudgeWord,
    Location,
    Rollout,
    RolloutRequest,
    Slot,
    TraceSample,
    TrainingSample,
    WeightsHandle,
)

if TYPE_CHECKING:
    import numpy as np

Side = Literal["sampling", "learning"]


@dataclass(frozen=True)
class Tenant:
    """How a side leaves the GPUs and comes back to them."""

    leave: Callable[[], Awaitable[object]]
    come: Callable[[], Awaitable[object]]


class Turns:
    """Who has the GPUs. A side keeps them while it works; the other one waits for it to finish."""

    def __init__(self, tenants: Mapping[Side, Tenant], holder: Side) -> None:
        self.tenants = tenants
        self.holder = holder
        self.num_working = 0
        self.changed = asyncio.Condition()

    @asynccontextmanager
    async def work(self, side: Side) -> AsyncIterator[None]:
        async with self.changed:
            await self.changed.wait_for(lambda: self.holder == side or self.num_working == 0)
            if self.holder != side:
                # Under the lock: nobody may begin to work on a GPU that is being left.
                await self.tenants[self.holder].leave()
                await self.tenants[side].come()
                self.holder = side
            self.num_working += 1
        try:
            yield
        finally:
            async with self.changed:
                self.num_working -= 1
                self.changed.notify_all()


@dataclass(frozen=True)
class GeneratorInTurn:
    inner: Generator
    turns: Turns

    async def generate(
        self, requests: Sequence[RolloutRequest], sampling: Sampling
    ) -> AsyncIterator[Rollout]:
        async with self.turns.work("sampling"):
            async for rollout in self.inner.generate(requests, sampling):
                yield rollout

    async def load_weights(self, handle: WeightsHandle) -> Metrics:
        async with self.turns.work("sampling"):
            return await self.inner.load_weights(handle)


@dataclass(frozen=True)
class JudgeInTurn:
    inner: Judge
    turns: Turns

    async def judge(self, analysis: str, choice: Slot) -> JudgeWord:
        async with self.turns.work("sampling"):
            return await self.inner.judge(analysis, choice)


@dataclass(frozen=True)
class LearnerInTurn:
    inner: Learner
    turns: Turns

    async def logprobs(
        self, samples: Sequence[TraceSample], model: Literal["policy", "reference"]
    ) -> list[np.ndarray]:
        async with self.turns.work("learning"):
            return await self.inner.logprobs(samples, model)

    async def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        async with self.turns.work("learning"):
            return await self.inner.update(samples)

    async def fit(self, samples: Sequence[TraceSample]) -> Metrics:
        async with self.turns.work("learning"):
            return await self.inner.fit(samples)

    async def evaluate_loss(self, samples: Sequence[TraceSample]) -> Metrics:
        async with self.turns.work("learning"):
            return await self.inner.evaluate_loss(samples)

    async def publish(self, version: int) -> WeightsHandle:
        async with self.turns.work("learning"):
            return await self.inner.publish(version)

    async def save(self, folder: Location) -> None:
        async with self.turns.work("learning"):
            await self.inner.save(folder)

    async def load(self, folder: Location) -> None:
        async with self.turns.work("learning"):
            await self.inner.load(folder)

    async def export(self, folder: Path) -> None:
        async with self.turns.work("learning"):
            await self.inner.export(folder)
