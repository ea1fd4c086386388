"""Settings to a running system: the only file that knows every part.

Each of the four systems below is typed by its parts. It starts them all at once and stops them whatever
happens. With ``placement.mode: in_process`` the parts are built in this process and no actor is started.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import ray

from r1reward.actors.colocate import Tenant, Turns, in_turn
from r1reward.actors.judge import JudgeActor, JudgePool
from r1reward.actors.learner import LearnerActor, learner_group, start_ranks
from r1reward.actors.placement import Seats, ray_session, reserve
from r1reward.actors.rollout import RolloutActor, RolloutGroup
from r1reward.interfaces import Generator, Judge, Learner
from r1reward.recipe.components import JudgeSettings, LearnerSettings, RolloutSettings
from r1reward.recipe.engine_sections import PlacementSection, RoleName
from r1reward.sizing.bundles import plan_bundles


@dataclass(frozen=True)
class TrainingSystem:
    """What reinforcement learning needs."""

    generator: Generator
    judge: Judge
    learner: Learner


@dataclass(frozen=True)
class SamplingSystem:
    """What samples from a model, and judges if there is a judge."""

    generator: Generator
    judge: Judge | None


@asynccontextmanager
async def training_system(
    placement: PlacementSection,
    rollout: RolloutSettings,
    judge: JudgeSettings,
    learner: LearnerSettings,
) -> AsyncIterator[TrainingSystem]:
    """Engines, judge and learner; where they share GPUs, they take turns there."""
    learner = with_packing(learner)
    async with starter(placement, rollout, judge, learner) as start:
        system = TrainingSystem(
            await start.generator(rollout), await start.judge(judge), await start.learner(learner)
        )
        await start.ready()
        if (turns := start.turns) is not None:
            system = TrainingSystem(
                in_turn(system.generator, "sampling", turns),
                in_turn(system.judge, "sampling", turns),
                in_turn(system.learner, "learning", turns),
            )
        yield system


@asynccontextmanager
async def sampling_system(
    placement: PlacementSection, rollout: RolloutSettings, judge: JudgeSettings | None
) -> AsyncIterator[SamplingSystem]:
    """Engines, and a judge where there are settings for one."""
    async with starter(placement, rollout, judge) as start:
        generator = await start.generator(rollout)
        system = SamplingSystem(generator, None if judge is None else await start.judge(judge))
        await start.ready()
        yield system


@asynccontextmanager
async def judge_system(placement: PlacementSection, judge: JudgeSettings) -> AsyncIterator[Judge]:
    """A judge alone."""
    async with starter(placement, judge=judge) as start:
        running = await start.judge(judge)
        await start.ready()
        yield running


@asynccontextmanager
async def learner_system(
    placement: PlacementSection, learner: LearnerSettings
) -> AsyncIterator[Learner]:
    """A learner alone."""
    learner = with_packing(learner)
    async with starter(placement, learner=learner) as start:
        running = await start.learner(learner)
        await start.ready()
        yield running


def with_packing(settings: LearnerSettings) -> LearnerSettings:
    """The same with ``learner.packing`` decided. Raises as ``with_packing_decided`` does."""
    from r1reward.models.packing_rules import with_packing_decided

    return replace(settings, learner=with_packing_decided(settings.model, settings.learner))


@asynccontextmanager
async def starter(
    placement: PlacementSection,
    rollout: RolloutSettings | None = None,
    judge: JudgeSettings | None = None,
    learner: LearnerSettings | None = None,
) -> AsyncIterator[ActorStarter | InProcessStarter]:
    """What starts parts, with room reserved for those that have settings here."""
    if placement.mode == "in_process":
        yield InProcessStarter()
        return
    ranks = None if learner is None else learner.learner
    bundles = plan_bundles(placement, rollout, judge, ranks)
    with (
        ray_session(placement),
        reserve(placement, bundles) as seats,
        closing(ActorStarter(placement, seats)) as start,
    ):
        yield start


@dataclass
class ActorStarter:
    """Starts parts as actors, the learner last, and remembers them.

    ``turns`` is there where engines and learner share GPUs.
    """

    placement: PlacementSection
    seats: Seats
    engines: list[Any] = field(default_factory=list)
    ranks: list[Any] = field(default_factory=list)
    turns: Turns | None = None

    async def generator(self, settings: RolloutSettings) -> Generator:
        restarts = settings.max_retries
        actors = await self.start_engines("rollout", RolloutActor, settings.engine, restarts)
        return RolloutGroup(actors, settings.max_retries, self.placement.wait_s)

    async def judge(self, settings: JudgeSettings) -> Judge:
        return JudgePool(await self.start_engines("judge", JudgeActor, settings, restarts=-1))

    async def learner(self, settings: LearnerSettings) -> Learner:
        for rank in range(len(self.seats.bundles["learner"])):
            self.ranks.append(self.seats.start("learner", rank, LearnerActor, settings, rank))
        group = learner_group(self.ranks, settings)
        if self.placement.takes_turns and self.engines:
            move, ranks = partial(self.on_engines, "move"), group.on_all_ranks
            sampling = Tenant(partial(move, "sleep"), partial(move, "wake_up"))
            learning = Tenant(partial(ranks, "leave_gpu"), partial(ranks, "come_to_gpu"))
            self.turns = Turns({"sampling": sampling, "learning": learning}, holder="learning")
        return group

    async def start_engines(
        self, role: RoleName, actor_class: Any, settings: object, restarts: int
    ) -> list[Any]:
        """One actor a bundle. Ray restarts one that dies so often, or without end for -1."""
        if self.placement.takes_turns:
            # An engine that came back while the learner has the GPU would not find its memory.
            restarts = 0
        first = len(self.engines)
        for index in range(len(self.seats.bundles[role])):
            self.engines.append(
                self.seats.start(role, index, actor_class, settings, max_restarts=restarts)
            )
        if self.placement.takes_turns:
            # One role after the other: each engine measures what is free of the GPU they share.
            await self.on_engines("ready")
        return self.engines[first:]

    async def on_engines(self, method: str, *arguments: object) -> None:
        calls = (getattr(engine, method).remote(*arguments) for engine in self.engines)
        await asyncio.gather(*calls)

    def close(self) -> None:
        """Ends every actor."""
        for actor in [*self.engines, *self.ranks]:
            ray.kill(actor)

    async def ready(self) -> None:
        """Wait until everything that was started works."""
        if self.turns is not None:
            await self.on_engines("move", "sleep")
        ranks = [start_ranks(self.ranks)] if self.ranks else []
        await asyncio.gather(self.on_engines("ready"), *ranks)


class InProcessStarter:
    """Builds parts in this process, where nothing is shared and nothing has to be waited for.

    Imports are deferred, because a driver of actors must load neither DeepSpeed nor a model.
    """

    turns: Turns | None = None

    def __init__(self) -> None:
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # the run has its own; an actor's would go to a log that nobody watches

    async def generator(self, settings: RolloutSettings) -> Generator:
        from r1reward.engines.torch_sampler import TorchSampler

        return TorchSampler(settings.engine)

    async def judge(self, settings: JudgeSettings) -> Judge:
        from r1reward.engines.judge import build_judge

        return build_judge(settings)[0]

    async def learner(self, settings: LearnerSettings) -> Learner:
        from r1reward.engines.in_process import in_process_learner

        return in_process_learner(settings)

    async def ready(self) -> None: ...


def root_causes(error: BaseException) -> Sequence[BaseException]:
    """The errors inside task groups and Ray's wrappers, without what they merely cancelled."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in root_causes(inner)]
    if isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None:
        return [error.cause]
    return [error]
