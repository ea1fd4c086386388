"""What every actor asks of the cluster."""

from pathlib import Path

import pytest

from r1reward.actors.placement import plan_bundles
from r1reward.config import RecipeError
from r1reward.recipe_file import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def test_judges_take_the_resource_of_their_nodes_and_nobody_else_does() -> None:
    recipe = load_recipe(
        RECIPES / "r1_reward_7b_multinode.yaml", ["placement.resources.judge.judge=1"]
    )
    bundles = plan_bundles(recipe)
    assert bundles["judge"] == [{"CPU": 1.0, "GPU": 1.0, "judge": 1.0}] * 4
    assert bundles["rollout"] == [{"CPU": 1.0, "GPU": 2.0}] * 4
    assert bundles["learner"] == [{"CPU": 1.0, "GPU": 1.0}] * 8


def test_without_it_judges_go_where_there_is_room() -> None:
    recipe = load_recipe(RECIPES / "r1_reward_7b.yaml")
    assert plan_bundles(recipe)["judge"] == [{"CPU": 1.0, "GPU": 1.0}]


@pytest.mark.parametrize("name", ["GPU", "cpu", "memory"])
def test_a_resource_that_every_node_has_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=f"resources.judge names '{name}'"):
        load_recipe(RECIPES / "r1_reward_7b.yaml", [f"placement.resources.judge.{name}=1"])
