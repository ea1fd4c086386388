"""Rollout actors: thin Ray wrappers around a vLLM engine, and the group the loop talks to."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, Literal

import ray

from r1reward.actors.quick_start import without_garbage_collection
from r1reward.actors.weights import fetch
from r1reward.errors import ServiceError
from r1reward.interfaces import Sampling
from r1reward.metrics import Metrics, Name, last, merge
from r1reward.recipe.components import EngineSettings
from r1reward.types import Rollout, RolloutRequest, WeightsHandle

logger = logging.getLogger(__name__)


@ray.remote
class RolloutActor:
    """One vLLM engine. Requests of one call enter it together; rollouts stream out as they finish."""

    def __init__(self, settings: EngineSettings) -> None:
        with without_garbage_collection():
            from r1reward.engines.vllm_engine import VllmEngine
            from r1reward.models.processor import PolicyProcessor

            self.engine = VllmEngine(settings)
            # They stand for images, so they are never sampled.
            self.media_token_ids = PolicyProcessor(settings.model).media_token_ids

    # A repeated question is harmless, so Ray may repeat it while the actor is being restarted.
    @ray.method(max_task_retries=-1)
    async def ready(self) -> int:
        return self.engine.version

    async def generate(
        self, requests: Sequence[RolloutRequest], sampling: Sampling
    ) -> AsyncIterator[Rollout]:
        from r1reward.engines.vllm_engine import EngineRequest

        futures = self.engine.submit(
            [
                EngineRequest(
                    request.prompt.token_ids,
                    request.prompt.pair.images,
                    request.seed,
                    sampling,
                    self.media_token_ids,
                )
                for request in requests
            ]
        )
        for rollout in asyncio.as_completed(map(finished_rollout, requests, futures)):
            yield await rollout

    async def move(self, method: Literal["sleep", "wake_up"]) -> None:
        """Leave the GPU or come back to it."""
        await asyncio.wrap_future(getattr(self.engine, method)())

    async def load_weights(self, handle: WeightsHandle) -> Metrics:
        """Pull, verify, swap. Returns the engine's times, as ``VllmEngine.load_weights`` does."""
        buckets = await fetch(handle)
        return await asyncio.wrap_future(self.engine.load_weights(handle, buckets))


async def finished_rollout(request: RolloutRequest, future: Future[Any]) -> Rollout:
    return Rollout(request, **vars(await asyncio.wrap_future(future)))


class RolloutGroup:
    """All rollout actors as one ``Generator``.

    Requests are dealt round-robin, so which engine serves a request depends on nothing but its index
    in the batch. When an actor dies, another takes over what it had not finished. Ray restarts it, on
    another node if its own is gone, and it joins again once it holds the newest weights.
    """

    def __init__(self, actors: Sequence[Any], max_retries: int, wait_s: float = 600) -> None:
        self.actors = list(actors)
        self.max_retries = max_retries
        self.wait_s = wait_s
        self.handle: WeightsHandle | None = None
        self.returning: dict[int, asyncio.Task[None]] = {}

    @property
    def ready(self) -> list[int]:
        """The indices of the actors that can be asked now."""
        return [index for index in range(len(self.actors)) if index not in self.returning]

    async def generate(
        self, requests: Sequence[RolloutRequest], sampling: Sampling
    ) -> AsyncIterator[Rollout]:
        finished: asyncio.Queue[Rollout | BaseException] = asyncio.Queue()

        def report_failure(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                finished.put_nowait(error)

        await self.next_ready()
        actors = self.ready[: len(requests)]
        with ExitStack() as at_end:
            for first, index in enumerate(actors):
                share = requests[first :: len(actors)]
                task = asyncio.create_task(self.drain(index, share, sampling, finished))
                task.add_done_callback(report_failure)
                at_end.callback(task.cancel)
            for _ in requests:
                item = await finished.get()
                if isinstance(item, BaseException):
                    raise item
                yield item

    async def drain(
        self,
        index: int,
        requests: Sequence[RolloutRequest],
        sampling: Sampling,
        finished: asyncio.Queue[Rollout | BaseException],
    ) -> None:
        """Stream one share into the queue, from another actor when one dies."""
        left = {(r.prompt.prompt_id, r.sample_index): r for r in requests}
        for attempt in range(self.max_retries + 1):
            generate = self.actors[index].generate.options(num_returns="streaming")
            try:
                async for ref in generate.remote(list(left.values()), sampling):
                    rollout: Rollout = await ref
                    request = rollout.request
                    del left[request.prompt.prompt_id, request.sample_index]
                    await finished.put(rollout)
                return
            except ray.exceptions.RayActorError:
                self.actor_died(index, len(left))
                if not left:
                    return
                if attempt == self.max_retries:
                    raise
                index = await self.next_ready(after=index)

    def actor_died(self, index: int, num_left: int = 0) -> None:
        """Let the actor join again when Ray has restarted it, while others go on."""
        if index not in self.returning:
            logger.warning(
                "rollout actor %d died with %d left; %d others go on",
                index,
                num_left,
                len(self.ready) - 1,
            )
            self.returning[index] = asyncio.create_task(self.rejoin(index))

    async def rejoin(self, index: int) -> None:
        """Wait until Ray has restarted an actor and give it the newest weights, which may change."""
        loaded = None
        actor = self.actors[index]
        try:
            await actor.ready.remote()
            while loaded is not self.handle:
                loaded = self.handle
                await actor.load_weights.options(max_task_retries=-1).remote(loaded)
        except Exception as error:
            logger.warning("rollout actor %d does not come back: %s", index, error)
            raise
        del self.returning[index]
        logger.info("rollout actor %d is back", index)

    async def next_ready(self, after: int = -1) -> int:
        """The next actor that is ready, or the first to come back.

        Raises what ended the last of them, or ``ServiceError`` if none is back in time.
        """
        tasks = set(self.returning.values())
        deadline = time.monotonic() + self.wait_s
        while not self.ready:
            left_s = max(0.0, deadline - time.monotonic())
            done, tasks = await asyncio.wait(
                tasks, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise ServiceError(
                    f"every rollout actor died and none came back within placement.wait_s "
                    f"({self.wait_s:g} s): the cluster has no room left for one"
                )
            if not tasks and not self.ready:
                done.pop().result()
        return min(self.ready, key=lambda index: (index <= after, index))

    async def load_weights(self, handle: WeightsHandle) -> Metrics:
        """Give the weights to every actor that is ready; the others get them as they come back."""
        self.handle = handle
        await self.next_ready()
        times = await asyncio.gather(*(self.load_one(index, handle) for index in self.ready))
        await self.next_ready()
        return merge(times) | {Name.ROLLOUT_NUM_ENGINES: last(len(self.ready))}

    async def load_one(self, index: int, handle: WeightsHandle) -> Metrics:
        """The engine's times; none of an actor that died over it."""
        try:
            times: Metrics = await self.actors[index].load_weights.remote(handle)
        except ray.exceptions.RayActorError:
            self.actor_died(index)
            return {}
        return times
