"""What the page says of a recipe: its text, and the settings that tell one run from another.

A recipe of another version cannot be read: then its text is shown, and the folders tell the rest.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import get_args

from r1reward.errors import RecipeError
from r1reward.recipe.derive import ModelName, StageName, is_pipeline, models, planned_stages
from r1reward.recipe.files import RecipeKind, build_recipe, read_settings
from r1reward.recipe.pipeline_sections import (
    AttemptsSelection,
    EndpointTeacher,
    FinalSection,
    PassRateSelection,
    ShapesTeacher,
    VllmTeacher,
)
from r1reward.recipe.recipe import Recipe, RunRecipe, SftRecipe
from r1reward.recipe.sections import Section
from r1reward.report.facts import Facts
from r1reward.runs.folder import RunFolder
from r1reward.runs.manifest import StageRecord

# What the page lists, where a recipe has it.
SETTINGS = {
    "Model": "model.path",
    "Pairs": "data.train",
    "Teacher": "annotate.teacher",
    "Attempts a pair at most": "annotate.max_attempts",
    "Traces for SFT at most": "sft.num_traces",
    "Traces a step": "sft.batch_size",
    "Learning rate of SFT": "sft.lr",
    "Steps planned": "num_steps",
    "Pairs for RL": "select",
    "RL steps planned": "train.num_steps",
    "Prompts a step": "rollout.prompts_per_step",
    "Learning rate": "learner.lr",
    "KL weight": "algorithm.kl_beta",
    "Policy lag": "train.max_policy_lag",
    "Benchmarks": "final",
    "Seed": "seed",
}


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


def run_recipe(root: Path, kind: type[Recipe] | type[SftRecipe]) -> RecipeView:
    """The recipe of a run of RL, or of fine-tuning on traces."""
    text, recipe = read_recipe(root, kind)
    return RecipeView(recipe.name if recipe else root.resolve().name, text, recipe_facts(recipe))


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
        facts=recipe_facts(recipe),
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


def recipe_facts(recipe: RunRecipe | None) -> Facts:
    """The settings that tell one run from another, as many as this kind of recipe has a value for."""
    facts = {}
    for label, name in SETTINGS.items():
        value = reduce(lambda section, part: getattr(section, part, None), name.split("."), recipe)
        if value is not None:
            facts[label] = setting_text(value)
    return facts


def setting_text(value: object) -> str:
    """A setting in words; of a teacher not how it is reached."""
    match value:
        case EndpointTeacher(type=kind, model=name) | VllmTeacher(type=kind, path=name):
            return f"{kind}, {name}"
        case ShapesTeacher(type=kind):
            return kind
        case AttemptsSelection(levels=levels):
            tried = ", ".join(str(level) for level in levels if level != "failed")
            agreed = f"agreed after {tried} attempts" if tried else ""
            return ", or ".join(filter(None, [agreed, "failed" if "failed" in levels else ""]))
        case PassRateSelection(min_rate=low, max_rate=high):
            return f"right in {100 * low:g} to {100 * high:g} % of the policy's own samples"
        case FinalSection(benches=benches):
            return ", ".join(bench.name for bench in benches)
        case Section():
            settings = value.model_dump(mode="json", exclude_none=True)
            return ", ".join(f"{name} {setting}" for name, setting in settings.items())
    return str(value)
