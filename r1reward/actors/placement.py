"""Ray itself, and which actor runs where."""

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from r1reward.errors import ServiceError
from r1reward.recipe.engine_sections import PlacementSection, RoleName
from r1reward.sizing.bundles import ROLES, Bundle, shared_bundles

# A cluster with room answers well within this.
QUIET_WAIT_S = 5

logger = logging.getLogger(__name__)


class NotEnoughResourcesError(ServiceError):
    """The cluster cannot hold the recipe's actors."""


@dataclass(frozen=True)
class Seats:
    """What is reserved: a bundle an actor by role, or one that actors of one number share."""

    group: PlacementGroup
    bundles: dict[RoleName, list[Bundle]]
    placement: PlacementSection

    def start(
        self, role: RoleName, index: int, actor_class: Any, *arguments: object, **options: object
    ) -> Any:
        """Start one actor of a role in its bundle; returns Ray's handle."""
        bundle = self.bundles[role][index]
        earlier_roles = () if self.placement.takes_turns else ROLES[: ROLES.index(role)]
        bundle_index = index + sum(len(self.bundles[earlier]) for earlier in earlier_roles)
        return actor_class.options(
            num_cpus=bundle["CPU"],
            num_gpus=bundle.get("GPU", 0),
            resources={k: v for k, v in bundle.items() if k not in ("CPU", "GPU")},
            scheduling_strategy=PlacementGroupSchedulingStrategy(
                self.group, placement_group_bundle_index=bundle_index
            ),
            runtime_env={"env_vars": actor_environment(self.placement)},
            **options,
        ).remote(*arguments)


def actor_environment(placement: PlacementSection) -> dict[str, str]:
    """What every actor process must know before it imports an engine."""
    return {
        # Ray would set it to the actor's share of a core.
        "OMP_NUM_THREADS": str(placement.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }


@contextmanager
def ray_session(placement: PlacementSection) -> Iterator[None]:
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
        store_mb = placement.object_store_mb
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": None if store_mb is None else store_mb * 2**20,
        }
    # Ray's own handler would end the process at once.
    on_sigterm = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL
    try:
        ray.init(**options)
    except (ray.exceptions.AuthenticationError, ConnectionError) as error:
        # Ray tells a cluster that is not there and one that refuses the token apart in its logs only.
        raise ServiceError(
            f"no Ray cluster lets this run in at RAY_ADDRESS={os.environ.get('RAY_ADDRESS', '')}: is it "
            "up? If it has a token, set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
            "RAY_AUTH_TOKEN_PATH to it; unset RAY_ADDRESS to run on this machine alone"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)
    with ExitStack() as at_end:
        at_end.callback(ray.shutdown)
        yield


@contextmanager
def reserve(placement: PlacementSection, by_role: dict[RoleName, list[Bundle]]) -> Iterator[Seats]:
    """Reserve all bundles at once. Raises ``NotEnoughResourcesError`` naming what the cluster lacks."""
    bundles = [bundle for role in ROLES for bundle in by_role[role]]
    if placement.takes_turns:
        bundles = shared_bundles(by_role)
    wait_s = placement.wait_s
    group = placement_group(bundles, strategy=placement.strategy.upper())
    with ExitStack() as at_end:
        at_end.callback(remove_placement_group, group)
        if not group.wait(timeout_seconds=min(wait_s, QUIET_WAIT_S)):
            logger.info(
                "no place yet for the recipe's %d actors: %s; waiting up to %d s (placement.wait_s) for "
                "other jobs to end or an autoscaler to add nodes",
                len(bundles),
                missing_now(bundles),
                wait_s,
            )
            if not group.wait(timeout_seconds=max(0, wait_s - QUIET_WAIT_S)):
                raise NotEnoughResourcesError(
                    f"no place for the recipe's {len(bundles)} actors within placement.wait_s "
                    f"({wait_s} s): {missing_now(bundles)}; shrink the recipe, grow the cluster, or "
                    "raise placement.wait_s if an autoscaler needs longer"
                )
        yield Seats(group, by_role, placement)


def missing_now(bundles: Sequence[Bundle]) -> str:
    """``missing_resources`` of the connected cluster."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return missing_resources(bundles, nodes, ray.available_resources())


def missing_resources(
    bundles: Sequence[Bundle], nodes: Sequence[Mapping[str, float]], free: Mapping[str, float]
) -> str:
    """What is wanted of each scarce resource, beside what the nodes have and what is free of it now."""
    reasons = []
    for kind in sorted({kind for bundle in bundles for kind in bundle}):
        wanted = sum(bundle.get(kind, 0) for bundle in bundles)
        present = sum(node.get(kind, 0) for node in nodes)
        if wanted > free.get(kind, 0):
            reasons.append(
                f"{wanted:g} {kind} wanted, {present:g} in the cluster, {free.get(kind, 0):g} free"
            )
    for bundle in bundles:
        if not any(all(node.get(k, 0) >= v for k, v in bundle.items()) for node in nodes):
            needs = ", ".join(f"{amount:g} {kind}" for kind, amount in sorted(bundle.items()))
            reasons.append(f"no single node has {needs} for one actor")
            break
    if not reasons:
        reasons.append("there is enough in all, but not together on the nodes that an actor needs")
    return "; ".join([*reasons, f"{len(nodes)} node(s)"])
