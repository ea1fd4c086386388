"""Rollout actors that die: who takes over, who comes back with which weights, and when it is enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import ray

from r1reward.actors.rollout import RolloutGroup
from r1reward.errors import ServiceError
from r1reward.interfaces import Sampling
from r1reward.metrics import Metrics, Name, maximum
from r1reward.types import Rollout, RolloutRequest, WeightsHandle
from tests.fakes import make_recipe, make_rollout, requests_for_step, right_answer


@dataclass
class Method:
    """Called as Ray's actor methods are."""

    call: Callable[..., Any]

    def options(self, **_: object) -> Method:
        return self

    def remote(self, *arguments: object) -> Any:
        return self.call(*arguments)


@dataclass
class FakeActor:
    """Dies after so many rollouts; whoever waits for it waits until ``back`` is set."""

    dies_after: int | None = None
    back: asyncio.Event = field(default_factory=asyncio.Event)
    gone: bool = False
    is_dead: bool = False
    version: int = -1
    served: list[str] = field(default_factory=list)
    while_loading: Callable[[], None] | None = None

    @property
    def ready(self) -> Method:
        return Method(self.come_back)

    @property
    def generate(self) -> Method:
        return Method(self.stream)

    @property
    def load_weights(self) -> Method:
        return Method(self.load)

    async def come_back(self) -> int:
        if self.gone:
            raise ray.exceptions.ActorDiedError()
        await self.back.wait()
        self.is_dead = False
        return 0

    async def load(self, handle: WeightsHandle) -> Metrics:
        if self.is_dead:
            raise ray.exceptions.ActorDiedError()
        if self.while_loading is not None:
            self.while_loading()
            self.while_loading = None
        self.version = handle.version
        return {Name.TIME_WEIGHT_SWAP_S: maximum(0.1)}

    async def stream(
        self, requests: Sequence[RolloutRequest], sampling: Sampling
    ) -> AsyncIterator[Awaitable[Rollout]]:
        for request in requests:
            await asyncio.sleep(0)
            if self.is_dead or self.dies_after == 0:
                self.is_dead, self.dies_after = True, None
                raise ray.exceptions.ActorDiedError()
            if self.dies_after is not None:
                self.dies_after -= 1
            self.served.append(request.prompt.prompt_id)
            yield value(make_rollout(request, right_answer(request), self.version))


async def value(rollout: Rollout) -> Rollout:
    return rollout


def handle(version: int) -> WeightsHandle:
    return WeightsHandle(version, (), ())


REQUESTS = requests_for_step(make_recipe(rollout__prompts_per_step=8), 0)
WANTED = sorted(request.prompt.prompt_id for request in REQUESTS)
SAMPLING = Sampling(1.0, 16)


async def batch(group: RolloutGroup) -> list[Rollout]:
    return [rollout async for rollout in group.generate(REQUESTS, SAMPLING)]


def ids(rollouts: Sequence[Rollout]) -> list[str]:
    return sorted(rollout.request.prompt.prompt_id for rollout in rollouts)


def test_another_actor_finishes_what_a_dead_one_has_left_and_nothing_twice() -> None:
    async def run() -> None:
        first, second = FakeActor(dies_after=1), FakeActor()
        group = RolloutGroup([first, second], max_retries=1)
        metrics = await group.load_weights(handle(3))
        assert metrics[Name.ROLLOUT_NUM_ENGINES].value == 2
        rollouts = await batch(group)
        assert ids(rollouts) == WANTED
        assert len(first.served) == 1 and len(second.served) == 7
        # The next steps do not wait for it, and it comes back with what is newest then.
        metrics = await group.load_weights(handle(4))
        assert metrics[Name.ROLLOUT_NUM_ENGINES].value == 1
        assert ids(await batch(group)) == WANTED
        assert first.version == 3
        first.back.set()
        await asyncio.gather(*group.returning.values())
        assert first.version == 4
        metrics = await group.load_weights(handle(5))
        assert metrics[Name.ROLLOUT_NUM_ENGINES].value == 2
        assert (first.version, second.version) == (5, 5)

    asyncio.run(run())


def test_the_only_actor_is_waited_for() -> None:
    async def run() -> None:
        only = FakeActor(dies_after=3)
        group = RolloutGroup([only], max_retries=1)
        await group.load_weights(handle(1))
        asyncio.get_running_loop().call_later(0.01, only.back.set)
        rollouts = await batch(group)
        assert ids(rollouts) == WANTED
        assert only.served == [request.prompt.prompt_id for request in REQUESTS]

    asyncio.run(run())


def test_an_actor_that_dies_over_new_weights_is_left_behind() -> None:
    async def run() -> None:
        first, second = FakeActor(is_dead=True), FakeActor()
        group = RolloutGroup([first, second], max_retries=1)
        await group.load_weights(handle(1))
        assert group.ready == [1]
        assert ids(await batch(group)) == WANTED

    asyncio.run(run())


def test_weights_that_are_published_while_an_actor_comes_back_reach_it() -> None:
    async def run() -> None:
        first, second = FakeActor(dies_after=1), FakeActor()
        group = RolloutGroup([first, second], max_retries=1)
        await group.load_weights(handle(1))
        await batch(group)

        def publish() -> None:
            group.handle = handle(2)

        first.while_loading = publish
        first.back.set()
        await asyncio.gather(*group.returning.values())
        assert first.version == 2

    asyncio.run(run())


def test_no_room_for_any_actor_is_an_error_that_names_the_wait() -> None:
    async def run() -> None:
        group = RolloutGroup([FakeActor(dies_after=1)], max_retries=3, wait_s=0.01)
        await group.load_weights(handle(1))
        with pytest.raises(ServiceError, match=r"placement\.wait_s \(0\.01 s\)"):
            await batch(group)

    asyncio.run(run())


def test_the_death_of_the_last_actor_for_good_ends_the_run() -> None:
    async def run() -> None:
        group = RolloutGroup([FakeActor(dies_after=1, gone=True)], max_retries=3)
        await group.load_weights(handle(1))
        with pytest.raises(ray.exceptions.ActorDiedError):
            await batch(group)

    asyncio.run(run())


def test_a_share_that_kills_every_actor_is_not_passed_on_for_ever() -> None:
    async def run() -> None:
        actors = [FakeActor(dies_after=0) for _ in range(3)]
        group = RolloutGroup(actors, max_retries=1)
        await group.load_weights(handle(1))
        with pytest.raises(ray.exceptions.ActorDiedError):
            await batch(group)

    asyncio.run(run())
