"""From a pipeline recipe to the recipes of its stages, and what must hold between its sections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from r1reward.algorithm.learning_rate import learning_rate
from r1reward.errors import RecipeError
from r1reward.recipe.components import sft_learner
from r1reward.recipe.derive import (
    final_recipe,
    is_pipeline,
    models,
    planned_stages,
    rl_recipe,
    sft_recipe,
    stage_folder,
)
from r1reward.recipe.engine_sections import VllmJudge
from r1reward.recipe.files import build_recipe, dump_recipe, load_recipe
from r1reward.recipe.pipeline_sections import SftSection
from r1reward.recipe.recipe import Recipe, SftRecipe
from r1reward.recipe.sections import FileSource
from r1reward.runs.folder import RunFolder

RECIPES = Path(__file__).parents[3] / "recipes"
LOCAL = RECIPES / "pipeline_local.yaml"


def pipeline(*overrides: str) -> Recipe:
    return load_recipe(LOCAL, overrides)


def refused(*overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        pipeline(*overrides)
    return str(caught.value)


def test_stages_run_in_the_order_of_the_paper() -> None:
    assert planned_stages(pipeline()) == ["annotate", "sft", "select", "train", "eval"]


def test_a_stage_without_its_section_is_left_out() -> None:
    assert planned_stages(pipeline("sft=null")) == ["annotate", "select", "train", "eval"]
    assert models(pipeline("sft=null")) == ["base", "rl"]
    assert planned_stages(pipeline("final=null", "select=null")) == ["annotate", "sft", "train"]


def test_a_recipe_without_other_stages_trains_in_its_run_folder() -> None:
    recipe = load_recipe(RECIPES / "local.yaml")
    assert not is_pipeline(recipe)
    assert rl_recipe(recipe) is recipe
    assert stage_folder(recipe, "train") == recipe.run_dir


def test_rl_starts_from_the_sft_model_on_the_selected_pairs() -> None:
    recipe = pipeline("run_dir=/r")
    run = rl_recipe(recipe)
    assert run.model.path == "/r/sft/model"
    assert run.data.train == FileSource(type="file", path=Path("/r/select/pairs"))
    assert run.data.heldout == recipe.data.heldout
    assert run.run_dir == Path("/r/train")
    assert not is_pipeline(run)
    assert run.learner == recipe.learner
    assert build_recipe(Recipe, run.model_dump(mode="json"), (), "rl") == run


def test_rl_without_sft_and_selection_starts_from_the_base_on_all_pairs() -> None:
    recipe = pipeline("sft=null", "select=null")
    run = rl_recipe(recipe)
    assert run.model == recipe.model
    assert run.data == recipe.data


def test_the_judge_stays_the_base_model_in_every_stage() -> None:
    recipe = pipeline("model.path=the/base")
    assert recipe.final is not None
    for run in (
        rl_recipe(recipe),
        final_recipe(recipe, recipe.final, "rl", recipe.final.benches[0]),
    ):
        assert isinstance(run.judge, VllmJudge)
        assert run.judge.path == "the/base"
    other = rl_recipe(pipeline("judge.path=another/judge"))
    assert isinstance(other.judge, VllmJudge) and other.judge.path == "another/judge"


def test_sft_is_the_learner_of_rl_with_its_own_batch_and_schedule() -> None:
    recipe = pipeline("sft.lr=3e-4", "sft.batch_size=16", "sft.warmup_share=0.5")
    assert recipe.sft is not None
    run = sft_recipe(recipe, recipe.sft, num_steps=10)
    assert sft_learner(run).num_updates == 10
    assert (run.learner.lr, run.learner.train_batch_size) == (3e-4, 16)
    assert run.learner.packing == recipe.learner.packing
    rates = [learning_rate(step, 10, run.learner) for step in range(10)]
    assert max(rates) == pytest.approx(3e-4)
    assert rates[0] < rates[4] and rates[9] < rates[5]
    with_kl = sft_learner(sft_recipe(pipeline("algorithm.kl_beta=0.1"), recipe.sft, 10))
    assert not with_kl.algorithm.needs_reference
    assert build_recipe(SftRecipe, run.model_dump(mode="json"), (), "sft") == run


@pytest.mark.parametrize(
    "overrides",
    [
        ["algorithm.baseline=group_mean", "rollout.samples_per_prompt=2"],
        ["rollout.samples_per_prompt=2", "rollout.dynamic_sampling={max_rounds: 2}"],
        ["rollout.both_orders=true", "reward.position_weight=0.5", "sft.batch_size=31"],
        ["learner.train_batch_size=256", "sft.batch_size=24"],
    ],
)
def test_a_killed_sft_goes_on_whatever_rl_samples(tmp_path: Path, overrides: list[str]) -> None:
    recipe = pipeline(f"run_dir={tmp_path}", *overrides)
    assert recipe.sft is not None
    run = sft_recipe(recipe, recipe.sft, num_steps=10)
    folder = RunFolder.of(run)
    folder.prepare(run)
    folder.metrics.write_text('{"step": 1}\n')
    folder.prepare(run)
    assert build_recipe(SftRecipe, yaml.safe_load(folder.recipe.read_text()), (), "sft") == run


def test_every_derived_recipe_is_validated() -> None:
    recipe = pipeline("learner.num_ranks=2")
    with pytest.raises(ValidationError, match="below learner"):
        sft_recipe(recipe, SftSection(batch_size=1), num_steps=10)


def test_every_model_is_evaluated_alike_in_a_folder_of_its_own() -> None:
    recipe = pipeline("run_dir=/r", "final.samples=5", "final.adaptive=0.01")
    assert recipe.final is not None
    found = {
        model: final_recipe(recipe, recipe.final, model, recipe.final.benches[0])
        for model in models(recipe)
    }
    assert {model: run.model.path for model, run in found.items()} == {
        "base": "shapes",
        "sft": "/r/sft/model",
        "rl": "/r/train/model",
    }
    assert {str(run.run_dir) for run in found.values()} == {
        f"/r/eval/shapes/{model}" for model in found
    }
    for run in found.values():
        assert (run.evaluate.samples, run.evaluate.adaptive) == (5, 0.01)
        assert run.evaluate.sampling_temperature == 1.0
        assert run.prompt == recipe.prompt


def test_the_pipeline_survives_being_written_down(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(pipeline()))
    assert load_recipe(path) == pipeline()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["annotate=null"], "sft learns a teacher's traces: add the section annotate"),
        (["annotate=null", "sft=null"], "add the section annotate, or choose another select.type"),
        (["select.levels=[2,4]"], "select.levels has 4, but annotate.max_attempts is 3"),
        (["learner.num_ranks=2", "sft.batch_size=1"], "sft.batch_size (1) is below"),
        (["annotate.prompt={answer_tag: verdict}"], "give both the same think_tag and answer_tag"),
        (["prompt.answer_tag=verdict"], "leave prompt.think_tag and prompt.answer_tag"),
        (["data.train={type: file, path: p.parquet}"], "knows the built-in pairs only"),
        (["data.train={type: shapes, split: hard_train, num_pairs: 8}"], "built-in pairs only"),
        (["annotate.teacher={type: openai, model: m}"], "annotate.teacher.url: missing"),
        (["annotate.teacher={type: gpt}"], "annotate.teacher"),
        (
            ["select={type: pass_rate, min_rate: 0.9, max_rate: 0.1}"],
            "select.min_rate (0.9) is above select.max_rate (0.1)",
        ),
        (["select.level=[2]"], "select.level: unknown key; did you mean 'levels'?"),
        (
            ["final.benches=[{name: shapes}, {name: shapes}]"],
            "final.benches names shapes twice",
        ),
        (["final.temperature=0"], "greedy samples are all alike"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(overrides: list[str], message: str) -> None:
    assert message in refused(*overrides)


def test_a_key_is_never_part_of_a_recipe() -> None:
    teacher: dict[str, Any] = {"type": "openai", "url": "https://key@host/v1", "model": "m"}
    assert "environment variable" in refused(f"annotate.teacher={teacher}")
