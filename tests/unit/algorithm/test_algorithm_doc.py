"""docs/algorithm.md names functions, modules, classes, settings and test files: they have to be there."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from r1reward.recipe.choices import JudgeTemplateName
from r1reward.recipe.files import variants
from r1reward.recipe.learner_sections import AlgorithmSection, RolloutCorrection
from r1reward.recipe.recipe import Recipe

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "algorithm.md").read_text()
CODE = re.compile(r"`([^`\n]+)`")
MODULE = re.compile(r"([\w/]+)\.py(?:: (.+))?")
FUNCTION = re.compile(r"(advantage|baseline|batch|correction|kl|loss|reward|step)\.(\w+)")
CLASS = re.compile(r"(AlgorithmSection)\.(\w+)")
CALL = re.compile(r"(\w+)\((\w+)=…\)")
SETTING = re.compile(r"([a-z_]+)\.([a-z_0-9]+)(?:[:=].*)?")
ALGORITHM_SETTING = re.compile(r"([a-z_]+): .+")
WORD = re.compile(r"[a-z_0-9]+")


def words_of_settings() -> set[str]:
    """Sections, the settings of the algorithm, and the choices of these."""
    annotations = [field.annotation for field in AlgorithmSection.model_fields.values()]
    choices = {choice for annotation in annotations for choice in get_args(annotation)}
    corrections = {
        get_args(section.model_fields["type"].annotation)[0]
        for section in get_args(get_args(RolloutCorrection)[0])
    }
    templates = get_args(JudgeTemplateName)
    return {*Recipe.model_fields, *AlgorithmSection.model_fields, *corrections, *templates} | {
        choice for choice in choices if isinstance(choice, str)
    }


def problems(text: str) -> list[str]:
    """Every name of the page that is not there, as a sentence."""
    return [sentence for name in CODE.findall(text) for sentence in problems_of(name)]


def problems_of(name: str) -> Iterator[str]:
    sections = Recipe.model_fields
    if match := MODULE.fullmatch(name):
        yield from module_problems(match[1], match[2] or "")
    elif match := FUNCTION.fullmatch(name):
        if not has_attribute(f"r1reward.algorithm.{match[1]}", match[2]):
            yield f"algorithm/{match[1]}.py has no {match[2]}"
    elif match := CLASS.fullmatch(name):
        if not hasattr(AlgorithmSection, match[2]):
            yield f"{match[1]} has no {match[2]}"
    elif match := CALL.fullmatch(name):
        function = getattr(importlib.import_module("r1reward.algorithm.advantage"), match[1], None)
        if function is None or match[2] not in function.__code__.co_varnames:
            yield f"no function {match[1]} takes {match[2]}"
    elif (match := SETTING.fullmatch(name)) and match[1] in sections:
        section = sections[match[1]].annotation
        kinds = [*variants(section), section]
        settings = {name for kind in kinds for name in getattr(kind, "model_fields", {})}
        if match[2] not in settings:
            yield f"the section {match[1]} has no setting {match[2]}"
    elif "." in name and SETTING.fullmatch(name):
        yield f"{name} is neither a function nor a setting"
    elif match := ALGORITHM_SETTING.fullmatch(name):
        if match[1] not in AlgorithmSection.model_fields:
            yield f"the section algorithm has no setting {match[1]}"
    elif WORD.fullmatch(name) and name not in words_of_settings():
        yield f"{name} is neither a setting of the algorithm nor a choice of one"


def module_problems(module: str, names: str) -> Iterator[str]:
    folder = ROOT / ("tests" if module.startswith("unit/") else "r1reward")
    if not (folder / f"{module}.py").is_file():
        yield f"there is no {module}.py"
        return
    for name in filter(None, names.split(", ")):
        owner, _, attribute = name.partition(".")
        value = getattr(
            importlib.import_module(f"r1reward.{module.replace('/', '.')}"), owner, None
        )
        if value is None or (attribute and not hasattr(value, attribute)):
            yield f"{module}.py has no {name}"


def has_attribute(module: str, name: str) -> bool:
    return hasattr(importlib.import_module(module), name)


def test_everything_that_the_page_names_is_there() -> None:
    assert problems(TEXT) == []
    assert len(CODE.findall(TEXT)) > 60


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("algorithm/reward.py: scores", "algorithm/reward.py has no scores"),
        ("algorithm/kl.py: token_rewards, returns", "algorithm/kl.py has no returns"),
        ("rollouts.py: LiveSource.redraw", "rollouts.py has no LiveSource.redraw"),
        ("algorithm/rewards.py: score", "there is no algorithm/rewards.py"),
        ("unit/algorithm/test_gone.py", "there is no unit/algorithm/test_gone.py"),
        ("loss.policy_losses", "algorithm/loss.py has no policy_losses"),
        ("step.advantages", "algorithm/step.py has no advantages"),
        ("AlgorithmSection.clip", "AlgorithmSection has no clip"),
        ("recipe/components.py: rollout", "recipe/components.py has no rollout"),
        ("advantages_from_returns(masked=…)", "no function advantages_from_returns takes masked"),
        ("algorithm.filter", "the section algorithm has no setting filter"),
        ("rollout.dynamic: {max_rounds: N}", "the section rollout has no setting dynamic"),
        ("losses.policy_loss", "losses.policy_loss is neither a function nor a setting"),
        ("k4", "k4 is neither a setting of the algorithm nor a choice of one"),
        ("ratios: token", "the section algorithm has no setting ratios"),
    ],
)
def test_a_wrong_name_is_seen(name: str, sentence: str) -> None:
    assert problems(f"as `{name}` does") == [sentence]


def test_every_setting_of_the_algorithm_is_on_the_page() -> None:
    missing = [
        name for name in AlgorithmSection.model_fields if not re.search(rf"\b{name}\b", TEXT)
    ]
    assert missing == []
