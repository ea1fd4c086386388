"""Ray itself, and which actor runs where."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from r1reward.config import EngineRecipe, Recipe
from r1reward.sections import PlacementSection, VllmJudge

# On CPUs all actors share the cores, so each asks Ray for little; the threads they really use are
# placement.threads. Ray would otherwise wait for ever for cores that nobody is going to free.
CPU_SHARE = 0.05


class NotEnoughResourcesError(RuntimeError):
    """The cluster cannot hold the recipe's actors."""


Role = Literal["rollout", "judge", "learner"]
ROLES: tuple[Role, ...] = ("rollout", "judge", "learner")
Bundle = dict[str, float]


@dataclass(frozen=True)
class Seats:
    """One reserved bundle an actor, by role."""

    group: PlacementGroup
    bundles: dict[Role, list[Bundle]]
    environment: dict[str, str]

    def start(
        self, role: Role, index: int, actor_class: Any, *arguments: object, **options: object
    ) -> Any:
        """Start one actor of a role in its bundle; returns Ray's handle."""
        bundle = self.bundles[role][index]
        place = index
        for earlier in ROLES[: ROLES.index(role)]:
            place += len(self.bundles[earlier])
        return actor_class.options(
            num_cpus=bundle["CPU"],
            num_gpus=bundle.get("GPU", 0),
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                self.group, placement_group_bundle_index=place
            ),
            runtime_env={"env_vars": self.environment},
            **options,
        ).remote(*arguments)


def actor_environment(placement: PlacementSection) -> dict[str, str]:
    """What every actor process must know before it imports an engine."""
    environment = {
        # Ray would set it to the actor's share of a core.
        "OMP_NUM_THREADS": str(placement.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    if placement.device == "cpu":
        environment["DS_ACCELERATOR"] = "cpu"
    return environment


def plan_bundles(recipe: EngineRecipe, roles: Sequence[Role] = ROLES) -> dict[Role, list[Bundle]]:
    """What every actor of the wanted roles needs; a role that is not wanted has no bundles."""
    cuda = recipe.placement.device == "cuda"
    judge = recipe.judge
    judge_gpus = judge.engine.tensor_parallel_size if isinstance(judge, VllmJudge) else 0
    needs: dict[Role, tuple[int, int]] = {
        "rollout": (recipe.rollout.num_actors, recipe.rollout.engine.tensor_parallel_size),
        "judge": (recipe.placement.num_judge_actors, judge_gpus),
        "learner": (recipe.learner.num_ranks if isinstance(recipe, Recipe) else 0, 1),
    }

    def bundle(num_gpus: int) -> Bundle:
        if not cuda:
            return {"CPU": CPU_SHARE}
        return {"CPU": 1.0, "GPU": float(num_gpus)} if num_gpus else {"CPU": 1.0}

    own = recipe.placement.judge_resource
    extra: dict[Role, Bundle] = {"judge": {own: 1.0}} if own else {}
    return {
        role: [bundle(num_gpus) | extra.get(role, {})] * count if role in roles else []
        for role, (count, num_gpus) in needs.items()
    }


@contextmanager
def ray_session(recipe: EngineRecipe) -> Iterator[None]:
    """Connect to the cluster of RAY_ADDRESS, or start Ray on this machine for the run's duration.

    A process that is connected already stays so: whoever opened the connection closes it.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Actors without GPUs must not lose sight of the node's devices by Ray's default.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if "RAY_ADDRESS" not in os.environ:
        store_mb = recipe.placement.object_store_mb
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": None if store_mb is None else store_mb * 2**20,
        }
    ray.init(**options)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def reserve(recipe: EngineRecipe, by_role: dict[Role, list[Bundle]]) -> Iterator[Seats]:
    """Reserve all bundles at once. Raises ``NotEnoughResourcesError`` naming what the cluster lacks."""
    bundles = [bundle for role in ROLES for bundle in by_role[role]]
    group = placement_group(bundles, strategy="PACK")
    if not group.wait(timeout_seconds=recipe.placement.wait_s):
        present = ray.cluster_resources()
        lacking = ", ".join(
            f"{sum(b.get(kind, 0) for b in bundles):g} {kind} wanted, "
            f"{present.get(kind, 0):g} in the cluster"
            for kind in dict.fromkeys(kind for b in bundles for kind in b)
        )
        remove_placement_group(group)
        raise NotEnoughResourcesError(
            f"no place for the recipe's {len(bundles)} actors within placement.wait_s "
            f"({recipe.placement.wait_s} s): {lacking}; shrink the recipe or grow the cluster"
        )
    try:
        yield Seats(group, by_role, actor_environment(recipe.placement))
    finally:
        remove_placement_group(group)
