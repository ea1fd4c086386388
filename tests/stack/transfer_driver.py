"""Driver of `test_transfers.py`: readers on one node fetch a bundle that was published on another."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import ray

from r1reward.actors.weights import ObjectStoreSync, fetch
from r1reward.engines.weight_buckets import checksum
from r1reward.types import WeightBucket, WeightsHandle


@ray.remote(num_cpus=0, resources={"learner": 1})
class Publisher:
    def stream(self, method: str) -> Iterator[object]:
        assert method == "publish"
        for number in range(4):
            data = np.full(16 * 2**20, number, dtype=np.uint8)
            yield WeightBucket(
                (f"w{number}",), ((data.size,),), ("uint8",), checksum(data), data.size
            )
            yield data


@ray.remote(num_cpus=0, resources={"engine": 1})
class Reader:
    async def read(self, handle: WeightsHandle) -> tuple[int, str]:
        buckets = await fetch(handle)
        return sum(len(bucket) for bucket in buckets), ray.get_runtime_context().get_node_id()


# Ray's decorator is not typed.
PUBLISHER: Any = Publisher
READER: Any = Reader


async def main(num_readers: int) -> None:
    weight_sync = ObjectStoreSync([PUBLISHER.remote()])
    await weight_sync.begin(1)
    handle = await weight_sync.finish()
    readers = [READER.remote() for _ in range(num_readers)]
    found = await asyncio.gather(*(reader.read.remote(handle) for reader in readers))
    assert all(size == handle.num_bytes for size, _ in found)
    assert len({node for _, node in found}) == 1
    print(handle.num_bytes)


if __name__ == "__main__":
    ray.init(log_to_driver=False)
    asyncio.run(main(int(sys.argv[1])))
