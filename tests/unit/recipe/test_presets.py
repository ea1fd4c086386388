"""Every preset differs from ``paper`` in exactly the settings it names, and in the right ones."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from r1reward.recipe.files import load_recipe
from r1reward.recipe.learner_sections import AlgorithmSection
from r1reward.recipe.sections import RewardSection

PRESETS = Path(__file__).parents[3] / "recipes" / "presets"
PLAIN_CLIP: dict[str, object] = {
    "algorithm.filter_sigma": None,
    "algorithm.pre_clip_min": None,
    "algorithm.pre_clip_max": None,
}
GROUPS_OF_8: dict[str, object] = {"rollout.prompts_per_step": 32, "rollout.samples_per_prompt": 8}
CHANGES: dict[str, dict[str, object]] = {
    "paper": {},
    "authors": {
        "prompt.format_mode": "authors",
        "judge.reply": "authors",
        "algorithm.kl_beta": 1e-3,
        "algorithm.filter_rule": "authors",
        "learner.lr": 3e-5,
        "learner.warmup_share": 0.03,
    },
    "reinforce_pp": {**PLAIN_CLIP, "reward.consistency_weight": 0},
    "ppo_clip": PLAIN_CLIP,
    "grpo": {
        **PLAIN_CLIP,
        **GROUPS_OF_8,
        "algorithm.baseline": "group_mean",
        "algorithm.normalize_scope": "group",
    },
    "rloo": {
        **PLAIN_CLIP,
        **GROUPS_OF_8,
        "algorithm.baseline": "leave_one_out",
        "algorithm.normalize": False,
    },
    "reinforce_pp_baseline": {**PLAIN_CLIP, **GROUPS_OF_8, "algorithm.baseline": "group_mean"},
}


def flat(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def test_the_table_names_every_preset() -> None:
    assert {path.stem for path in PRESETS.glob("*.yaml")} == set(CHANGES)


@pytest.mark.parametrize("name", CHANGES)
def test_a_preset_changes_what_it_names_and_nothing_else(name: str) -> None:
    path = PRESETS / f"{name}.yaml"
    paper = flat(load_recipe(PRESETS / "paper.yaml").model_dump(mode="json"))
    preset = flat(load_recipe(path).model_dump(mode="json"))
    changed = {key: value for key, value in preset.items() if paper.get(key) != value}
    own = {"name", "run_dir"} if name != "paper" else set()
    assert {key: changed[key] for key in changed if key not in own} == CHANGES[name]
    named = flat(yaml.safe_load(path.read_text()))
    assert set(named) - {"base", "name", "run_dir"} == set(CHANGES[name])


def test_paper_is_stable_reinforce_as_the_defaults_have_it() -> None:
    recipe = load_recipe(PRESETS / "paper.yaml")
    assert (recipe.algorithm, recipe.reward) == (AlgorithmSection(), RewardSection())
