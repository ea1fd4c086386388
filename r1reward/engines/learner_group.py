"""All ranks of a learner as one ``Learner``, whether they are actors or this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from r1reward.algorithm.batch import BatchPlan
from r1reward.interfaces import WeightSync
from r1reward.metrics import Metrics, merge
from r1reward.recipe.learner_sections import LearnerSection
from r1reward.types import Location, TraceSample, TrainingSample

if TYPE_CHECKING:
    import numpy as np

# Calls one method of ``DeepSpeedRank`` on all ranks at once, because they meet in its collectives. Takes
# the method's name and the arguments for each rank; gives each rank's result.
CallRanks = Callable[[str, Sequence[tuple[object, ...]]], Awaitable[list[Any]]]
# The files of an exported model, each as its name and a piece of its content, in order.
FilePieces = AsyncIterator[tuple[str, bytes]]


@dataclass(frozen=True)
class LearnerGroup:
    """Cuts batches for the ranks and puts their results together.

    ``export_pieces`` brings the exported files here; it is None where this process sees the folder that
    rank 0 writes to.
    """

    call: CallRanks
    settings: LearnerSection
    weight_sync: WeightSync
    export_pieces: Callable[[], FilePieces] | None = None

    async def on_all_ranks(self, method: str, *arguments: object) -> None:
        """The same call on every rank."""
        await self.call(method, [arguments] * self.settings.num_ranks)

    def plan(self, samples: Sequence[TraceSample]) -> BatchPlan:
        """Which rank runs which samples. Raises as ``BatchPlan.cut`` does."""
        settings = self.settings
        lengths = [sample.num_tokens for sample in samples]
        # Where it is not decided yet, a budget for padded rows holds for packed ones as well.
        packing = settings.packing is True
        return BatchPlan.cut(lengths, settings.num_ranks, settings.micro_batch_tokens, packing)

    async def logprobs(
        self, samples: Sequence[TraceSample], model: Literal["policy", "reference"]
    ) -> list[np.ndarray]:
        plan = self.plan(samples)
        by_rank = await self.call("logprobs", [(batch, model) for batch in plan.deal(samples)])
        return plan.put_back(by_rank)

    async def metrics_of(self, method: str, samples: Sequence[TraceSample]) -> Metrics:
        batches = self.plan(samples).deal(samples)
        return merge(await self.call(method, [(batch,) for batch in batches]))

    async def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        return await self.metrics_of("update", samples)

    async def fit(self, samples: Sequence[TraceSample]) -> Metrics:
        return await self.metrics_of("fit", samples)

    async def evaluate_loss(self, samples: Sequence[TraceSample]) -> Metrics:
        return await self.metrics_of("evaluate_loss", samples)

    async def save(self, folder: Location) -> None:
        await self.on_all_ranks("save", folder)

    async def load(self, folder: Location) -> None:
        await self.on_all_ranks("load", folder)
        await self.on_all_ranks("forget", folder)

    async def export(self, folder: Path) -> None:
        if self.export_pieces is None:
            await self.on_all_ranks("export", folder)
            return
        folder.mkdir(parents=True, exist_ok=True)
        async for name, piece in self.export_pieces():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            # The first piece of every file is empty.
            with path.open("ab" if piece else "wb") as file:
                file.write(piece)
