"""What actors ask of a cluster, and what is said when it has not got it."""

from __future__ import annotations

from pathlib import Path

import pytest

from r1reward.actors.placement import missing_resources
from r1reward.errors import RecipeError
from r1reward.recipe.files import load_recipe
from r1reward.sizing.bundles import training_bundles

RECIPES = Path(__file__).parents[3] / "recipes"


def test_a_role_takes_custom_resources_beside_cpus_and_gpus() -> None:
    recipe = load_recipe(
        RECIPES / "r1_reward_7b.yaml", ["placement.resources={judge: {judge_node: 1}}"]
    )
    bundles = training_bundles(recipe)
    assert all(bundle["judge_node"] == 1 for bundle in bundles["judge"])
    assert all("judge_node" not in bundle for bundle in bundles["learner"])
    assert all(bundle["GPU"] >= 1 for bundle in bundles["rollout"])


def test_a_role_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"placement\.resources"):
        load_recipe(RECIPES / "local.yaml", ["placement.resources={jugde: {judge_node: 1}}"])


@pytest.mark.parametrize(
    ("bundles", "nodes", "free", "said"),
    [
        (
            [{"CPU": 1, "GPU": 1}] * 8,
            [{"CPU": 8, "GPU": 4}],
            {"CPU": 8, "GPU": 4},
            "8 GPU wanted, 4 in the cluster, 4 free; 1 node(s)",
        ),
        (
            [{"GPU": 1}] * 4,
            [{"GPU": 4}],
            {"GPU": 1},
            "4 GPU wanted, 4 in the cluster, 1 free; 1 node(s)",
        ),
        (
            [{"CPU": 1, "GPU": 8}],
            [{"CPU": 8, "GPU": 4}, {"CPU": 8, "GPU": 4}],
            {"CPU": 16, "GPU": 8},
            "no single node has 1 CPU, 8 GPU for one actor; 2 node(s)",
        ),
        (
            [{"CPU": 1, "judge_node": 1}],
            [{"CPU": 8}],
            {"CPU": 8},
            "1 judge_node wanted, 0 in the cluster, 0 free; "
            "no single node has 1 CPU, 1 judge_node for one actor; 1 node(s)",
        ),
        (
            [{"GPU": 2}, {"GPU": 2}, {"GPU": 2}],
            [{"GPU": 3}, {"GPU": 3}],
            {"GPU": 6},
            "there is enough in all, but not together on the nodes that an actor needs; 2 node(s)",
        ),
    ],
)
def test_what_the_cluster_lacks_is_named(
    bundles: list[dict[str, float]],
    nodes: list[dict[str, float]],
    free: dict[str, float],
    said: str,
) -> None:
    assert missing_resources(bundles, nodes, free) == said
