"""Learner actors: one DeepSpeed rank each, and the group of them that the loop talks to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import ray

from r1reward.actors.network import name_interface
from r1reward.actors.quick_start import without_garbage_collection
from r1reward.actors.weights import ObjectStoreSync
from r1reward.engines.learner_group import FilePieces, LearnerGroup
from r1reward.recipe.components import LearnerSettings

if TYPE_CHECKING:
    from r1reward.engines.deepspeed_engine import DeepSpeedRank


@ray.remote
class LearnerActor:
    """One rank. ``start`` is called on all ranks first, and all are called for whatever is collective."""

    engine: DeepSpeedRank

    def __init__(self, settings: LearnerSettings, rank: int) -> None:
        self.settings = settings
        self.rank = rank

    def address(self) -> tuple[str, int]:
        """Where rank 0 would listen: this node, a port that is free now."""
        from r1reward.engines.deepspeed_setup import free_port

        return ray.util.get_node_ip_address(), free_port("")

    def start(self, host: str, port: int) -> None:
        """Load the model and meet the other ranks."""
        name_interface(ray.util.get_node_ip_address(), os.environ)
        with without_garbage_collection():
            from r1reward.engines.deepspeed_engine import DeepSpeedRank
            from r1reward.engines.deepspeed_setup import RankAddress

            address = RankAddress(self.rank, self.settings.learner.num_ranks, host, port)
            self.engine = DeepSpeedRank(self.settings, address)

    def call(self, method: str, *arguments: object) -> Any:
        """One method of ``DeepSpeedRank``, by its name."""
        return getattr(self.engine, method)(*arguments)

    def stream(self, method: str) -> Iterator[object]:
        """A method that yields: each item becomes an object that the driver owns."""
        yield from getattr(self.engine, method)()


async def start_ranks(actors: Sequence[Any]) -> None:
    """Returns when all ranks have loaded the model and met."""
    host, port = await actors[0].address.remote()
    await asyncio.gather(*(actor.start.remote(host, port) for actor in actors))


def learner_group(actors: Sequence[Any], settings: LearnerSettings) -> LearnerGroup:
    """The actors, one a rank, as a ``Learner``."""

    async def call(method: str, arguments: Sequence[tuple[object, ...]]) -> list[Any]:
        ranks = zip(actors, arguments, strict=True)
        return await asyncio.gather(*(actor.call.remote(method, *args) for actor, args in ranks))

    pieces = None if settings.shares_folder else partial(export_pieces, actors)
    return LearnerGroup(call, settings.learner, ObjectStoreSync(actors), pieces)


async def export_pieces(actors: Sequence[Any]) -> FilePieces:
    """The files of an export through Ray: rank 0 may be on a node whose disk nobody else sees."""
    first, *others = actors
    # Other ranks take part in gathering the weights and write nothing.
    waiting = [actor.call.remote("export", None) for actor in others]
    pieces = first.stream.options(num_returns="streaming", _generator_backpressure_num_objects=4)
    async for ref in pieces.remote("export_pieces"):
        yield await ref
    await asyncio.gather(*waiting)
