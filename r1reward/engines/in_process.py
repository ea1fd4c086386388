"""Generator and learner in this process: the loop's protocols without Ray, vLLM or a second process.

The learner is the same DeepSpeed rank, alone; only who calls it differs. Calls block the event loop, so
nothing overlaps: for studies of many small runs, for a debugger, for reading along.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from r1reward.engines.deepspeed_engine import DeepSpeedRank
from r1reward.engines.deepspeed_setup import RankAddress, free_port
from r1reward.engines.learner_group import LearnerGroup
from r1reward.engines.torch_sampler import TorchSampler
from r1reward.interfaces import Sampling
from r1reward.metrics import Metrics, Name, maximum
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.components import EngineSettings, LearnerSettings
from r1reward.types import Rollout, RolloutRequest, WeightsHandle


class InProcessGenerator:
    def __init__(self, settings: EngineSettings) -> None:
        engine = settings.engine
        self.sampler = TorchSampler(
            settings.model,
            PolicyProcessor(settings.model),
            engine.max_num_seqs,
            settings.placement.device,
            int(engine.mm_processor_cache_gb * 1024),
        )

    async def generate(
        self, requests: Sequence[RolloutRequest], sampling: Sampling
    ) -> AsyncIterator[Rollout]:
        for batch in self.sampler.generate(requests, sampling):
            for rollout in batch:
                yield rollout

    async def load_weights(self, handle: WeightsHandle) -> Metrics:
        started = time.monotonic()
        self.sampler.load_weights(handle)
        return {Name.TIME_WEIGHT_SWAP_S: maximum(time.monotonic() - started)}


@dataclass
class InProcessSync:
    """Publishes bundles whose refs are the bytes themselves."""

    rank: DeepSpeedRank
    handle: WeightsHandle = field(init=False)

    async def begin(self, version: int) -> None:
        headers, buckets = zip(*self.rank.weight_buckets(), strict=True)
        self.handle = WeightsHandle(version, headers, buckets)

    async def finish(self) -> WeightsHandle:
        return self.handle


def in_process_learner(settings: LearnerSettings) -> LearnerGroup:
    """A learner of one rank, which is in this process."""
    host = "127.0.0.1"
    only_rank = DeepSpeedRank(settings, RankAddress(0, 1, host, free_port(host)))

    async def call(method: str, arguments: Sequence[tuple[object, ...]]) -> list[Any]:
        return [getattr(only_rank, method)(*arguments[0])]

    return LearnerGroup(call, settings.learner, InProcessSync(only_rank))
