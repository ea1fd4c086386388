"""Processes that have the stack imported already: forked from a server that imported it once.

A learner rank, or a program of a test, needs a process of its own, because DeepSpeed keeps its state in
the process. It need not import torch and DeepSpeed again, which costs more than most of these tests.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, TypeVar

from r1reward.engines.learner_group import CallRanks, LearnerGroup
from r1reward.recipe.components import LearnerSettings
from r1reward.types import WeightsHandle

if TYPE_CHECKING:
    from r1reward.engines.deepspeed_engine import DeepSpeedRank

T = TypeVar("T")

CONTEXT = get_context("forkserver")
# The module chooses DeepSpeed's accelerator, which DeepSpeed does only once, and imports it.
CONTEXT.set_forkserver_preload(["tests.stack.forked_imports"])


@contextmanager
def own_process() -> Iterator[ProcessPoolExecutor]:
    """An executor whose calls all run in one forked process."""
    with ProcessPoolExecutor(1, mp_context=CONTEXT) as process:
        yield process


def result(program: Callable[..., T], *arguments: object) -> T:
    """What a function returns in a process of its own; its error, if it ends in one."""
    with own_process() as process:
        return process.submit(program, *arguments).result()


class ThisRank:
    """The learner rank of a forked process."""

    rank: DeepSpeedRank


def start_rank(settings: LearnerSettings, rank: int, port: int) -> None:
    from r1reward.engines.deepspeed_engine import DeepSpeedRank
    from r1reward.engines.deepspeed_setup import RankAddress

    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    address = RankAddress(rank, settings.learner.num_ranks, "127.0.0.1", port)
    ThisRank.rank = DeepSpeedRank(settings, address)


def call_rank(method: str, arguments: tuple[object, ...]) -> Any:
    """One method of the rank; what it yields as a list."""
    answer = getattr(ThisRank.rank, method)(*arguments)
    return list(answer) if isinstance(answer, Iterator) else answer


@dataclass
class ForkedSync:
    """Publishes bundles whose bytes are here at once."""

    call: CallRanks
    num_ranks: int
    handle: WeightsHandle = field(init=False)

    async def begin(self, version: int) -> None:
        bundle, *_ = await self.call("weight_buckets", [()] * self.num_ranks)
        headers, buckets = zip(*bundle, strict=True)
        self.handle = WeightsHandle(version, headers, buckets)

    async def finish(self) -> WeightsHandle:
        return self.handle


@asynccontextmanager
async def forked_learner(settings: LearnerSettings) -> AsyncIterator[LearnerGroup]:
    """A learner whose ranks are forked processes, the same DeepSpeed rank in each."""
    from r1reward.engines.deepspeed_setup import free_port

    num_ranks, port = settings.learner.num_ranks, free_port("127.0.0.1")
    loop = asyncio.get_running_loop()
    with ExitStack() as at_end:
        processes = [at_end.enter_context(own_process()) for _ in range(num_ranks)]

        async def call(method: str, arguments: Sequence[tuple[object, ...]]) -> list[Any]:
            calls = zip(processes, arguments, strict=True)
            return await asyncio.gather(
                *(loop.run_in_executor(process, call_rank, method, args) for process, args in calls)
            )

        await asyncio.gather(
            *(
                loop.run_in_executor(process, start_rank, settings, rank, port)
                for rank, process in enumerate(processes)
            )
        )
        yield LearnerGroup(call, settings.learner, ForkedSync(call, num_ranks))
