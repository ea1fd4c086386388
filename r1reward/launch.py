"""Recipe to running system: the only file that knows every part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import ray

from r1reward.actors.judge import JudgeActor, JudgePool
from r1reward.actors.learner import LearnerActor, LearnerGroup
from r1reward.actors.placement import Seats, plan_bundles, ray_session, reserve
from r1reward.actors.rollout import RolloutActor, RolloutGroup
from r1reward.config import Recipe
from r1reward.engines.processor import PolicyProcessor


@dataclass(frozen=True)
class System:
    """The running actors, behind the loop's protocols. What was not asked for is None."""

    generator: RolloutGroup | None
    judge: JudgePool | None
    learner: LearnerGroup | None


@asynccontextmanager
async def running_system(
    recipe: Recipe, processor: PolicyProcessor, *, engines: bool = True, learner: bool = True
) -> AsyncIterator[System]:
    """Start the actors the caller needs, all at once, and stop them whatever happens."""
    with ray_session(recipe), reserve(recipe, plan_bundles(recipe)) as seats:
        actors: list[Any] = []
        try:
            generators = start_rollout(recipe, seats, processor) if engines else []
            judges = start_judges(recipe, seats) if engines else []
            ranks = start_learner(recipe, seats) if learner else []
            actors = [*generators, *judges, *ranks]
            group = LearnerGroup(ranks, recipe.learner) if learner else None
            ready = [actor.ready.remote() for actor in (*generators, *judges)]
            await asyncio.gather(*ready, *([group.start()] if group else []))
            yield System(
                RolloutGroup(generators, recipe.rollout.max_retries) if engines else None,
                JudgePool(judges) if engines else None,
                group,
            )
        finally:
            for actor in actors:
                ray.kill(actor)


def start_rollout(recipe: Recipe, seats: Seats, processor: PolicyProcessor) -> list[Any]:
    return [
        seats.actor(RolloutActor, index, max_restarts=recipe.rollout.max_retries)(
            recipe, processor.media_token_ids
        )
        for index in range(recipe.rollout.num_actors)
    ]


def start_judges(recipe: Recipe, seats: Seats) -> list[Any]:
    first = recipe.rollout.num_actors
    return [
        seats.actor(JudgeActor, first + index, max_restarts=-1)(recipe)
        for index in range(recipe.placement.num_judge_actors)
    ]


def start_learner(recipe: Recipe, seats: Seats) -> list[Any]:
    first = recipe.rollout.num_actors + recipe.placement.num_judge_actors
    return [
        seats.actor(LearnerActor, first + rank)(recipe, rank)
        for rank in range(recipe.learner.num_ranks)
    ]


def root_causes(error: BaseException) -> Sequence[BaseException]:
    """The errors inside task groups and Ray's wrappers, without what they merely cancelled."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in root_causes(inner)]
    if isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None:
        return [error.cause]
    return [error]
