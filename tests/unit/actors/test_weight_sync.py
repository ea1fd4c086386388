"""Publishing through the object store in two steps, with Ray's actors faked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from r1reward.actors.weights import ObjectStoreSync, fetch
from r1reward.engines.weight_buckets import checksum
from r1reward.types import WeightBucket, WeightsHandle


async def stored(item: object) -> object:
    return item


@dataclass
class StreamingActor:
    """A rank: what it is told to stream it streams as it is at that moment."""

    weights: list[np.ndarray]
    fails: bool = False
    told: list[str] = field(default_factory=list)

    @property
    def stream(self) -> StreamingActor:
        return self

    def options(self, **options: object) -> StreamingActor:
        assert options == {"num_returns": "streaming"}
        return self

    def remote(self, method: str) -> AsyncIterator[Awaitable[object]]:
        self.told.append(method)
        return self.items([data.copy() for data in self.weights])

    async def items(self, weights: list[np.ndarray]) -> AsyncIterator[Awaitable[object]]:
        for number, data in enumerate(weights):
            if self.fails:
                raise OSError("the rank died")
            size = data.nbytes
            names = (f"w{number}",)
            yield stored(WeightBucket(names, ((size,),), ("uint8",), checksum(data), size))
            yield stored(data)


def ranks() -> tuple[StreamingActor, StreamingActor]:
    return StreamingActor([np.full(4, number, dtype=np.uint8) for number in (1, 2)]), (
        StreamingActor([])
    )


def test_the_bundle_holds_the_weights_of_the_beginning() -> None:
    async def run() -> tuple[WeightsHandle, list[Any]]:
        first, second = ranks()
        weight_sync = ObjectStoreSync([first, second])
        await weight_sync.begin(3)
        # Every rank takes part before anybody waits, and what comes later changes nothing.
        assert first.told == second.told == ["publish"]
        first.weights[0][:] = 9
        handle = await weight_sync.finish()
        return handle, await fetch(handle)

    handle, buckets = asyncio.run(run())
    assert handle.version == 3
    assert [bucket.names for bucket in handle.buckets] == [("w0",), ("w1",)]
    assert [data.tolist() for data in buckets] == [[1] * 4, [2] * 4]


def test_the_newest_two_bundles_are_kept() -> None:
    async def run() -> list[int]:
        weight_sync = ObjectStoreSync(ranks())
        for version in range(4):
            await weight_sync.begin(version)
            handle = await weight_sync.finish()
            await fetch(handle)
        return [handle.version for handle in weight_sync.kept]

    assert asyncio.run(run()) == [2, 3]


def test_a_rank_that_dies_ends_the_publication() -> None:
    async def run() -> None:
        first, second = ranks()
        first.fails = True
        weight_sync = ObjectStoreSync([first, second])
        await weight_sync.begin(0)
        await weight_sync.finish()

    with pytest.raises(OSError, match="the rank died"):
        asyncio.run(run())
