"""Recipe to running system: the only file that knows every part."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray

from r1reward.actors.colocate import GeneratorInTurn, JudgeInTurn, LearnerInTurn, Tenant, Turns
from r1reward.actors.judge import JudgeActor, JudgePool
from r1reward.actors.learner import LearnerActor, LearnerGroup
from r1reward.actors.placement import Seats, ray_session, reserve
from r1reward.actors.rollout import RolloutActor, RolloutGroup
from r1reward.interfaces import Generator, Judge, Learner
from r1reward.models.processor import PolicyProcessor
from r1reward.recipe.recipe import EngineRecipe, Recipe
from r1reward.sizing.bundles import ROLES, Role, plan_bundles


@dataclass(frozen=True)
class System:
    """The running parts, behind the loop's protocols. What was not asked for is None."""

    generator: Generator | None
    judge: Judge | None
    learner: Learner | None


@asynccontextmanager
async def running_system(
    recipe: EngineRecipe, processor: PolicyProcessor | None, roles: Sequence[Role] = ROLES
) -> AsyncIterator[System]:
    """Start the actors of the wanted roles, all at once, and stop them whatever happens.

    The processor is needed where there are rollout actors. With ``placement.mode: in_process`` the
    parts are built here instead, and no actor is started.
    """
    if recipe.placement.mode == "in_process":
        yield parts_in_process(recipe, processor, roles)
        return
    with ray_session(recipe), reserve(recipe, plan_bundles(recipe, roles)) as seats:
        actors: dict[Role, list[Any]] = {role: [] for role in ROLES}
        try:
            for role in ROLES:
                start_role(role, recipe, processor, seats, actors)
                if recipe.placement.takes_turns and role != "learner":
                    # One after the other: each engine measures what is free of the GPU they share.
                    await asyncio.gather(*(engine.ready.remote() for engine in actors[role]))
            engines = [*actors["rollout"], *actors["judge"]]
            ready = [engine.ready.remote() for engine in engines]
            learner = None
            if isinstance(recipe, Recipe) and actors["learner"]:
                learner = LearnerGroup(
                    actors["learner"], recipe.learner, shares_folder=recipe.run_url is None
                )
                if recipe.placement.takes_turns:
                    await asyncio.gather(*(engine.sleep.remote() for engine in engines))
                ready.append(learner.start())
            await asyncio.gather(*ready)
            generator = None
            if actors["rollout"]:
                rollout, wait_s = recipe.rollout, recipe.placement.wait_s
                generator = RolloutGroup(actors["rollout"], rollout.max_retries, wait_s)
            judge = JudgePool(actors["judge"]) if actors["judge"] else None
            if recipe.placement.takes_turns and engines and learner is not None:
                yield in_turn(generator, judge, learner, engines)
            else:
                yield System(generator, judge, learner)
        finally:
            for actor in (actor for role in ROLES for actor in actors[role]):
                ray.kill(actor)


def in_turn(
    generator: Generator | None, judge: Judge | None, learner: LearnerGroup, engines: Sequence[Any]
) -> System:
    """Engines and learner behind wrappers that give each side the GPUs before it works."""

    async def on_engines(method: str) -> None:
        await asyncio.gather(*(getattr(engine, method).remote() for engine in engines))

    turns = Turns(
        {
            "sampling": Tenant(partial(on_engines, "sleep"), partial(on_engines, "wake_up")),
            "learning": Tenant(
                partial(learner.on_all_ranks, "leave_gpu"),
                partial(learner.on_all_ranks, "come_to_gpu"),
            ),
        },
        holder="learning",
    )
    return System(
        None if generator is None else GeneratorInTurn(generator, turns),
        None if judge is None else JudgeInTurn(judge, turns),
        LearnerInTurn(learner, turns),
    )


def parts_in_process(
    recipe: EngineRecipe, processor: PolicyProcessor | None, roles: Sequence[Role]
) -> System:
    # Here, because a driver of actors must load neither DeepSpeed nor a model.
    from transformers.utils.logging import disable_progress_bar

    from r1reward.engines.in_process import InProcessGenerator, InProcessLearner
    from r1reward.engines.judge import build_judge

    disable_progress_bar()  # the run has its own; an actor's would go to a log that nobody watches
    generator = None
    if "rollout" in roles:
        assert processor is not None
        generator = InProcessGenerator(recipe, processor)
    judge = build_judge(recipe) if "judge" in roles and recipe.judge is not None else None
    learner = None
    if isinstance(recipe, Recipe) and "learner" in roles:
        learner = InProcessLearner(recipe)
    return System(generator, judge, learner)


def start_role(
    role: Role,
    recipe: EngineRecipe,
    processor: PolicyProcessor | None,
    seats: Seats,
    actors: dict[Role, list[Any]],
) -> None:
    """One actor a bundle, entered into ``actors`` as it is started, so that none is forgotten."""
    # An engine that came back while the learner has the GPU would not find its memory.
    restarts = 0 if recipe.placement.takes_turns else recipe.rollout.max_retries
    for index in range(len(seats.bundles[role])):
        match role:
            case "rollout":
                assert processor is not None
                media = processor.media_token_ids
                actor = seats.start(role, index, RolloutActor, recipe, media, max_restarts=restarts)
            case "judge":
                forever = 0 if recipe.placement.takes_turns else -1
                actor = seats.start(role, index, JudgeActor, recipe, max_restarts=forever)
            case "learner":
                actor = seats.start(role, index, LearnerActor, recipe, index)
        actors[role].append(actor)


def root_causes(error: BaseException) -> Sequence[BaseException]:
    """The errors inside task groups and Ray's wrappers, without what they merely cancelled."""
    if isinstance(error, BaseExceptionGroup):
        return [cause for inner in error.exceptions for cause in root_causes(inner)]
    if isinstance(error, ray.exceptions.RayTaskError) and error.cause is not None:
        return [error.cause]
    return [error]
