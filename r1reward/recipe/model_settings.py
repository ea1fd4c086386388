"""How a model folder wants to be asked: prompt and sizes it was trained with, beside its weights.

A reward model trained with one template and judged with another is a different, worse model, so an
exported folder carries these settings and evaluation starts from them.
"""

from pathlib import Path
from typing import Any

import yaml

from r1reward.errors import InputError, as_input_error
from r1reward.recipe.moved import with_new_names
from r1reward.recipe.sections import ModelSection, PromptSection

FILE_NAME = "r1reward.yaml"
SIZES = {"dtype", "min_image_tokens", "max_image_tokens", "max_prompt_tokens", "max_new_tokens"}


def write_model_settings(folder: Path, model: ModelSection, prompt: PromptSection) -> None:
    """Writes prompt and sizes into an exported model folder."""
    settings = {
        "model": model.model_dump(mode="json", include=SIZES),
        "prompt": prompt.model_dump(mode="json"),
    }
    (folder / FILE_NAME).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def read_model_settings(folder: Path) -> dict[str, Any]:
    """Recipe sections of a model folder; empty for one that has none. Raises ``InputError``."""
    path = folder / FILE_NAME
    if not path.is_file():
        return {}
    with as_input_error(f"{path}: not a YAML file", yaml.YAMLError, UnicodeDecodeError):
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(settings, dict) or not set(settings) <= {"model", "prompt"}:
        raise InputError(f"{path}: must hold the sections model and prompt only")
    return with_new_names(settings)[0]
