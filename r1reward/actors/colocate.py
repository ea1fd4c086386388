"""Sampling and learning on the same GPUs, in turn.

Before a side works, the other one leaves the GPU: engines sleep with their weights in host memory and
without their cache, the learner moves its states there. The loop knows nothing of it: generator, judge
and learner are wrapped, and switch sides when they must.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

Side = Literal["sampling", "learning"]
P = TypeVar("P")


@dataclass(frozen=True)
class Tenant:
    """How a side leaves the GPUs and comes back to them."""

    leave: Callable[[], Awaitable[object]]
    come: Callable[[], Awaitable[object]]


class Turns:
    """Who has the GPUs. A side keeps them while it works; the other one waits for it to finish."""

    def __init__(self, tenants: Mapping[Side, Tenant], holder: Side) -> None:
        self.tenants = tenants
        self.holder = holder
        self.num_working = 0
        self.changed = asyncio.Condition()

    @asynccontextmanager
    async def work(self, side: Side) -> AsyncIterator[None]:
        async with self.changed:
            await self.changed.wait_for(lambda: self.holder == side or self.num_working == 0)
            if self.holder != side:
                # Under the lock: nobody may begin to work on a GPU that is being left.
                await self.tenants[self.holder].leave()
                await self.tenants[side].come()
                self.holder = side
            self.num_working += 1
        try:
            yield
        finally:
            async with self.changed:
                self.num_working -= 1
                self.changed.notify_all()


def in_turn(part: P, side: Side, turns: Turns) -> P:
    """The same part, but whatever it does is done while its side has the GPUs.

    All methods of the part must be coroutines or asynchronous iterators, as those of ``interfaces.py``
    that use a GPU are. An object that the part holds, such as the learner's ``weight_sync``, is wrapped
    as well.
    """
    return cast(P, InTurn(part, side, turns))


@dataclass(frozen=True)
class InTurn:
    """Stands before a part and takes its side's turn for every call."""

    part: object
    side: Side
    turns: Turns

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.part, name)
        if not callable(attribute):
            return InTurn(attribute, self.side, self.turns)

        def call(*arguments: object) -> Any:
            result = attribute(*arguments)
            wrapper = self.iterate if isinstance(result, AsyncIterator) else self.wait_for
            return wrapper(result)

        return call

    async def iterate(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async with self.turns.work(self.side):
            async for item in items:
                yield item

    async def wait_for(self, result: Awaitable[Any]) -> Any:
        async with self.turns.work(self.side):
            return await result
