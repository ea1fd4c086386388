"""The stability study: its grid, its stresses, and how the end of a cell is read."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml

from r1reward.data.requests import PromptSet
from r1reward.errors import InputError
from r1reward.interfaces import RolloutBatch
from r1reward.metrics import Name
from r1reward.rollouts import LiveSource
from r1reward.types import RolloutRequest, WeightsHandle
from studies.stability.grid import (
    Grid,
    full_stack_cells,
    grid_cells,
    load_grid,
    start_folder,
    start_recipe,
)
from studies.stability.outcome import collapse_step, largest_fall
from studies.stability.stress import LateSource, StaleSource
from tests.fakes import (
    FakeGenerator,
    FakeJudge,
    make_pair,
    make_prompt,
    make_recipe,
    right_answer,
    wrong_answer,
)
from tests.recipes import live_source, step_requests

STUDY = Path(__file__).parents[3] / "recipes" / "studies" / "stability.yaml"


def small_grid(**changes: object) -> dict[str, object]:
    grid: dict[str, object] = {
        "seeds": [0, 1],
        "set": ["train.num_steps=3"],
        "variants": {
            "paper": {"recipe": "../presets/paper.yaml"},
            "changed": {"recipe": "../presets/paper.yaml", "set": ["learner.lr=5e-5"]},
        },
        "stresses": {
            "late": {
                "starts_trained": True,
                "wrong_per_batch": 1,
                "variants": ["paper"],
            },
            "hard": {"set": ["learner.lr=1e-3"], "variants": ["paper", "changed"]},
        },
        "start": {"recipe": "../presets/paper.yaml", "set": ["train.num_steps=9"]},
    }
    return grid | changes


def write_grid(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump(small_grid(**changes)))
    return path


# The grid --------------------------------------------------------------------------------------


def test_every_cell_of_the_study_is_a_recipe(tmp_path: Path) -> None:
    grid = load_grid(STUDY)
    cells = grid_cells(grid, STUDY.parent, tmp_path)
    wanted = sum(len(stress.variants) for stress in grid.stresses.values()) * len(grid.seeds)
    assert len(cells) == wanted
    assert len(grid.seeds) >= 3
    assert len({cell.recipe.run_dir for cell in cells}) == wanted, "no two cells share a folder"
    assert {cell.recipe.placement.mode for cell in cells} == {"in_process"}
    through_ray = full_stack_cells(grid, STUDY.parent, tmp_path)
    assert {cell.recipe.placement.mode for cell in through_ray} == {"colocate"}
    assert [cell.variant for cell in through_ray] == ["paper", "reinforce_pp"]


def test_the_presets_are_all_in_the_study() -> None:
    grid = load_grid(STUDY)
    presets = {path.name for path in (STUDY.parents[1] / "presets").glob("*.yaml")}
    used = {grid.variants[name].recipe.name for s in grid.stresses.values() for name in s.variants}
    assert used == presets


def test_a_variant_has_its_say_after_the_stress(tmp_path: Path) -> None:
    grid = Grid.model_validate(small_grid())
    cells = grid_cells(grid, STUDY.parent, tmp_path)
    rates = {(c.stress, c.variant, c.seed): c.recipe.learner.lr for c in cells}
    assert rates["hard", "paper", 0] == 1e-3
    assert rates["hard", "changed", 1] == 5e-5
    assert {cell.recipe.train.num_steps for cell in cells} == {3}
    assert {(cell.seed, cell.recipe.seed) for cell in cells} == {(0, 0), (1, 1)}


def test_cells_that_need_the_trained_model_come_last(tmp_path: Path) -> None:
    grid = Grid.model_validate(small_grid())
    cells = grid_cells(grid, STUDY.parent, tmp_path)
    assert [cell.stress for cell in cells] == ["hard"] * 4 + ["late"] * 2
    trained = start_folder(tmp_path) / "model"
    assert {c.recipe.model.path for c in cells if c.stress == "late"} == {str(trained)}
    assert {c.recipe.model.path for c in cells if c.stress == "hard"} == {"shapes"}
    assert start_recipe(grid, STUDY.parent, tmp_path).run_dir / "model" == trained
    assert start_recipe(grid, STUDY.parent, tmp_path).train.num_steps == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stresses": {"x": {"variants": ["gone"]}}}, "names the variant gone"),
        ({"seeds": []}, "seeds"),
        ({"colour": "red"}, "colour"),
        ({"full_stack": {"stress": "gone", "variants": []}}, "there is no stress gone"),
        ({"full_stack": {"stress": "hard", "variants": ["x"]}}, "x is no variant of hard"),
    ],
)
def test_a_grid_that_cannot_be_run_is_refused(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = write_grid(tmp_path, **changes)
    with pytest.raises(InputError, match=message) as refused:
        load_grid(path)
    assert str(path) in str(refused.value)


def test_groups_cannot_be_put_together_anew(tmp_path: Path) -> None:
    variants = {"paper": {"recipe": "../presets/grpo.yaml"}}
    stresses = {"late": {"wrong_per_batch": 1, "variants": ["paper"]}}
    grid = Grid.model_validate(small_grid(variants=variants, stresses=stresses))
    with pytest.raises(InputError, match="late: paper samples groups"):
        grid_cells(grid, STUDY.parent, tmp_path)


# Stresses --------------------------------------------------------------------------------------


def handle(version: int) -> WeightsHandle:
    return WeightsHandle(version, (), ())


def live(answer: Callable[[RolloutRequest], str], size: int) -> tuple[LiveSource, FakeGenerator]:
    recipe = make_recipe(rollout__prompts_per_step=size, learner__train_batch_size=size)
    pairs = [make_pair(i, preferred=1 if i % 2 else 2) for i in range(60)]
    requests = step_requests(recipe, PromptSet(pairs, make_prompt, 0))
    generator = FakeGenerator(answer)
    return live_source(recipe, generator, FakeJudge(), requests), generator


def test_stale_weights_are_exactly_so_many_steps_old() -> None:
    source, generator = live(right_answer, 4)
    stale = StaleSource(source, num_steps=2)

    async def collect() -> list[int]:
        for step in range(6):
            await stale.collect(step, handle(step))
        return generator.versions_used

    assert asyncio.run(collect()) == [0, 0, 0, 1, 2, 3]


def one_in(count: int) -> Callable[[RolloutRequest], str]:
    """Wrong for one question in ``count``."""

    def answer(request: RolloutRequest) -> str:
        number = int(request.prompt.pair.question.split()[1])
        return (right_answer if number % count else wrong_answer)(request)

    return answer


def late(answer: Callable[[RolloutRequest], str], size: int, num_wrong: int) -> RolloutBatch:
    source, _ = live(answer, size)
    return asyncio.run(LateSource(source, num_wrong).collect(0, handle(0)))


def test_a_late_batch_holds_the_wanted_number_of_wrong_answers() -> None:
    batch = late(one_in(3), size=24, num_wrong=1)
    results = [scored.reward.result for scored in batch.rollouts]
    assert (len(results), results.count(0.0)) == (24, 1)
    assert batch.metrics[Name.REWARD_RESULT].value == pytest.approx(23 / 24)
    drawn = batch.metrics[Name.ROLLOUT_DRAWN_RIGHT_SHARE]
    assert drawn.weight > 24, "others were sampled and left out"
    assert drawn.value == pytest.approx(2 / 3, abs=0.12)


def test_a_wrong_answer_is_looked_for_when_there_is_none() -> None:
    batch = late(one_in(30), size=12, num_wrong=1)
    assert [scored.reward.result for scored in batch.rollouts].count(0.0) == 1


def test_a_policy_that_is_never_right_gives_a_small_batch() -> None:
    batch = late(wrong_answer, size=8, num_wrong=1)
    assert len(batch.rollouts) == 1
    assert batch.metrics[Name.ROLLOUT_DRAWN_RIGHT_SHARE].value == 0


# Outcomes --------------------------------------------------------------------------------------


def steps(lost: Sequence[float], name: str) -> list[dict[str, float]]:
    return [{name: share} for share in lost]


def test_a_run_collapses_when_three_steps_are_no_better_than_a_coin() -> None:
    right = [0.7, 0.6, 0.5, 0.4, 0.5, 0.9]
    # Means of three: 0.6, 0.5, 0.4667, 0.6.
    assert collapse_step(right, [{}] * 6, False) == 4
    assert collapse_step([0.7, 0.2, 0.9, 0.9], [{}] * 4, False) is None


@pytest.mark.parametrize("name", [Name.ROLLOUT_UNPARSED_SHARE, Name.ROLLOUT_TRUNCATED_SHARE])
def test_a_run_collapses_when_most_traces_are_lost(name: str) -> None:
    right = [0.8] * 5
    assert collapse_step(right, steps([0, 0, 0.9, 0.9, 0.9], name), False) == 4
    assert collapse_step(right, steps([0, 0, 0.9, 0.0, 0.5], name), False) is None


def test_the_earliest_reason_counts_and_a_broken_update_is_one() -> None:
    lost = steps([0.9] * 3, Name.ROLLOUT_UNPARSED_SHARE)
    assert collapse_step([0.8] * 3, lost, True) == 3
    assert collapse_step([0.8] * 3, [{}] * 3, True) == 4
    assert collapse_step([], [], True) == 1


def test_the_fall_is_from_the_best_that_came_before() -> None:
    # Means of three: 0.6, 0.7, 0.8, 0.6, 0.7.
    assert largest_fall([0.6, 0.6, 0.6, 0.9, 0.9, 0.0, 1.2]) == pytest.approx(0.2)
    assert largest_fall([0.5, 0.6, 0.7, 0.8]) == 0
    assert largest_fall([0.5]) == 0
    assert not math.isnan(largest_fall([]))
