"""The learner in this process: the loop's protocol without Ray or a second process.

It is the same DeepSpeed rank, alone; only who calls it differs. Calls block the event loop, so nothing
overlaps: for studies of many small runs, for a debugger, for reading along. The generator beside it is
``engines/torch_sampler.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from r1reward.engines.deepspeed_engine import DeepSpeedRank
from r1reward.engines.deepspeed_setup import RankAddress, free_port
from r1reward.engines.learner_group import LearnerGroup
from r1reward.recipe.components import LearnerSettings
from r1reward.types import WeightsHandle


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
