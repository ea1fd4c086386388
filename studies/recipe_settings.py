"""Recipes of a study: one recipe, changed for every seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from r1reward.recipe.files import merge
from r1reward.recipe.recipe import Recipe


def with_settings(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other settings, nested as in a file, validated anew."""
    return Recipe.model_validate(merge(recipe.model_dump(), changes))
