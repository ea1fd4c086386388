"""Rollout actors: thin Ray wrappers around a vLLM engine, and the group the loop talks to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from typing import Any, Literal

import numpy as np
import ray

from r1reward.actors.weights import fetch
from r1reward.errors import ServiceError
from r1reward.interfaces import Sampling
from r1reward.metrics import Metrics, Name, last, maximum
from r1reward.recipe.components import EngineSettings
from r1reward.types import Rollout, RolloutRequest, WeightsHandle

logger = logging.getLogger(__name__)


@ray.remote
class RolloutActor:
    """One vLLM engine. Requests of one call enter it together; rollouts stream out as they finish."""

    def __init__(self, settings: EngineSettings) -> None:
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
                    token_ids=request.prompt.token_ids,
                    images=request.prompt.pair.images,
                    seed=request.seed,
                    temperature=sampling.temperature,
                    max_new_tokens=sampling.max_new_tokens,
                    top_p=sampling.top_p,
                    banned_token_ids=self.media_token_ids,
                )
                for request in requests
            ]
        )
        waiting = [
            finished_rollout(request, future)
            for request, future in zip(requests, futures, strict=True)
        ]
        for rollout in asyncio.as_completed(waiting):
            yield await rollout

    async def move(self, method: Literal["sleep", "wake_up"]) -> None:
        """Leave the GPU or come back to it."""
        await asyncio.wrap_future(getattr(self.engine, method)())

    async def load_weights(self, handle: WeightsHandle) -> float:
        """Pull, verify, swap. Returns the seconds the swap itself took."""
        buckets = await fetch(handle)
        return await asyncio.wrap_future(self.engine.load_weights(handle, buckets))


async def finished_rollout(request: RolloutRequest, future: Future[Any]) -> Rollout:
    done = await asyncio.wrap_future(future)
    return Rollout(
        request=request,
        prompt_token_ids=done.prompt_token_ids,
        response_token_ids=done.token_ids,
        text=done.text,
        logprobs=done.logprobs,
        policy_versions=np.full(len(done.token_ids), done.policy_version, dtype=np.int64),
        finish_reason=done.finish_reason,
    )


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
        await self.wait_for_one()
        ready = self.ready
        tasks = [
            asyncio.create_task(self.drain(index, share, sampling, finished))
            for first, index in enumerate(ready)
            if (share := list(requests[first :: len(ready)]))
        ]
        try:
            for _ in requests:
                item = await finished.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            for task in tasks:
                task.cancel()

    async def drain(
        self,
        index: int,
        requests: list[RolloutRequest],
        sampling: Sampling,
        finished: asyncio.Queue[Rollout | BaseException],
    ) -> None:
        """Stream one share into the queue; an error goes there too, for the reader to raise."""
        left = {(r.prompt.prompt_id, r.sample_index): r for r in requests}
        try:
            for attempt in range(self.max_retries + 1):
                try:
                    stream = (
                        self.actors[index]
                        .generate.options(num_returns="streaming")
                        .remote(list(left.values()), sampling)
                    )
                    async for ref in stream:
                        rollout: Rollout = await ref
                        request = rollout.request
                        del left[request.prompt.prompt_id, request.sample_index]
                        await finished.put(rollout)
                    return
                except ray.exceptions.RayActorError:
                    self.lost(index, len(left))
                    if not left:
                        return
                    if attempt == self.max_retries:
                        raise
                    index = await self.wait_for_one(after=index)
        except Exception as error:
            await finished.put(error)

    def lost(self, index: int, num_left: int = 0) -> None:
        """An actor died: bring it back while others go on."""
        if index not in self.returning:
            logger.warning(
                "rollout actor %d died with %d left; %d others go on",
                index,
                num_left,
                len(self.ready) - 1,
            )
            self.returning[index] = asyncio.create_task(self.bring_back(index))

    async def bring_back(self, index: int) -> None:
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

    async def wait_for_one(self, after: int = -1) -> int:
        """The next actor that is ready, or the first to come back.

        Raises what ended the last of them, or ``ServiceError`` if none is back in time.
        """
        if not self.ready:
            tasks = set(self.returning.values())
            deadline = asyncio.get_running_loop().time() + self.wait_s
            while not self.ready:
                left_s = max(0.0, deadline - asyncio.get_running_loop().time())
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
        await self.wait_for_one()
        seconds = await asyncio.gather(*(self.load_one(index, handle) for index in self.ready))
        await self.wait_for_one()
        return {
            Name.TIME_WEIGHT_SWAP_S: maximum(max(seconds)),
            Name.ROLLOUT_NUM_ENGINES: last(len(self.ready)),
        }

    async def load_one(self, index: int, handle: WeightsHandle) -> float:
        """Seconds of the swap; 0 for an actor that died over it."""
        try:
            seconds: float = await self.actors[index].load_weights.remote(handle)
        except ray.exceptions.RayActorError:
            self.lost(index)
            return 0.0
        return seconds
