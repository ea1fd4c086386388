"""Weight bundles in the object store: rollout actors pull, nobody waits for anybody.

A bucket travels as a uint8 numpy array, which Ray maps into the reader's memory without a copy; a
torch tensor would be pickled. The driver owns the objects (a learner method returned them), so they
outlive the rank that made them.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import Any, cast

import numpy as np
import ray

from r1reward.engines.weight_buckets import verify
from r1reward.types import WeightBucket, WeightsHandle

# A bundle's buckets in the store, each behind its header.
Bundle = list[tuple[WeightBucket, ray.ObjectRef]]


class ObjectStoreSync:
    """Rank 0 streams its buckets into the object store; the other ranks take part in the gathers."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self.actors = actors
        self.version = 0
        self.streams: list[Any] = []
        # What the store keeps: the newest bundle, and the one an engine may still be pulling.
        self.kept: deque[WeightsHandle] = deque(maxlen=2)

    async def begin(self, version: int) -> None:
        """Tell the ranks, who publish before they do anything that they are told later."""
        self.version = version
        self.streams = [
            actor.stream.options(num_returns="streaming").remote("publish") for actor in self.actors
        ]

    async def finish(self) -> WeightsHandle:
        streams, self.streams = self.streams, []
        bundle, *_ = await asyncio.gather(*(received(stream) for stream in streams))
        headers, refs = zip(*bundle, strict=True)
        handle = WeightsHandle(self.version, headers, refs)
        self.kept.append(handle)
        return handle


async def received(stream: Any) -> Bundle:
    """What one rank streams: header, bytes, header, bytes and so on, or nothing."""
    return [(await header, await anext(stream)) async for header in stream]


async def fetch(handle: WeightsHandle) -> list[np.ndarray]:
    """Every bucket of a bundle, verified, before any engine is touched.

    Raises ``ValueError`` when a bucket is damaged, and Ray's error when the store has lost one.
    """
    refs = cast(list[Awaitable[np.ndarray]], list(handle.refs))
    buckets = await asyncio.gather(*refs)
    for header, data in zip(handle.buckets, buckets, strict=True):
        verify(header, data)
    return buckets
