"""The models of a pipeline by their content, so that a stage knows what it was made from."""

from __future__ import annotations

from pathlib import Path

from r1reward.models.model_folder import resolve_model_path
from r1reward.recipe.derive import ModelName
from r1reward.recipe.recipe import Recipe
from r1reward.runs.manifest import content_hash, stage_record


def model_hash(recipe: Recipe, model: ModelName) -> str:
    """The hash of a model's files; a hub's name stands for itself.

    Raises ``InputError`` if the stage that makes the model is not complete.
    """
    if model != "base":
        return stage_record(recipe, "sft" if model == "sft" else "train").output("model")
    folder = Path(resolve_model_path(recipe.model.path))
    return content_hash(folder) if folder.is_dir() else recipe.model.path
