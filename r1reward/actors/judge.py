"""Judge actors: a judge each, and the pool the loop talks to."""

import asyncio
import logging
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import ray

from r1reward.actors.quick_start import without_garbage_collection
from r1reward.recipe.components import JudgeSettings
from r1reward.types import JudgeWord, Slot

logger = logging.getLogger(__name__)


@ray.remote
class JudgeActor:
    """Calls overlap: Ray runs the coroutines of one actor in one event loop."""

    def __init__(self, settings: JudgeSettings) -> None:
        with without_garbage_collection():
            from r1reward.engines.judge import build_judge

            self.inner, self.engine = build_judge(settings)

    async def ready(self) -> bool:
        return True

    async def judge(self, analysis: str, choice: Slot) -> JudgeWord:
        return await self.inner.judge(analysis, choice)

    async def move(self, method: Literal["sleep", "wake_up"]) -> None:
        """Leave the GPU or come back to it, where there is an engine on it."""
        if self.engine is not None:
            await asyncio.wrap_future(getattr(self.engine, method)())


class JudgePool:
    """All judge actors as one ``Judge``. Equal questions go to the same actor, for its cache."""

    def __init__(self, actors: Sequence[Any]) -> None:
        self.actors = list(actors)

    async def judge(self, analysis: str, choice: Slot) -> JudgeWord:
        actor = self.actors[zlib.crc32(analysis.encode()) % len(self.actors)]
        try:
            word: JudgeWord = await actor.judge.remote(analysis, choice)
        except ray.exceptions.RayActorError as error:
            logger.warning("judge abstains, its actor died: %s", error)
            return "abstain"
        return word
