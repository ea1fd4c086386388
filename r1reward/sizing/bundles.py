"""What every actor of a run asks Ray for: a bundle of resources each."""

from collections.abc import Mapping, Sequence

from r1reward.recipe.components import (
    JudgeSettings,
    RolloutSettings,
    judge_settings,
    rollout_settings,
)
from r1reward.recipe.engine_sections import PlacementSection, RoleName
from r1reward.recipe.learner_sections import LearnerSection
from r1reward.recipe.recipe import Recipe

# On CPUs all actors share the cores, so each asks Ray for little; the threads they really use are
# placement.threads. Ray would otherwise wait for ever for cores that nobody is going to free.
CPU_SHARE = 0.05


ROLES: tuple[RoleName, ...] = ("rollout", "judge", "learner")
Bundle = dict[str, float]


def training_bundles(recipe: Recipe) -> dict[RoleName, list[Bundle]]:
    """What the actors of a training run need; on saved rollouts it has a learner only."""
    if recipe.train.from_rollouts is not None:
        return plan_bundles(recipe.placement, None, None, recipe.learner)
    rollout = rollout_settings(recipe.model, recipe.rollout, recipe.placement)
    judge = judge_settings(recipe.judge, recipe.model, recipe.placement)
    return plan_bundles(recipe.placement, rollout, judge, recipe.learner)


def plan_bundles(
    placement: PlacementSection,
    rollout: RolloutSettings | None,
    judge: JudgeSettings | None,
    learner: LearnerSection | None,
) -> dict[RoleName, list[Bundle]]:
    """What every actor needs; a role that is None is not wanted and has no bundles.

    Actors that take turns on a GPU each ask for a share of it.
    """
    # By role: the number of actors, and the GPUs of each.
    needs: dict[RoleName, tuple[int, int]] = dict.fromkeys(ROLES, (0, 0))
    if rollout is not None:
        needs["rollout"] = (rollout.num_actors, rollout.engine.engine.tensor_parallel_size)
    if judge is not None:
        judge_gpus = judge.engine.engine.tensor_parallel_size if judge.engine is not None else 0
        needs["judge"] = (placement.num_judge_actors, judge_gpus)
    if learner is not None:
        needs["learner"] = (learner.num_ranks, 1)
    num_tenants = sum(gpus > 0 for _, gpus in needs.values())

    def bundle(role: RoleName, num_gpus: int) -> Bundle:
        custom = placement.resources.get(role, {})
        if placement.device == "cpu":
            return {"CPU": CPU_SHARE, **custom}
        share = 1 / num_tenants if placement.takes_turns else 1.0
        gpus = {"GPU": share * num_gpus} if num_gpus else {}
        return {"CPU": 1.0, **gpus, **custom}

    return {role: [bundle(role, gpus)] * count for role, (count, gpus) in needs.items()}


def num_gpus(bundles: Sequence[Bundle]) -> int:
    """Returns the GPUs of all these bundles."""
    return int(sum(bundle.get("GPU", 0) for bundle in bundles))


def shared_bundles(by_role: Mapping[RoleName, Sequence[Bundle]]) -> list[Bundle]:
    """A bundle a number: what the actors of that number need together, and its GPU whole."""
    bundles: list[Bundle] = [{} for _ in range(max(map(len, by_role.values())))]
    for asked in by_role.values():
        for bundle, wanted in zip(bundles, asked, strict=False):
            for kind, amount in wanted.items():
                bundle[kind] = 1.0 if kind == "GPU" else bundle.get(kind, 0.0) + amount
    return bundles
