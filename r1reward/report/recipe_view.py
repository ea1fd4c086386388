"""What the page says of a recipe: its text, and the settings that tell one run from another.

A recipe of another version cannot be read: then its text is shown, and the folders tell the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from r1reward.errors import RecipeError
from r1reward.recipe.derive import ModelName, StageName, is_pipeline, models, planned_stages
from r1reward.recipe.files import RecipeKind, build_recipe, read_settings
from r1reward.recipe.pipeline_sections import (
    AttemptsSelection,
    EndpointTeacher,
    PassRateSelection,
    SelectSection,
    Teacher,
    VllmTeacher,
)
from r1reward.recipe.recipe import Recipe, SftRecipe
from r1reward.recipe.sections import Section
from r1reward.report.facts import Facts
from r1reward.runs.folder import RunFolder
from r1reward.runs.manifest import StageRecord


@dataclass(frozen=True)
class RecipeView:
    """A recipe's name and text; ``facts`` is empty where the recipe cannot be read."""

    name: str
    text: str
    facts: Facts


@dataclass(frozen=True)
class PipelineRecipe(RecipeView):
    """``max_attempts`` is the teacher's limit for one pair, None where there is none."""

    stages: Sequence[StageName]
    benches: Sequence[str]
    models: Sequence[ModelName]
    max_attempts: int | None


def run_recipe(root: Path, *, is_supervised: bool) -> RecipeView:
    """The recipe of a run of RL, or of fine-tuning on traces."""
    kind: type[Recipe] | type[SftRecipe] = SftRecipe if is_supervised else Recipe
    text, recipe = read_recipe(root, kind)
    if isinstance(recipe, Recipe):
        return RecipeView(recipe.name, text, rl_facts(recipe))
    if isinstance(recipe, SftRecipe):
        return RecipeView(recipe.name, text, supervised_facts(recipe))
    return RecipeView(root.resolve().name, text, {})


def pipeline_recipe(root: Path) -> PipelineRecipe | None:
    """The recipe of a pipeline; None if the folder is that of a single run."""
    text, recipe = read_recipe(root, Recipe)
    if recipe is None:
        return recipe_of_folders(root, text)
    if not is_pipeline(recipe):
        return None
    return PipelineRecipe(
        name=recipe.name,
        text=text,
        facts=pipeline_facts(recipe),
        stages=planned_stages(recipe),
        benches=[bench.name for bench in recipe.final.benches] if recipe.final else [],
        models=models(recipe),
        max_attempts=recipe.annotate.max_attempts if recipe.annotate else None,
    )


def read_recipe(root: Path, kind: type[RecipeKind]) -> tuple[str, RecipeKind | None]:
    """The text of recipe.yaml, and the recipe unless it is of another version."""
    path = RunFolder(root).recipe
    text = path.read_text(encoding="utf-8", errors="replace")
    with suppress(RecipeError):
        return text, build_recipe(kind, read_settings(path, seen=()), (), str(path))
    return text, None


def recipe_of_folders(root: Path, text: str) -> PipelineRecipe | None:
    """What the stages' folders tell of a pipeline whose recipe cannot be read."""
    stages: list[StageName] = [
        stage for stage in get_args(StageName) if StageRecord(stage, root / stage).path.is_file()
    ]
    if not stages:
        return None
    benches = sorted(path.name for path in RunFolder(root).evaluations.glob("*/"))
    every_model = get_args(ModelName)
    return PipelineRecipe(root.resolve().name, text, {}, stages, benches, every_model, None)


def rl_facts(recipe: Recipe) -> Facts:
    """The settings that tell one run of RL from another."""
    return {
        "Model": recipe.model.path,
        "Trained on": section_text(recipe.data.train),
        "Steps planned": str(recipe.train.num_steps),
        "Prompts a step": str(recipe.rollout.prompts_per_step),
        "Learning rate": str(recipe.learner.lr),
        "KL weight": str(recipe.algorithm.kl_beta),
        "Policy lag": str(recipe.train.max_policy_lag),
        "Seed": str(recipe.seed),
    }


def supervised_facts(recipe: SftRecipe) -> Facts:
    """The settings that tell one run of fine-tuning on traces from another."""
    return {
        "Model": recipe.model.path,
        "Steps planned": str(recipe.num_steps),
        "Traces a step": str(recipe.learner.train_batch_size),
        "Learning rate": str(recipe.learner.lr),
        "Seed": str(recipe.seed),
    }


def pipeline_facts(recipe: Recipe) -> Facts:
    """The settings of the stages that the pipeline has."""
    facts = {"Base model": recipe.model.path, "Pairs": section_text(recipe.data.train)}
    if recipe.annotate:
        facts["Teacher"] = teacher_text(recipe.annotate.teacher)
        facts["Attempts a pair at most"] = str(recipe.annotate.max_attempts)
    if recipe.sft:
        facts["Traces for SFT at most"] = str(recipe.sft.num_traces or "all that agree")
        facts["Learning rate of SFT"] = str(recipe.sft.lr)
    if recipe.select:
        facts["Pairs for RL"] = selection_text(recipe.select)
    facts["RL steps planned"] = str(recipe.train.num_steps)
    facts["Prompts a step"] = str(recipe.rollout.prompts_per_step)
    facts["Learning rate of RL"] = str(recipe.learner.lr)
    if recipe.final:
        facts["Benchmarks"] = ", ".join(bench.name for bench in recipe.final.benches)
    return facts | {"Seed": str(recipe.seed)}


def teacher_text(teacher: Teacher) -> str:
    """The teacher's kind and model, but not how it is reached."""
    match teacher:
        case EndpointTeacher(model=name) | VllmTeacher(path=name):
            return f"{teacher.type}, {name}"
    return teacher.type


def selection_text(section: SelectSection) -> str:
    """Which pairs are selected, in words."""
    match section:
        case AttemptsSelection(levels=levels):
            tried = ", ".join(str(level) for level in levels if level != "failed")
            agreed = f"agreed after {tried} attempts" if tried else ""
            return ", or ".join(filter(None, [agreed, "failed" if "failed" in levels else ""]))
        case PassRateSelection(min_rate=low, max_rate=high):
            return f"right in {100 * low:g} to {100 * high:g} % of the policy's own samples"
    return section_text(section)


def section_text(section: Section) -> str:
    """Every setting that has a value."""
    settings = section.model_dump(mode="json", exclude_none=True)
    return ", ".join(f"{name} {value}" for name, value in settings.items())
