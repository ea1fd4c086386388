"""Tiny random models of every family as fixtures, each built once a test session."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from r1reward.recipe.sections import ModelSection
from studies.families.tiny_models import TINY_MODELS, build_tiny_model

# In every test run; the others run with the slow tests.
FAST = ("qwen3_vl", "gemma4", "llama")


def parameters(names: Iterable[str]) -> list[Any]:
    """For ``parametrize``: all of these families, most of them marked slow."""
    return [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in names]


FAMILIES = parameters(TINY_MODELS)
SEEING = parameters(name for name, tiny in TINY_MODELS.items() if tiny.placeholder)


@cache
def tiny_folder(name: str) -> Path:
    return build_tiny_model(name, Path(mkdtemp(prefix="tiny-")) / name)


def tiny_section(name: str, **settings: object) -> ModelSection:
    bounds = {"path": str(tiny_folder(name)), "dtype": "float32", "max_image_tokens": 128}
    return ModelSection.model_validate(bounds | settings)
