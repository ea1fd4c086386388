"""Weight bundles in the object store: rollout actors pull, nobody waits for anybody.

A bucket travels as a uint8 numpy array, which Ray maps into the reader's memory without a copy; a
torch tensor would be pickled. The driver owns the objects (a learner method returned them), so they
outlive the rank that made them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

import numpy as np
import ray

from r1reward.engines.weight_buckets import verify
from r1reward.types import WeightBucket, WeightsHandle


async def publish(rank_0: Any, others: list[Any], version: int) -> WeightsHandle:
    """Stream rank 0's buckets into the object store; the other ranks take part in the gathers."""
    waiting = [rank.join_publish.remote() for rank in others]
    headers: list[WeightBucket] = []
    refs: list[ray.ObjectRef] = []
    stream = rank_0.publish.options(num_returns="streaming").remote()
    async for header_ref in stream:
        headers.append(await header_ref)
        refs.append(await anext(stream))
    for done in waiting:
        await done
    return WeightsHandle(version, tuple(headers), tuple(refs))


async def fetch(handle: WeightsHandle) -> list[np.ndarray]:
    """Every bucket of a bundle, verified, before any engine is touched.

    Raises ``ValueError`` when a bucket is damaged, and Ray's error when the store has lost one.
    """
    refs = cast(list[Awaitable[np.ndarray]], list(handle.refs))
    buckets = await asyncio.gather(*refs)
    for header, data in zip(handle.buckets, buckets, strict=True):
        verify(header, data)
    return buckets
