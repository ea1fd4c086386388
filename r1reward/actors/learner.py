"""Learner actors: one DeepSpeed rank each, and the group the loop talks to."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import ray

from r1reward.actors.network import name_interface
from r1reward.actors.weights import publish
from r1reward.algorithm.batch import (
    BatchSize,
    cut_micro_batches,
    num_response_tokens,
    pick,
    put_back,
    split_across_ranks,
)
from r1reward.metrics import Metrics, merge
from r1reward.recipe.learner_sections import LearnerSection
from r1reward.recipe.recipe import Recipe
from r1reward.runs.storage import fetched, forget, scratch_folder, written_to
from r1reward.types import Location, TraceSample, TrainingSample, WeightsHandle

if TYPE_CHECKING:
    import numpy as np

    from r1reward.engines.deepspeed_engine import DeepSpeedRank

S = TypeVar("S", bound=TraceSample)
PIECE_BYTES = 64 * 2**20


@ray.remote
class LearnerActor:
    """One rank. All ranks are called for every method that touches the model."""

    def __init__(self, recipe: Recipe, rank: int) -> None:
        self.recipe = recipe
        self.rank = rank
        self.engine: DeepSpeedRank | None = None

    def address(self) -> tuple[str, int]:
        """Where rank 0 would listen: this node, a port that is free now."""
        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind(("", 0))
            return host, probe.getsockname()[1]

    def start(self, host: str, port: int) -> None:
        from r1reward.engines.deepspeed_engine import DeepSpeedRank, RankAddress

        name_interface(ray.util.get_node_ip_address(), os.environ)
        num_ranks = self.recipe.learner.num_ranks
        self.engine = DeepSpeedRank(self.recipe, RankAddress(self.rank, num_ranks, host, port))

    @property
    def started(self) -> DeepSpeedRank:
        assert self.engine is not None, "start was not called"
        return self.engine

    def logprobs(
        self,
        micro_batches: list[list[TraceSample]],
        num_rounds: int,
        model: Literal["policy", "reference"],
    ) -> list[list[np.ndarray]]:
        return self.started.logprobs(micro_batches, num_rounds, model)

    def update(
        self, micro_batches: list[list[TrainingSample]], num_rounds: int, batch_size: BatchSize
    ) -> Metrics:
        return self.started.update(micro_batches, num_rounds, batch_size)

    def fit(
        self, micro_batches: list[list[TraceSample]], num_rounds: int, num_tokens: int
    ) -> Metrics:
        return self.started.fit(micro_batches, num_rounds, num_tokens)

    def evaluate_loss(
        self, micro_batches: list[list[TraceSample]], num_rounds: int, num_tokens: int
    ) -> Metrics:
        return self.started.evaluate_loss(micro_batches, num_rounds, num_tokens)

    def publish(self) -> Iterator[object]:
        """Header, data, header, data, ...: each becomes an object that the driver owns."""
        for bucket in self.started.weight_buckets():
            assert bucket is not None, "rank 0 publishes"
            header, data = bucket
            yield header
            yield data

    def join_publish(self) -> None:
        for bucket in self.started.weight_buckets():
            assert bucket is None, "only rank 0 publishes"

    def leave_gpu(self) -> None:
        self.started.leave_gpu()

    def come_to_gpu(self) -> None:
        self.started.come_to_gpu()

    def save(self, folder: Location) -> None:
        with written_to(folder, self.recipe.run_dir) as path:
            self.started.save(path)

    def load(self, folder: Location) -> None:
        self.started.load(fetched(folder, self.recipe.run_dir, self.started.reads))

    def forget(self, folder: Location) -> None:
        """After all ranks have loaded it."""
        forget(folder, self.recipe.run_dir)

    def export(self, folder: str) -> None:
        self.started.export(Path(folder))

    def export_in_pieces(self) -> Iterator[tuple[str, bytes]]:
        """The files of the export, each as its name and a piece of its content, in their order."""
        with scratch_folder(self.recipe.run_dir) as folder:
            self.started.export(folder)
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                with path.open("rb") as content:
                    yield path.relative_to(folder).as_posix(), b""  # an empty file is a file, too
                    while piece := content.read(PIECE_BYTES):
                        yield path.relative_to(folder).as_posix(), piece


class LearnerGroup:
    """All ranks as one ``Learner``."""

    def __init__(
        self, actors: Sequence[Any], settings: LearnerSection, shares_folder: bool = True
    ) -> None:
        self.actors = list(actors)
        self.settings = settings
        # Whether what a rank writes into a folder is there for this process as well.
        self.shares_folder = shares_folder
        # What the store keeps: the newest bundle, and the one an engine may still be pulling.
        self.kept: deque[WeightsHandle] = deque(maxlen=2)

    async def start(self) -> None:
        host, port = await self.actors[0].address.remote()
        await self.on_all_ranks("start", host, port)

    async def on_all_ranks(self, method: str, *arguments: object) -> list[Any]:
        return await asyncio.gather(
            *(getattr(actor, method).remote(*arguments) for actor in self.actors)
        )

    def cut(self, samples: Sequence[TraceSample]) -> tuple[list[list[list[int]]], int]:
        """Sample indices per rank and micro-batch, and the number of rounds all ranks must run.

        Raises ``ValueError`` if a rank would have nothing to run: it could not join the collectives.
        """
        if len(samples) < len(self.actors):
            raise ValueError(
                f"{len(samples)} sample(s) for {len(self.actors)} learner ranks: give at least one "
                "a rank, or lower learner.num_ranks"
            )
        lengths = [sample.num_tokens for sample in samples]
        plan = []
        for indices in split_across_ranks(lengths, len(self.actors)):
            cuts = cut_micro_batches(
                [lengths[i] for i in indices],
                self.settings.micro_batch_tokens,
                self.settings.packing,
            )
            plan.append([[indices[i] for i in cut] for cut in cuts])
        return plan, max(len(cuts) for cuts in plan)

    async def logprobs(
        self, samples: Sequence[TraceSample], model: Literal["policy", "reference"]
    ) -> list[np.ndarray]:
        plan, num_rounds = self.cut(samples)
        results = await self.on_cuts("logprobs", samples, plan, num_rounds, model)
        by_index: dict[int, np.ndarray] = {}
        for cuts, arrays in zip(plan, results, strict=True):
            by_index |= put_back(cuts, arrays)
        return [by_index[i] for i in range(len(samples))]

    async def on_cuts(
        self,
        method: str,
        samples: Sequence[S],
        plan: list[list[list[int]]],
        num_rounds: int,
        argument: object,
    ) -> list[Any]:
        """Call all ranks, each with its own micro-batches of the plan."""
        return await asyncio.gather(
            *(
                getattr(actor, method).remote(pick(samples, cuts), num_rounds, argument)
                for actor, cuts in zip(self.actors, plan, strict=True)
            )
        )

    async def update(self, samples: Sequence[TrainingSample]) -> Metrics:
        batch_size = BatchSize(len(samples), num_response_tokens(samples))
        return merge(await self.on_cuts("update", samples, *self.cut(samples), batch_size))

    async def fit(self, samples: Sequence[TraceSample]) -> Metrics:
        num_tokens = num_response_tokens(samples)
        return merge(await self.on_cuts("fit", samples, *self.cut(samples), num_tokens))

    async def evaluate_loss(self, samples: Sequence[TraceSample]) -> Metrics:
        num_tokens = num_response_tokens(samples)
        return merge(await self.on_cuts("evaluate_loss", samples, *self.cut(samples), num_tokens))

    async def publish(self, version: int) -> WeightsHandle:
        handle = await publish(self.actors[0], self.actors[1:], version)
        self.kept.append(handle)
        return handle

    async def save(self, folder: Location) -> None:
        await self.on_all_ranks("save", folder)

    async def load(self, folder: Location) -> None:
        await self.on_all_ranks("load", folder)
        await self.on_all_ranks("forget", folder)

    async def export(self, folder: Path) -> None:
        if self.shares_folder:
            await self.on_all_ranks("export", str(folder))
            return
        # Rank 0 may be on a node whose disk nobody else sees: its files come through Ray.
        with TemporaryDirectory() as nowhere:
            others = [actor.export.remote(nowhere) for actor in self.actors[1:]]
            pieces = (
                self.actors[0]
                .export_in_pieces.options(
                    num_returns="streaming", _generator_backpressure_num_objects=4
                )
                .remote()
            )
            folder.mkdir(parents=True, exist_ok=True)
            async for ref in pieces:
                name, piece = await ref
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("ab" if piece else "wb") as file:
                    file.write(piece)
            await asyncio.gather(*others)
