"""What every actor asks of the cluster."""

from pathlib import Path

import pytest

from r1reward.errors import RecipeError
from r1reward.recipe.files import load_recipe
from r1reward.sizing.bundles import shared_bundles, training_bundles

RECIPES = Path(__file__).parents[3] / "recipes"


def test_judges_take_the_resource_of_their_nodes_and_nobody_else_does() -> None:
    recipe = load_recipe(
        RECIPES / "r1_reward_7b_multinode.yaml", ["placement.resources.judge.judge=1"]
    )
    bundles = training_bundles(recipe)
    assert bundles["judge"] == [{"CPU": 1.0, "GPU": 1.0, "judge": 1.0}] * 4
    assert bundles["rollout"] == [{"CPU": 1.0, "GPU": 2.0}] * 4
    assert bundles["learner"] == [{"CPU": 1.0, "GPU": 1.0}] * 8


def test_without_it_judges_go_where_there_is_room() -> None:
    recipe = load_recipe(RECIPES / "r1_reward_7b.yaml")
    assert training_bundles(recipe)["judge"] == [{"CPU": 1.0, "GPU": 1.0}]


@pytest.mark.parametrize("name", ["GPU", "cpu", "memory"])
def test_a_resource_that_every_node_has_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=f"resources.judge names '{name}'"):
        load_recipe(RECIPES / "r1_reward_7b.yaml", [f"placement.resources.judge.{name}=1"])


COLOCATE = (
    "placement.mode=colocate",
    "learner.zero_stage=2",
    "rollout.num_actors=4",
    "rollout.engine.gpu_memory_utilization=0.6",
    "judge.engine.gpu_memory_utilization=0.3",
)


def test_actors_of_one_number_share_a_gpu_when_they_take_turns() -> None:
    by_role = training_bundles(load_recipe(RECIPES / "r1_reward_7b.yaml", COLOCATE))
    third = {"CPU": 1.0, "GPU": pytest.approx(1 / 3)}
    assert by_role == {"rollout": [third] * 4, "judge": [third], "learner": [third] * 4}
    assert sum(bundle["GPU"] for bundle in by_role["rollout"]) < 2, "Ray may round up, not over"
    # The judge is on the first GPU; every GPU is held whole.
    shared = shared_bundles(by_role)
    assert shared == [{"CPU": 3.0, "GPU": 1.0}, *[{"CPU": 2.0, "GPU": 1.0}] * 3]


def test_a_judge_that_needs_no_gpu_takes_no_share_of_one() -> None:
    recipe = load_recipe(RECIPES / "r1_reward_7b.yaml", [*COLOCATE[:3], "judge={type: rule}"])
    by_role = training_bundles(recipe)
    assert by_role["judge"] == [{"CPU": 1.0}]
    assert by_role["learner"] == [{"CPU": 1.0, "GPU": 0.5}] * 4
    assert {bundle["GPU"] for bundle in shared_bundles(by_role)} == {1.0}
