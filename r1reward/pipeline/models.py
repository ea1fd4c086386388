"""The models of a pipeline by their content, so that a stage knows what it was made from."""

from __future__ import annotations

from pathlib import Path

from r1reward.models.model_folder import resolve_model_path
from r1reward.recipe.derive import ModelName, starting_model
from r1reward.recipe.recipe import Recipe
from r1reward.runs.manifest import content_hash, stage_record


def model_hash(path: str) -> str:
    """The hash of a model's files; a hub's name stands for itself."""
    folder = Path(resolve_model_path(path))
    return content_hash(folder) if folder.is_dir() else path


def starting_model_hash(recipe: Recipe) -> str:
    """The hash of the model that RL starts from. Raises ``InputError`` if SFT is not complete."""
    if starting_model(recipe) == "sft":
        return stage_record(recipe, "sft").output("model")
    return model_hash(recipe.model.path)


def model_hashes(recipe: Recipe) -> dict[ModelName, str]:
    """The hash of every model that the last stage compares.

    Raises ``InputError`` where a stage that makes a model is not complete.
    """
    hashes: dict[ModelName, str] = {"base": model_hash(recipe.model.path)}
    if recipe.sft is not None:
        hashes["sft"] = stage_record(recipe, "sft").output("model")
    hashes["rl"] = stage_record(recipe, "train").output("model")
    return hashes
