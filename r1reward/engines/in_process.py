"""Generator and learner in this process: the loop's protocols without Ray, vLLM or a second process.

The learner is the same DeepSpeed rank, alone; only who calls it differs. Calls block the event loop, so
nothing overlaps: for studies of many small runs, for a debugger, for reading along.
"""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from r1reward.algorithm.batch import (
    BatchSize,
    cut_micro_batches,
    num_response_tokens,
    pick,
    put_back,
)
from r1reward.engines.deepspeed_engine import DeepSpeedRank, RankAddress
from r1reward.engines.torch_sampler import TorchSampler
from r1reward.interfaces import Sampling
from r1reward.metrics import Metrics, maximum
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.recipe import EngineRecipe, Recipe
from r1reward.runs.storage import fetched, forget, written_to
from r1reward.types import (
    Location,
    Rollout,
    RolloutRequest,
    TraceSample,
    TrainingSample,
    WeightsHandle,
)


class InProcessGenerator:
    def __init__(self, recipe: EngineRecipe, processor: PolicyProcessor) -> None:
        engine = recipe.rollout.engine
        self.sampler = TorchSampler(
            recipe.model,
            processor,
            engine.max_num_seqs,
            recipe.placement.device,
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
        return {"time/weight_swap_s": maximum(time.monotonic() - started)}


class InProcessLearner:
    """One rank, which takes all micro-batches."""

    def __init__(self, recipe: Recipe) -> None:
        self.settings = recipe.learner
        self.scratch = recipe.run_dir
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.rank = DeepSpeedRank(recipe, RankAddress(0, 1, "127.0.0.1", port))

    def cuts(self, samples: Sequence[TraceSample]) -> list[list[int]]:
        settings = self.settings
        lengths = [sample.num_tokens for sample in samples]
        return cut_micro_batches(lengths, settings.micro_batch_tokens, settings.packing)

    async def logprobs(
        self, samples: Sequence[TraceSample], model: Literal["policy", "reference"]
    ) -> list[np.ndarray]:
        cuts = self.cuts(samples)
        found = put_back(cuts, self.rank.logprobs(pick(samples, cuts), len(cuts), model))
        return [found[i] for i in range(len(samples))]

    async def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        cuts = self.cuts(samples)
        size = BatchSize(len(samples), num_response_tokens(samples))
        return self.rank.update(pick(samples, cuts), len(cuts), size)

    async def fit(self, samples: Sequence[TraceSample]) -> Metrics:
        cuts = self.cuts(samples)
        return self.rank.fit(pick(samples, cuts), len(cuts), num_response_tokens(samples))

    async def evaluate_loss(self, samples: Sequence[TraceSample]) -> Metrics:
        cuts = self.cuts(samples)
        num_tokens = num_response_tokens(samples)
        return self.rank.evaluate_loss(pick(samples, cuts), len(cuts), num_tokens)

    async def publish(self, version: int) -> WeightsHandle:
        """The bundle's refs are the bytes themselves."""
        buckets = [bucket for bucket in self.rank.weight_buckets() if bucket is not None]
        headers, data = zip(*buckets, strict=True)
        return WeightsHandle(version, headers, data)

    async def save(self, folder: Location) -> None:
        with written_to(folder, self.scratch) as path:
            self.rank.save(path)

    async def load(self, folder: Location) -> None:
        self.rank.load(fetched(folder, self.scratch, self.rank.reads))
        forget(folder, self.scratch)

    async def export(self, folder: Path) -> None:
        self.rank.export(folder)
