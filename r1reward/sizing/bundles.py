"""What every actor of a recipe asks Ray for: a bundle of resources each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from r1reward.recipe.engine_sections import RoleName, VllmJudge
from r1reward.recipe.recipe import EngineRecipe, Recipe

# On CPUs all actors share the cores, so each asks Ray for little; the threads they really use are
# placement.threads. Ray would otherwise wait for ever for cores that nobody is going to free.
CPU_SHARE = 0.05


Role = RoleName


ROLES: tuple[Role, ...] = ("rollout", "judge", "learner")


Bundle = dict[str, float]


def plan_bundles(recipe: EngineRecipe, roles: Sequence[Role] = ROLES) -> dict[Role, list[Bundle]]:
    """What every actor of the wanted roles needs; a role that is not wanted has no bundles.

    Actors that take turns on a GPU each ask for a share of it.
    """
    cuda = recipe.placement.device == "cuda"
    judge = recipe.judge
    judge_gpus = judge.engine.tensor_parallel_size if isinstance(judge, VllmJudge) else 0
    needs: dict[Role, tuple[int, int]] = {
        "rollout": (recipe.rollout.num_actors, recipe.rollout.engine.tensor_parallel_size),
        "judge": (recipe.placement.num_judge_actors, judge_gpus),
        "learner": (recipe.learner.num_ranks if isinstance(recipe, Recipe) else 0, 1),
    }

    num_tenants = sum(role in roles and gpus > 0 for role, (_, gpus) in needs.items())

    def bundle(role: Role, num_gpus: int) -> Bundle:
        custom = recipe.placement.resources.get(role, {})
        if not cuda:
            return {"CPU": CPU_SHARE, **custom}
        share = 1 / num_tenants if recipe.placement.takes_turns else 1.0
        gpus = {"GPU": share * num_gpus} if num_gpus else {}
        return {"CPU": 1.0, **gpus, **custom}

    return {
        role: [bundle(role, num_gpus)] * count if role in roles else []
        for role, (count, num_gpus) in needs.items()
    }


def shared_bundles(by_role: Mapping[Role, Sequence[Bundle]]) -> list[Bundle]:
    """A bundle a number: what the actors of that number need together, and its GPU whole."""
    bundles: list[Bundle] = [{} for _ in range(max(map(len, by_role.values())))]
    for asked in by_role.values():
        for bundle, wanted in zip(bundles, asked, strict=False):
            for kind, amount in wanted.items():
                bundle[kind] = 1.0 if kind == "GPU" else bundle.get(kind, 0.0) + amount
    return bundles
