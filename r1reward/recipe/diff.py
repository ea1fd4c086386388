"""Is this the recipe that a run folder was made with? What may differ, and what differs."""

import os
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from r1reward.recipe.moved import GONE, with_new_names
from r1reward.recipe.recipe import RunRecipe

# Where a run lies, what it is given to run on and what it shows: nothing of it changes what comes out. A
# setting or a section each.
MAY_CHANGE = (
    *("run_dir", "run_url", "tracking", "rollout.num_actors", "rollout.max_retries"),
    *("placement.strategy", "placement.resources", "placement.wait_s", "placement.object_store_mb"),
    *("placement.num_judge_actors", "train.keep_checkpoints", "sft.keep_checkpoints"),
    *("learner.image_cache_mb", "learner.timeout_s"),
    *("endpoint.url", "endpoint.api_key_env", "endpoint.timeout_s", "endpoint.max_concurrent"),
    "endpoint.max_tokens_field",
)
# What a pipeline's stages read of each other, which moves with the pipeline's folder.
HANDED_ON = ("sft/model", "train/model", "select/pairs")
MOST_CHANGES_SAID = 3


def recipe_changes(text: str, recipe: RunRecipe) -> list[str]:
    """How a recipe differs from the one that a run folder keeps, as half sentences; empty if it does not.

    A setting that the kept one does not know yet counts as its default; those in ``MAY_CHANGE`` do not
    count.
    """
    try:
        kept = yaml.safe_load(text)
        kept = with_new_names(kept)[0] if isinstance(kept, dict) else kept
        kept = type(recipe).model_validate(kept).model_dump(mode="json")
    except (yaml.YAMLError, ValidationError):
        return ["its recipe.yaml is of another version of r1reward, or changed by hand"]
    old, new = flat(kept), flat(recipe.model_dump(mode="json"))

    changed = [
        sentence
        for name, sentence in setting_changes(old, new).items()
        if path_in_run(old, name) is None or path_in_run(old, name) != path_in_run(new, name)
    ]
    more = len(changed) - MOST_CHANGES_SAID
    return [*changed[:MOST_CHANGES_SAID], f"and {more} more"] if more > 0 else changed


def setting_changes(old: Mapping[str, object], new: Mapping[str, object]) -> dict[str, str]:
    """What has changed among settings by dotted name, as half sentences, but for ``MAY_CHANGE`` and for
    settings that are gone.
    """
    return {
        name: f"{name} was {shown(old.get(name))}, now it is {shown(new.get(name))}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
        and not may_change(name)
        and tuple(name.split(".")) not in GONE
    }


def path_in_run(settings: Mapping[str, object], name: str) -> str | None:
    """From the run folder on, for what has moved with it."""
    path = str(settings.get(name))
    return os.path.relpath(path, str(settings["run_dir"])) if path.endswith(HANDED_ON) else None


def may_change(name: str) -> bool:
    """Whether a run may go on with another value of this setting, by its dotted name."""
    return any(name == kept or name.startswith(f"{kept}.") for kept in MAY_CHANGE)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested settings under dotted names."""
    found: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def shown(value: object) -> str:
    return "not set" if value is None else str(value)
